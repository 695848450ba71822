"""What is wrong with the samples of one capture: gaps, stale values, impossible ones, clocks that go back.

Pure: arrays in, counts out. Whether a capture then counts is the measurement's to judge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.model import Capture, Channel, ChannelKind, Fidelity, Health

# a gap is where at least one sample is missing: two periods between neighbours, and a little for jitter
GAP_PERIODS = 1.9

# What a quantity can't be, in its unit; chosen wide: no board or bench reaches these, glitches do.
RANGES: dict[ChannelKind, tuple[float, float]] = {
    ChannelKind.POWER_W: (-100.0, 4000.0),  # 16 A of 230 V is 3680 W
    ChannelKind.VOLTAGE_V: (-500.0, 500.0),
    ChannelKind.CURRENT_A: (-200.0, 200.0),
    ChannelKind.ENERGY_J: (0.0, np.inf),
    ChannelKind.TEMP_C: (-60.0, 200.0),  # silicon sensors read −55 to 150 °C
    ChannelKind.FREQ_HZ: (0.0, 1e11),
    ChannelKind.THROTTLE_BITS: (0.0, float(2**32 - 1)),
    ChannelKind.LOAD_RATIO: (0.0, 1.0),
    ChannelKind.FAN_RPM: (0.0, 1e5),
}

# A temperature so far from those around it isn't one: silicon warms by some 15 °C at once under load, and
# stays there (chosen). Power may well jump: what one reading of it is worth, the energy's windows say.
SPIKE_C = 20.0
_AROUND = 4  # readings on either side

# How long a live quantity may show the very same number. Chosen: a meter's last digit moves within seconds
# where anything runs. Temperatures in half degrees, clocks, fans and voltages stand still by right.
STALE_S: dict[ChannelKind, float] = {ChannelKind.POWER_W: 30.0, ChannelKind.CURRENT_A: 30.0}


def stale_after_s(channel: Channel) -> float | None:
    """Return after how long the same value counts as stale where nothing says otherwise; None: never.

    A board model's power is the same to the last digit while the board idles.
    """
    return None if channel.fidelity is Fidelity.ESTIMATED else STALE_S.get(channel.kind)


def compute_health(
    channel: Channel,
    t_ns: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    *,
    rate_hz: float | None,
    window_ns: tuple[int, int] | None = None,
    stale_s: float | None = None,
    errors: Sequence[str] = (),
    expected: int | None = None,
) -> Health:
    """Return the health of samples `t_ns`, `values` (n,).

    `rate_hz` is what was asked for, None where samples come when they come: then nothing is expected and no
    gap is counted. `window_ns` is when samples were wanted, on the same clock; without it, from the first
    to the last. `stale_s` None: the kind's default, 0: never. `expected` where it is known better than by
    rate and window.
    """
    good = np.isfinite(values)
    low, high = RANGES[channel.kind]
    known = values[good]
    steps = np.diff(t_ns)
    rollbacks = int(np.count_nonzero(steps < 0))
    if channel.kind is ChannelKind.ENERGY_J:
        rollbacks += int(np.count_nonzero(np.diff(known) < 0))
    gaps = 0
    if rate_hz is not None:
        period_ns = 1e9 / rate_hz
        inside = t_ns[good]
        edges = np.concatenate(([window_ns[0]], inside, [window_ns[1]])) if window_ns else inside
        gaps = int(np.count_nonzero(np.diff(edges) > GAP_PERIODS * period_ns))
        if expected is None and window_ns is not None:
            expected = int((window_ns[1] - window_ns[0]) / period_ns * (1 + 1e-9))
        elif expected is None and t_ns.size:
            expected = round((int(t_ns[-1]) - int(t_ns[0])) / period_ns) + 1
    limit_s = stale_after_s(channel) if stale_s is None else stale_s
    return Health(
        expected=expected,
        got=int(np.count_nonzero(good)),
        gaps=gaps,
        stale=_stale(t_ns[good], known, limit_s) if limit_s else 0,
        out_of_range=int(np.count_nonzero((known < low) | (known > high) | _spikes(channel.kind, known))),
        rollbacks=rollbacks,
        errors=tuple(errors),
    )


def _spikes(kind: ChannelKind, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which readings of a temperature leap away from the median around them and come back."""
    if kind is not ChannelKind.TEMP_C or values.size <= 2 * _AROUND:
        return np.zeros(values.size, dtype=np.bool_)
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(values, _AROUND, mode="reflect"), 2 * _AROUND + 1
    )
    far: npt.NDArray[np.bool_] = np.abs(values - np.median(around, axis=1)) > SPIKE_C
    return far


def _stale(t_ns: npt.NDArray[np.int64], values: npt.NDArray[np.float64], limit_s: float) -> int:
    """Return how many samples repeat a value that had stood for longer than `limit_s`."""
    if values.size < 2:
        return 0
    begins = np.flatnonzero(np.concatenate(([True], np.diff(values) != 0)))
    lengths = np.diff(np.append(begins, values.size))
    since_ns = t_ns - np.repeat(t_ns[begins], lengths)
    return int(np.count_nonzero(since_ns > limit_s * 1e9))


def describe_problems(capture: Capture) -> tuple[str, ...]:
    """Return what is wrong with a capture, a sentence each; () where nothing is."""
    health, name = capture.health, capture.channel.id
    found = []
    if health.got == 0:
        found.append(f"{name}: no reading at all")
    elif health.expected is not None and health.got < health.expected:
        found.append(f"{name}: {health.got} of {health.expected} readings")
    for count, what in (
        (health.gaps, "gaps"),
        (health.stale, "stale readings"),
        (health.out_of_range, "readings that can't be"),
        (health.rollbacks, "steps backwards"),
    ):
        if count:
            found.append(f"{name}: {count} {what}")
    return (*found, *(f"{name}: {error}" for error in health.errors))
