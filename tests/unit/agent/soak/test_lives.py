"""Where soak time stands at a life's start: by which clock the gap is known, and what isn't believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.agent.soak.folder import SoakFolder
from harness.agent.soak.lives import MAX_GAP_NS, Clocks, begin_life, find_gap
from harness.agent.soak.spool import End

S = 10**9
REAL = 1_700_000_000 * S
# the life before began at soak time 100 s, 500 s after its boot; its last record reaches soak time 160 s
BEFORE: dict[str, Any] = {
    "t_ns": 100 * S,
    "boottime_ns": 500 * S,
    "realtime_minus_boottime_ns": REAL,
    "boot_id": "one",
    "life": 1,
}


def end(t_ns: int = 160 * S) -> End:
    found = End()
    found.take({"k": "window", "seq": 9, "life": 1, "t1_ns": t_ns})
    return found


def test_the_first_life_has_no_gap() -> None:
    assert find_gap(End(), {}, Clocks("one", 5 * S, REAL), False) == (0, "start")


def test_the_same_boot() -> None:
    # the last record ended at 560 s of boot time
    assert find_gap(end(), BEFORE, Clocks("one", 600 * S, REAL), False) == (40 * S, "boottime")
    assert find_gap(end(), BEFORE, Clocks("one", 600 * S, 0), True) == (40 * S, "boottime")


@pytest.mark.parametrize(
    ("gap_s", "uptime_s", "compressed", "expected"),
    [
        (90, 20, False, (90 * S, "realtime")),
        (90, 20, True, (20 * S, "uptime")),  # a host skips time as it likes
        (15, 20, False, (20 * S, "uptime")),  # shorter than the boot has lasted
        (-3600, 20, False, (20 * S, "uptime")),  # no battery behind the clock
        (MAX_GAP_NS // S + 1, 20, False, (20 * S, "uptime")),
    ],
)
def test_another_boot(gap_s: int, uptime_s: int, compressed: bool, expected: tuple[int, str]) -> None:
    now = Clocks("two", uptime_s * S, REAL + 560 * S + gap_s * S)
    assert find_gap(end(), BEFORE, now, compressed) == expected


@pytest.mark.parametrize("before", [{}, {"boot_id": "one", "t_ns": "x"}, {**BEFORE, "boottime_ns": None}])
def test_without_the_clocks_of_the_life_before(before: dict[str, Any]) -> None:
    assert find_gap(end(), before, Clocks("one", 600 * S, REAL), False) == (600 * S, "uptime")


def test_a_life_is_written_down_for_the_next(tmp_path: Path) -> None:
    folder = SoakFolder(str(tmp_path), "x")
    (tmp_path / "soak" / "x").mkdir(parents=True)
    first = begin_life(folder, End(), False, Clocks("one", 50 * S, REAL), 11, 22)
    assert (first.number, first.t_ns, first.gap_from, first.epoch_ns) == (1, 0, "start", 50 * S)
    assert first.events() == []
    second = begin_life(folder, end(30 * S), False, Clocks("one", 90 * S, REAL), 12, 23)
    assert (second.number, second.t_ns, second.gap_ns) == (2, 40 * S, 10 * S)
    assert [event for event, _, _ in second.events()] == ["runner_restarted"]
    assert second.epoch_ns == first.epoch_ns
    third = begin_life(folder, end(60 * S), True, Clocks("two", 7 * S, REAL), 13, 24)
    assert (third.t_ns, third.gap_from, third.is_new_boot) == (67 * S, "uptime", True)
    ((event, _, details),) = third.events()
    assert (event, details) == ("reboot", {"planned": None})
    assert third.epoch_ns < 0  # soak time 0 lies before this boot
