"""The validity envelope: what was true of the device before and after, and whether numbers may count.

What a device can't show reads "not observable"; it makes a run INVALID only where the device's type
requires that evidence. A breach that any neighbour of the candidate met as well (load, heat, frequency)
invalidates absolute numbers alone: what was taken side by side still compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.model import Condition, Limits, Scope

Reading = Mapping[str, Any]

# wall clock against monotonic, over one run: 0.5 s is NTP's own step threshold's order (128 ms) with room
CLOCK_STEP_S = 0.5
# below this share of its pin a CPU was held back: rounding is under 1%, a Pi 4's step down 7% (chosen)
MIN_OF_PIN_RATIO = 0.95
PIN_ROUNDING = 0.01  # frequencies that hardware counters give are off by some tenths of a percent (chosen)
# of one core, taken by a hypervisor: more than the 2% that its own timer costs a shared host (chosen)
MAX_STEAL_RATIO = 0.05
MAX_MEMORY_PRESSURE_RATIO = 0.1  # PSI, some, avg10, before a run: pages are being won back (chosen)
MAX_SWAP_GROWTH_BYTES = 1 << 20  # some pages of a sleeping daemon say nothing (chosen)
NOT_OBSERVABLE = "not observable"
VIRTUAL = "recorded only: a virtual clock doesn't see it"
RECORDED = "a reading"
QUIET = "End what else runs there (`top` names it), wait some ten seconds, then measure again."
# zones by their driver's name; what is no CPU's (a disk, a power supply) says little of its speed
_CPU_ZONE = re.compile(r"cpu|soc|pkg|core|k10temp|package", re.IGNORECASE)


def compute_conditions(
    before: Reading,
    after: Reading,
    required: Sequence[str],
    *,
    limits: Limits | None = None,
    virtual: bool = False,
    own_cpu_ns: int | None = None,
    cpus: Sequence[int] = (),
    governor: str | None = None,
) -> tuple[Condition, ...]:
    """Return the envelope's lines from the agent's readings around a run.

    `required` names the evidence the device's type asks for: throttle_bits, freq, temp. Without `limits`, and
    on a `virtual` clock, load, heat and memory are recorded and never a breach. `own_cpu_ns` is the CPU time
    of the run itself (None: as the agent counted it), `cpus` those it was pinned to (none: all count),
    `governor` the one that was asked for.
    """
    judged = None if virtual else limits
    recorded = VIRTUAL if virtual else RECORDED
    if own_cpu_ns is None:
        own_cpu_ns = _grown(before, after, "agent_cpu_ns")
    return (
        _same_boot(before, after),
        _clock(before, after),
        _throttling(before, after, "throttle_bits" in required),
        _temperature(before, after, "temp" in required, judged),
        _frequency(before, after, "freq" in required, judged is not None, cpus, governor),
        _load(before, after, judged, recorded),
        _other_load(before, after, judged, recorded, own_cpu_ns, cpus),
        _steal(before, after, judged is not None, recorded),
        _memory(before, after, judged is not None, recorded),
    )


def _same_boot(before: Reading, after: Reading) -> Condition:
    same = before.get("boot_id") == after.get("boot_id")
    return Condition(
        "same boot",
        "yes" if same else "the device restarted meanwhile",
        "yes",
        same,
        "Look at its supply and its kernel log, then measure again.",
    )


def _clock(before: Reading, after: Reading) -> Condition:
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


def _throttling(before: Reading, after: Reading, required: bool) -> Condition:
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


def _spread(name: str, key: str, unit: str, before: Reading, after: Reading, required: bool) -> Condition:
    values = [v for reading in (before, after) for v in (reading.get(key) or {}).values() if v is not None]
    if not values:
        return _unseen(name, "a reading", required)
    low, high = min(values), max(values)
    return Condition(name, f"{low:g} to {high:g}{unit}", "a reading", True)


def _temperature(before: Reading, after: Reading, required: bool, limits: Limits | None) -> Condition:
    """Return the line of all zones; the hottest of the CPU (of any, if none is named so) is the start."""
    line = _spread("temp", "temp_c", " °C", before, after, required)
    zones = {zone: v for zone, v in (before.get("temp_c") or {}).items() if v is not None}
    start = [v for zone, v in zones.items() if _CPU_ZONE.search(zone)] or list(zones.values())
    limit = limits.max_start_temp_c if limits else None
    if limit is None or (required and line.ok is False):
        return line
    expected = f"at most {limit:g} °C at the start"
    if not start:
        return Condition(line.name, NOT_OBSERVABLE, expected, None)
    return Condition(
        line.name,
        f"{max(start):g} °C at the start, {line.observed}",
        expected,
        max(start) <= limit,
        "Let the board cool, or cool it better, then measure again.",
        Scope.ABSOLUTE,
    )


def _frequency(
    before: Reading,
    after: Reading,
    required: bool,
    judged: bool,
    cpus: Sequence[int],
    governor: str | None,
) -> Condition:
    """Return the line of frequency and governor, against the range that the CPUs are held in."""
    line = _spread("freq", "freq_hz", " Hz", before, after, required)
    names = {name for r in (before, after) for name in (r.get("governor") or {}).values()}
    seen = f"{line.observed}, {' and '.join(sorted(names))}" if names else line.observed
    if not judged or (required and line.ok is False):
        return Condition(line.name, seen, line.expected, line.ok, line.remedy)
    wrong = _governor_problems(before, after, cpus, governor)
    wrong += [
        problem
        for when, reading in (("before", before), ("after", after))
        for problem in _pin_problems(reading, when, cpus)
    ]
    expected = "within its pin" + (f", governor {governor}" if governor else "")
    if not wrong:
        return Condition(line.name, seen, expected, line.ok)
    return Condition(
        line.name,
        "; ".join(wrong),
        expected,
        False,
        "Look for heat, a weak supply or another that sets the governor, then measure again.",
        Scope.ABSOLUTE,
    )


def _pin_problems(reading: Reading, when: str, cpus: Sequence[int]) -> list[str]:
    """Return how CPUs that are used run outside the range they are held in."""
    low, high = reading.get("freq_min_hz") or {}, reading.get("freq_max_hz") or {}
    held = reading.get("governor") or {}
    problems = []
    for cpu, freq_hz in _used(reading.get("freq_hz"), cpus):
        bounds = [low.get(cpu), high.get(cpu)]
        if bounds[0] is None or bounds[1] is None:
            continue
        floor = bounds[0] * (1 - PIN_ROUNDING)
        # a CPU that may boost isn't held at its top: what it reaches there is its own affair
        if held.get(cpu) == "performance" and not reading.get("freq_boost"):
            floor = max(floor, bounds[1] * MIN_OF_PIN_RATIO)
        if not floor <= freq_hz <= bounds[1] * (1 + PIN_ROUNDING):
            problems.append(
                f"{cpu} at {freq_hz:g} Hz {when}, its pin is {bounds[0]:g} to {bounds[1]:g}"
                + (f" under {held[cpu]}" if cpu in held else "")
            )
    return problems


def _governor_problems(
    before: Reading, after: Reading, cpus: Sequence[int], governor: str | None
) -> list[str]:
    problems = []
    later = after.get("governor") or {}
    for cpu, name in _used(before.get("governor"), cpus):
        if later.get(cpu, name) != name:
            problems.append(f"{cpu}'s governor went from {name} to {later[cpu]}")
        elif governor is not None and name != governor:
            problems.append(f"{cpu}'s governor is {name}")
    return problems


def _used(by_cpu: Mapping[str, Any] | None, cpus: Sequence[int]) -> Iterable[tuple[str, Any]]:
    """Return the entries of the CPUs that the run was pinned to; of all where it wasn't."""
    names = {f"cpu{number}" for number in cpus}
    return [(cpu, value) for cpu, value in (by_cpu or {}).items() if not names or cpu in names]


def _load(before: Reading, after: Reading, limits: Limits | None, recorded: str) -> Condition:
    """Return the line of what waited for a CPU before the run: its load average and PSI."""
    loads = [f"{r['load1']:.2f}" for r in (before, after) if r.get("load1") is not None]
    seen = f"load average {' before, '.join(loads)} after" if loads else ""
    percent = before.get("psi_cpu_some_avg10")
    if percent is None:
        if not seen:
            return _unseen("load", recorded, False)
        return Condition("load", f"{seen}, pressure {NOT_OBSERVABLE}", recorded, None if limits else True)
    ratio = percent / 100.0
    seen = f"{seen}, " * bool(seen) + f"tasks waited for a CPU {ratio:.0%} of the time before"
    if limits is None:
        return Condition("load", seen, recorded, True)
    limit = limits.max_cpu_pressure_ratio
    ok = ratio <= limit
    return Condition("load", seen, f"at most {limit:.0%} before", ok, QUIET, Scope.ABSOLUTE)


def _other_load(
    before: Reading,
    after: Reading,
    limits: Limits | None,
    recorded: str,
    own_cpu_ns: int | None,
    cpus: Sequence[int],
) -> Condition:
    """Return the line of the CPU time that others used during the run, in units of one core."""
    name = "other load"
    elapsed_ns = _elapsed_ns(before, after)
    busy_ns = _busy_ns(before, after, cpus)
    if busy_ns is None or own_cpu_ns is None or elapsed_ns is None:
        return _unseen(name, recorded, False)
    ratio = max(0, busy_ns - own_cpu_ns) / elapsed_ns
    seen = f"others used {ratio:.0%} of a core"
    if limits is None:
        return Condition(name, seen, recorded, True)
    limit = limits.max_other_busy_ratio
    return Condition(name, seen, f"at most {limit:.0%} of a core", ratio <= limit, QUIET, Scope.ABSOLUTE)


def _busy_ns(before: Reading, after: Reading, cpus: Sequence[int]) -> int | None:
    """Return how long the CPUs in question were busy, by whomever."""
    begin, end = before.get("cpu_busy_ns") or {}, after.get("cpu_busy_ns") or {}
    names = [f"cpu{number}" for number in cpus] or ["total"]
    if not all(name in begin and name in end for name in names):
        return None
    return sum(int(end[name]) - int(begin[name]) for name in names)


def _steal(before: Reading, after: Reading, judged: bool, recorded: str) -> Condition:
    stolen_ns, elapsed_ns = _grown(before, after, "steal_ns"), _elapsed_ns(before, after)
    if stolen_ns is None or elapsed_ns is None:
        return _unseen("steal", recorded, False)
    ratio = stolen_ns / elapsed_ns
    seen = f"a hypervisor took {ratio:.1%} of a core"
    if not judged:
        return Condition("steal", seen, recorded, True)
    return Condition(
        "steal",
        seen,
        f"at most {MAX_STEAL_RATIO:.0%}",
        ratio <= MAX_STEAL_RATIO,
        "Give the virtual machine cores of its own, or measure on a board.",
        Scope.ABSOLUTE,
    )


def _memory(before: Reading, after: Reading, judged: bool, recorded: str) -> Condition:
    """Return the line of want of memory: pressure before the run, swap that filled during it."""
    percent, grown = before.get("psi_memory_some_avg10"), _grown(before, after, "swap_used_bytes")
    seen = []
    if percent is not None:
        seen.append(f"tasks waited for memory {percent / 100.0:.0%} of the time before")
    if grown is not None:
        seen.append(f"swap in use went {grown / 2**20:+.1f} MiB")
    if not seen:
        return _unseen("memory", recorded, False)
    if not judged:
        return Condition("memory", ", ".join(seen), recorded, True)
    ok = (percent or 0.0) / 100.0 <= MAX_MEMORY_PRESSURE_RATIO and (grown or 0) <= MAX_SWAP_GROWTH_BYTES
    return Condition(
        "memory",
        ", ".join(seen),
        f"at most {MAX_MEMORY_PRESSURE_RATIO:.0%} before, swap not growing",
        ok,
        "Free memory there, or use a device with more of it.",
        Scope.ABSOLUTE,
    )


def _grown(before: Reading, after: Reading, key: str) -> int | None:
    """Return by how much a reading grew, None where it isn't there or the device restarted meanwhile."""
    if before.get(key) is None or after.get(key) is None or before.get("boot_id") != after.get("boot_id"):
        return None
    return int(after[key]) - int(before[key])


def _elapsed_ns(before: Reading, after: Reading) -> int | None:
    elapsed = _grown(before, after, "monotonic_ns")
    return elapsed if elapsed is not None and elapsed > 0 else None


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
