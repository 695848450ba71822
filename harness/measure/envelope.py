"""The validity envelope: what was true of the device before and after, and whether numbers may count.

What a device can't show reads "not observable"; it makes a run INVALID only where the device's type
requires that evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.model import Condition

# wall clock against monotonic, over one run: 0.5 s is NTP's own step threshold's order (128 ms) with room
CLOCK_STEP_S = 0.5
NOT_OBSERVABLE = "not observable"


def compute_conditions(
    before: Mapping[str, Any], after: Mapping[str, Any], required: Sequence[str]
) -> tuple[Condition, ...]:
    """Return the envelope's lines from the agent's readings around a run.

    `required` names the evidence the device's type asks for: throttle_bits, freq, temp.
    """
    return (
        _same_boot(before, after),
        _clock(before, after),
        _throttling(before, after, "throttle_bits" in required),
        _spread("temp", "temp_c", " °C", before, after, "temp" in required),
        _spread("freq", "freq_hz", " Hz", before, after, "freq" in required),
        _load(before, after),
    )


def _same_boot(before: Mapping[str, Any], after: Mapping[str, Any]) -> Condition:
    same = before.get("boot_id") == after.get("boot_id")
    return Condition(
        "same boot",
        "yes" if same else "the device restarted meanwhile",
        "yes",
        same,
        "Look at its supply and its kernel log, then measure again.",
    )


def _clock(before: Mapping[str, Any], after: Mapping[str, Any]) -> Condition:
    monotonic = float(after["monotonic_ns"]) - float(before["monotonic_ns"])
    real = float(after["realtime_ns"]) - float(before["realtime_ns"])
    step_s = (real - monotonic) / 1e9
    return Condition(
        "wall clock",
        f"moved {step_s:+.3f} s against the monotonic clock",
        f"within {CLOCK_STEP_S} s",
        abs(step_s) <= CLOCK_STEP_S,
        "Wait until the device's clock is set, then measure again.",
    )


def _throttling(before: Mapping[str, Any], after: Mapping[str, Any], required: bool) -> Condition:
    bits = [reading.get("throttled_bits") for reading in (before, after)]
    expected = "no throttling bit set, now or since the run began"
    if bits[0] is None or bits[1] is None:
        return _unseen("throttling", expected, required)
    # vcgencmd get_throttled: bits 0-3 are now, 16-19 since boot (Raspberry Pi documentation)
    raised = (int(bits[1]) & 0xF) | (int(bits[0]) & 0xF) | ((int(bits[1]) & ~int(bits[0])) & 0xF0000)
    return Condition(
        "throttling",
        f"0x{int(bits[0]):x} before, 0x{int(bits[1]):x} after",
        expected,
        raised == 0,
        "Cool the board or check its supply, then measure again.",
    )


def _spread(
    name: str, key: str, unit: str, before: Mapping[str, Any], after: Mapping[str, Any], required: bool
) -> Condition:
    values = [v for reading in (before, after) for v in (reading.get(key) or {}).values() if v is not None]
    if not values:
        return _unseen(name, "a reading", required)
    low, high = min(values), max(values)
    return Condition(name, f"{low:g} to {high:g}{unit}", "a reading", True)


def _load(before: Mapping[str, Any], after: Mapping[str, Any]) -> Condition:
    loads = [f"{r['load1']:.2f}" for r in (before, after) if r.get("load1") is not None]
    if not loads:
        return _unseen("load", "a reading", False)
    return Condition("load", f"load average {' before, '.join(loads)} after", "a reading", True)


def _unseen(name: str, expected: str, required: bool) -> Condition:
    if required:
        return Condition(
            name,
            NOT_OBSERVABLE,
            expected,
            False,
            "Its type requires this evidence: give the unit a source of it.",
        )
    return Condition(name, NOT_OBSERVABLE, expected, None)
