"""What every instrument promises, held against each kind with a real peer behind it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.meters import KINDS, Meter, open_meter

from harness.errors import ConfigError, DataError, DeviceError, HarnessError, TransientError, Unsupported
from harness.instruments.base import select_channels
from harness.instruments.health import describe_problems
from harness.model import Capture, ChannelKind

WINDOW_NS = 150_000_000
LONGER = (1, 4, 16, 64)  # a busy host may not come to a single reading in a window


@pytest.fixture(params=KINDS)
def meter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Meter]:
    with open_meter(request.param, tmp_path) as found:
        yield found


def let_pass(meter: Meter, channel_id: str, window_ns: int = WINDOW_NS) -> None:
    """Read until so much time has passed on the meter's clock; a file's is over already."""
    begin = meter.instrument.read(channel_id).t_ns
    if meter.instrument.channels()[0].clock == "meter":
        return
    while meter.instrument.read(channel_id).t_ns < begin + window_ns:
        time.sleep(0.001)  # the poller must come to its readings too


def capture_of(
    meter: Meter, ids: Sequence[str], *, at_least: int, window_ns: int = WINDOW_NS
) -> tuple[Capture, ...]:
    """Return captures of a window in which `at_least` readings came: a longer one where they didn't."""
    for times in LONGER:
        meter.instrument.start(ids, meter.rate_hz)
        let_pass(meter, ids[0], times * window_ns)
        captures = meter.instrument.stop()
        if all(capture.health.got >= at_least for capture in captures):
            break
    return captures


def errors_within(meter: Meter, channel_id: str, window_ns: int = WINDOW_NS) -> list[HarnessError]:
    """Read until so much of this host's time has passed, and longer where nothing has failed yet; return what
    was raised. At most 1000 readings."""
    errors: list[HarnessError] = []
    begin = time.monotonic_ns()
    for _ in range(1000):
        try:
            meter.instrument.read(channel_id)
        except HarnessError as error:
            errors.append(error)
        if errors and time.monotonic_ns() > begin + window_ns:
            break
        time.sleep(0.002)  # a file that is gone fails within microseconds: the poller must come to it too
    return errors


def test_channels_say_what_they_are(meter: Meter) -> None:
    channels = meter.instrument.channels()
    assert {c.id: c.kind for c in channels} == {id_: kind for id_, (kind, _) in meter.expected.items()}
    assert meter.instrument.name == "meter"
    for channel in channels:
        assert channel.unit == channel.kind.unit
        assert channel.source
        assert channel.clock in ("host", "meter", "device")
        if channel.kind in (ChannelKind.POWER_W, ChannelKind.CURRENT_A):
            assert channel.boundary


def test_one_reading_is_in_the_channels_unit(meter: Meter) -> None:
    for id_, (_, value) in meter.expected.items():
        first, second = meter.instrument.read(id_), meter.instrument.read(id_)
        assert first.value == pytest.approx(value, rel=1e-3)
        assert first.t_ns <= second.t_ns


def test_a_channel_that_is_not_there_is_an_error_with_those_that_are(meter: Meter) -> None:
    with pytest.raises(ConfigError) as caught:
        meter.instrument.read("VDD_GPU")
    assert all(id_ in str(caught.value) for id_ in meter.expected)
    with pytest.raises(ConfigError, match="VDD_GPU"):
        meter.instrument.start(["VDD_GPU"], meter.rate_hz)


def test_a_channel_of_the_wrong_kind_is_an_error_with_those_that_are(meter: Meter) -> None:
    with pytest.raises(Unsupported) as caught:
        select_channels("meter", meter.instrument.channels(), ChannelKind.FAN_RPM)
    assert all(f"{id_} ({kind})" in str(caught.value) for id_, (kind, _) in meter.expected.items())


def test_a_capture_is_whole_and_in_order(meter: Meter) -> None:
    ids = list(meter.expected)
    captures = capture_of(meter, ids, at_least=2)
    assert [c.channel.id for c in captures] == ids
    for capture in captures:
        assert capture.t_ns.dtype == np.int64
        assert capture.values.dtype == np.float64
        assert capture.t_ns.shape == capture.values.shape
        assert capture.health.got == capture.values.size > 1
        assert np.all(np.diff(capture.t_ns) >= 0)
        assert not capture.health.errors
        assert capture.health.rollbacks == capture.health.out_of_range == 0
        assert capture.values == pytest.approx(meter.expected[capture.channel.id][1], rel=1e-3)


def test_it_samples_again_after_a_stop(meter: Meter) -> None:
    first = next(iter(meter.expected))
    for _ in range(2):
        (capture,) = capture_of(meter, [first], at_least=1, window_ns=WINDOW_NS // 3)
        assert capture.health.got > 0


def test_stop_without_start_and_start_twice_are_errors(meter: Meter) -> None:
    first = next(iter(meter.expected))
    with pytest.raises(DeviceError, match="had not begun"):
        meter.instrument.stop()
    meter.instrument.start([first], meter.rate_hz)
    with pytest.raises(DeviceError, match="already"):
        meter.instrument.start([first], meter.rate_hz)
    meter.instrument.stop()


def test_a_rate_that_it_does_not_give_is_refused(meter: Meter) -> None:
    first = next(iter(meter.expected))
    if meter.spec.kind == "csv":  # a file's own rate is known when it is read
        meter.instrument.start([first], 1e6)
        with pytest.raises(Unsupported, match="1000 Hz"):
            meter.instrument.stop()
    else:
        # the channel's own limit, or what a board's sampler keeps up
        with pytest.raises((Unsupported, ConfigError), match=r"Hz|rate_hz"):
            meter.instrument.start([first], 1e6)
    with pytest.raises(ConfigError, match="above 0 Hz"):
        meter.instrument.start([first], 0.0)


def test_close_ends_what_was_begun_and_may_come_twice(meter: Meter) -> None:
    meter.instrument.start([next(iter(meter.expected))], meter.rate_hz)
    meter.instrument.close()
    meter.instrument.close()


# what can't be silenced here: a file is whole or not (test_csv_file), a simulation always answers
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("csv", "scpi-sim")])
def test_a_meter_that_stops_half_way_leaves_its_part_and_says_so(kind: str, tmp_path: Path) -> None:
    for times in LONGER:
        folder = tmp_path / str(times)
        folder.mkdir()
        with open_meter(kind, folder) as meter:
            capture = stopped_half_way(meter, times * WINDOW_NS // 3)
        if capture.health.got:
            break
    health = capture.health
    assert not health.ok
    assert health.expected is not None
    assert 0 < health.got < health.expected
    assert not np.any(capture.values == 0)
    assert math.isnan(capture.values[-1]) or health.gaps
    assert any("readings" in problem for problem in describe_problems(capture))


def stopped_half_way(meter: Meter, window_ns: int) -> Capture:
    """Return a capture in which the meter stopped answering once `window_ns` had passed."""
    assert meter.stop_answering is not None
    first = next(iter(meter.expected))
    meter.instrument.start([first], meter.rate_hz)
    let_pass(meter, first, window_ns)
    meter.stop_answering()
    errors = errors_within(meter, first)
    # a peer is silent or gone; a board's own file isn't there any more
    assert all(isinstance(error, TransientError | DataError) for error in errors)
    assert errors
    assert "meter" in str(errors[0])
    (capture,) = meter.instrument.stop()
    return capture


def test_nonsense_is_an_error_never_a_number(meter: Meter) -> None:
    if meter.talk_nonsense is None:
        assert meter.spec.kind in ("csv", "scpi")
        return
    first = next(iter(meter.expected))
    meter.talk_nonsense()
    with pytest.raises(HarnessError, match=r"expected|is not a number") as caught:
        meter.instrument.read(first)
    assert "devices.board.instruments.meter" in str(caught.value)
    for times in LONGER:
        meter.instrument.start([first], meter.rate_hz)
        assert errors_within(meter, first, times * WINDOW_NS)
        (capture,) = meter.instrument.stop()
        if capture.health.errors:
            break
    assert capture.health.got == 0
    assert np.all(np.isnan(capture.values))
    assert capture.health.errors
