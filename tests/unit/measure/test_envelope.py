"""The validity envelope from scripted readings."""

from __future__ import annotations

import pytest

from harness.measure.envelope import compute_conditions
from harness.model import Limits, Scope

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


# what others do to absolute numbers

SECOND = 10**9
QUIET_BEFORE = {
    **BEFORE,
    "psi_cpu_some_avg10": 2.0,
    "psi_memory_some_avg10": 0.0,
    "cpu_busy_ns": {"total": 100 * SECOND, "cpu0": 40 * SECOND, "cpu3": 60 * SECOND},
    "agent_cpu_ns": 1 * SECOND,
    "steal_ns": 0,
    "swap_used_bytes": 5 << 20,
    "temp_c": {"thermal_zone0:cpu-thermal": 48.0, "hwmon1:nvme:temp1": 71.0},
    "freq_hz": {"cpu0": 1_500_000_000, "cpu3": 1_500_000_000},
    "freq_min_hz": {"cpu0": 600_000_000, "cpu3": 600_000_000},
    "freq_max_hz": {"cpu0": 1_500_000_000, "cpu3": 1_500_000_000},
    "freq_boost": None,
    "governor": {"cpu0": "performance", "cpu3": "performance"},
}
QUIET_AFTER = {
    **QUIET_BEFORE,
    **{key: AFTER[key] for key in ("monotonic_ns", "realtime_ns", "load1")},
    "cpu_busy_ns": {"total": 111 * SECOND, "cpu0": 42 * SECOND, "cpu3": 69 * SECOND},
    "agent_cpu_ns": 10 * SECOND,  # 9 of the 11 busy seconds were the run's own: others used 20% of a core
}


def judged(name, before=None, after=None, *, limits=None, **options):
    conditions = compute_conditions(
        {**QUIET_BEFORE, **(before or {})},
        {**QUIET_AFTER, **(after or {})},
        options.pop("required", ()),
        limits=limits or Limits(),
        **options,
    )
    return next(c for c in conditions if c.name == name)


NOISE = [
    ("load", {"psi_cpu_some_avg10": 31.0}, {}),
    ("other load", {}, {"cpu_busy_ns": {"total": 115 * SECOND}}),
    ("steal", {}, {"steal_ns": SECOND}),
    ("memory", {"psi_memory_some_avg10": 11.0}, {}),
    ("memory", {}, {"swap_used_bytes": 7 << 20}),
    ("freq", {}, {"freq_hz": {"cpu0": 1_400_000_000, "cpu3": 1_500_000_000}}),
    ("freq", {}, {"freq_hz": {"cpu0": 1_500_000_000, "cpu3": 1_800_000_000}}),
    ("freq", {}, {"governor": {"cpu0": "ondemand", "cpu3": "performance"}}),
]


def test_a_quiet_board_is_within_its_limits():
    conditions = compute_conditions(QUIET_BEFORE, QUIET_AFTER, ("freq", "temp"), limits=Limits())
    assert [c.name for c in conditions if c.ok is not True] == ["throttling"]
    assert all(c.ok is None for c in conditions if c.name == "throttling")


@pytest.mark.parametrize(("name", "before", "after"), NOISE)
def test_what_disturbs_breaches_absolute_numbers_alone(name, before, after):
    found = judged(name, before, after)
    assert found.ok is False
    assert found.scope is Scope.ABSOLUTE
    assert found.remedy
    assert found.observed != found.expected


@pytest.mark.parametrize(("name", "before", "after"), NOISE)
def test_on_a_virtual_clock_it_is_recorded(name, before, after):
    assert judged(name, before, after, virtual=True).ok is True


@pytest.mark.parametrize(("name", "before", "after"), NOISE)
def test_without_limits_it_is_recorded(name, before, after):
    assert line(name, {**QUIET_BEFORE, **before}, {**QUIET_AFTER, **after}).ok is True


@pytest.mark.parametrize("change", [{"boot_id": "b"}, {"realtime_ns": 0}, {"throttled_bits": 4}])
def test_what_breaks_a_comparison_as_well(change):
    before = {**QUIET_BEFORE, "throttled_bits": 0}
    conditions = compute_conditions(before, {**QUIET_AFTER, "throttled_bits": 0, **change}, (), virtual=True)
    assert [c.scope for c in conditions if c.ok is False] == [Scope.ALL]


def test_what_others_used_is_what_the_run_did_not():
    assert judged("other load").observed == "others used 20% of a core"
    assert judged("other load", own_cpu_ns=11 * SECOND).observed == "others used 0% of a core"
    assert judged("other load", own_cpu_ns=12 * SECOND).observed == "others used 0% of a core"  # ticks round
    assert judged("other load", own_cpu_ns=5 * SECOND).ok is False


def test_only_the_cpus_of_a_pinned_run_count():
    assert judged("other load", cpus=[3], own_cpu_ns=9 * SECOND).observed == "others used 0% of a core"
    slow = {"freq_hz": {"cpu0": 600_000_000, "cpu3": 1_500_000_000}}
    assert judged("freq", slow, cpus=[3]).ok is True
    assert judged("freq", slow, cpus=[0]).ok is False


def test_limits_are_those_of_the_device():
    assert judged("load", {"psi_cpu_some_avg10": 31.0}, limits=Limits(max_cpu_pressure_ratio=0.4)).ok is True
    busy = {"cpu_busy_ns": {"total": 115 * SECOND}}
    assert judged("other load", after=busy, limits=Limits(max_other_busy_ratio=0.7)).ok is True


def test_a_board_that_starts_too_hot():
    cool, warm = Limits(max_start_temp_c=50.0), Limits(max_start_temp_c=45.0)
    assert judged("temp", limits=cool).ok is True  # its disk's 71 degrees are no matter
    found = judged("temp", limits=warm)
    assert (found.ok, found.scope) == (False, Scope.ABSOLUTE)
    assert found.observed == "48 °C at the start, 48 to 71 °C"
    assert judged("temp", {"temp_c": None}, limits=warm).ok is None
    assert judged("temp", {"temp_c": {"hwmon1:lm75:temp1": 46.0}}, limits=warm).ok is False


def test_required_evidence_that_is_missing_breaks_more_than_absolute_numbers():
    found = judged(
        "temp", {"temp_c": None}, {"temp_c": None}, limits=Limits(max_start_temp_c=45.0), required=("temp",)
    )
    assert (found.ok, found.scope) == (False, Scope.ALL)


def test_a_cpu_that_may_boost_is_not_held_at_its_top():
    below = {"freq_hz": {"cpu0": 1_300_000_000, "cpu3": 1_300_000_000}}
    assert judged("freq", {**below, "freq_boost": True}, {**below, "freq_boost": True}).ok is True
    assert judged("freq", {**below, "freq_boost": False}, {**below, "freq_boost": False}).ok is False


def test_a_governor_that_was_asked_for():
    assert judged("freq", governor="performance").ok is True
    found = judged("freq", governor="powersave")
    assert found.ok is False
    assert "cpu0's governor is performance" in found.observed


def test_readings_that_a_device_lacks_are_not_observable():
    bare = {"boot_id": "a", "monotonic_ns": 0, "realtime_ns": 0}
    conditions = compute_conditions(bare, {**bare, "monotonic_ns": 5, "realtime_ns": 5}, (), limits=Limits())
    assert {c.name for c in conditions if c.ok is None} == {
        "throttling",
        "temp",
        "freq",
        "load",
        "other load",
        "steal",
        "memory",
    }


def test_after_a_reboot_counters_say_nothing():
    after = {"boot_id": "b", "cpu_busy_ns": {"total": 3}, "steal_ns": 0, "monotonic_ns": 7}
    assert judged("other load", after=after).ok is None
    assert judged("steal", after=after).ok is None
