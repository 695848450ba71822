"""The chamber: set, wait until it holds, run, repeat; over a real socket, on a clock of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.meters import CHAMBER, read_spec, tell
from support.scpi_peer import running_peer

from harness import instruments
from harness.errors import ConfigError, ConnectionLost, DeadlineExceeded, TransientError
from harness.instruments.base import Context
from harness.instruments.chamber import Chamber


class Clock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.slept: list[float] = []

    def read_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_ns += int(seconds * 1e9)


@contextmanager
def opened(
    folder: Path, clock: Clock, port: int, stable_s: float = 20, cap_s: float = 600
) -> Iterator[Chamber]:
    spec = read_spec(folder, CHAMBER.format(port=port, stable_for_s=stable_s, settle_timeout_s=cap_s))
    chamber = instruments.open_instrument(spec, Context(clock_ns=clock.read_ns, sleep=clock.sleep))
    assert isinstance(chamber, Chamber)
    try:
        yield chamber
    finally:
        chamber.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running_peer() as found:
        yield found


@pytest.fixture(autouse=True)
def _in_order(port: int) -> Iterator[None]:
    tell(port, "TEST:MODE ok")
    tell(port, "TEST:AIR 23")
    yield
    tell(port, "TEST:MODE ok")


def test_it_runs_at_each_temperature_once_the_air_holds(tmp_path: Path, port: int) -> None:
    clock = Clock()
    with opened(tmp_path, clock, port) as chamber:
        seen: list[tuple[float, float]] = []

        def run(temp_c: float) -> str:
            seen.append((temp_c, chamber.read("temp_c").value))
            return f"at {temp_c:g}"

        runs = chamber.run_at([-20, 60], run)
        assert seen == [(-20, -20.0), (60, 60.0)]
        assert [(r.asked_temp_c, r.before_temp_c, r.after_temp_c, r.result) for r in runs] == [
            (-20, -20.0, -20.0, "at -20"),
            (60, 60.0, 60.0, "at 60"),
        ]
        # the air moves by 5 °C a look: 43 °C take 9 looks, 80 °C 16, and then it holds for 20 s, 5 s a look
        assert len(clock.slept) == (9 - 1 + 4) + (16 - 1 + 4)
        # it is sent to rest_temp at the end, and nobody waits for it
        assert chamber.wait_until_stable(23.0) == 23.0


def test_a_run_that_fails_leaves_the_chamber_on_its_way_to_rest(tmp_path: Path, port: int) -> None:
    clock = Clock()
    with opened(tmp_path, clock, port) as chamber:

        def run(temp_c: float) -> None:
            raise ConnectionLost("the board went away")

        with pytest.raises(ConnectionLost):
            chamber.run_at([30, 40], run)
        assert chamber.wait_until_stable(23.0) == 23.0


def test_a_temperature_beyond_its_bounds_is_refused_before_anything_moves(tmp_path: Path, port: int) -> None:
    with opened(tmp_path, Clock(), port) as chamber:
        with pytest.raises(ConfigError, match=r"85 °C: not within -20 to 60 °C"):
            chamber.run_at([25, 85], lambda temp_c: None)
        assert chamber.read_temp_c() == 23.0
        with pytest.raises(ConfigError, match="min_temp, max_temp"):
            chamber.set_temp_c(-40)


def test_air_that_does_not_hold_ends_at_the_cap(tmp_path: Path, port: int) -> None:
    expected = r"23.0 °C after 100 s, expected 23 ± 0.5 °C for 5000 s"
    with (
        opened(tmp_path, Clock(), port, stable_s=5000, cap_s=100) as chamber,
        pytest.raises(DeadlineExceeded, match=expected),
    ):
        chamber.wait_until_stable(23.0)


def test_a_chamber_that_falls_silent_ends_the_wait(tmp_path: Path, port: int) -> None:
    with opened(tmp_path, Clock(), port) as chamber:
        tell(port, "TEST:MODE mute")
        with pytest.raises(TransientError, match="no answer"):
            chamber.wait_until_stable(40)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('set_command = "TEMP"', "one place"),
        ('set_command = "TEMP {temp}"', "one place"),
        ('set_command = "TEMP {temp_c:d}"', "one place"),
        ('rest_temp = "80 °C"', "rest_temp"),
        ('tollerance = "1 °C"', "did you mean `tolerance`"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, line: str, what: str) -> None:
    table = f'kind = "chamber"\naddress = "TCPIP::c::5025::SOCKET"\nmin_temp = -20\nmax_temp = 60\n{line}\n'
    with pytest.raises(ConfigError, match=what):
        read_spec(tmp_path, table)
