"""The validity envelope from scripted readings."""

from __future__ import annotations

import pytest

from harness.measure.envelope import compute_conditions

BEFORE = {"boot_id": "a", "monotonic_ns": 0, "realtime_ns": 10**18, "throttled_bits": None, "load1": 0.1}
AFTER = {
    "boot_id": "a",
    "monotonic_ns": 10**10,
    "realtime_ns": 10**18 + 10**10,
    "throttled_bits": None,
    "load1": 0.2,
}


def line(name, before, after, required=()):
    return next(c for c in compute_conditions(before, after, required) if c.name == name)


def test_a_quiet_run_holds():
    assert all(c.ok is not False for c in compute_conditions(BEFORE, AFTER, ()))


def test_a_reboot_breaks_it():
    assert line("same boot", BEFORE, {**AFTER, "boot_id": "b"}).ok is False


@pytest.mark.parametrize(
    ("step_ns", "ok"), [(0, True), (4 * 10**8, True), (6 * 10**8, False), (-(10**9), False)]
)
def test_a_clock_step_breaks_it(step_ns, ok):
    assert line("wall clock", BEFORE, {**AFTER, "realtime_ns": AFTER["realtime_ns"] + step_ns}).ok is ok


@pytest.mark.parametrize(
    ("before", "after", "ok"),
    [
        (0x0, 0x0, True),
        (0x50000, 0x50000, True),  # happened before this run
        (0x0, 0x40000, False),  # throttled meanwhile
        (0x0, 0x4, False),  # throttled now
        (0x4, 0x0, False),
    ],
)
def test_throttle_bits(before, after, ok):
    found = line("throttling", {**BEFORE, "throttled_bits": before}, {**AFTER, "throttled_bits": after})
    assert found.ok is ok


def test_unseen_evidence_is_invalid_only_where_required():
    assert line("throttling", BEFORE, AFTER).ok is None
    assert line("throttling", BEFORE, AFTER, ("throttle_bits",)).ok is False
    assert line("temp", BEFORE, AFTER, ("temp",)).ok is False
    seen = {"temp_c": {"cpu": 50.0}}
    assert line("temp", {**BEFORE, **seen}, {**AFTER, **seen}, ("temp",)).ok is True
