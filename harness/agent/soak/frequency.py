"""What holds the CPUs' clocks during a soak: governor and limits at its start, and what becomes of them.

Kernel: admin-guide/pm/cpufreq: one policy for the CPUs that share a clock, frequencies in kHz. A soak sets
none of them; heat lowers `scaling_max_freq` where the kernel's thermal framework cools the CPU.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from ..parsing import Unreadable, parse_integer, read_text
from ..sensors.sensor import folders

Found = Tuple[str, str, Dict[str, Any]]

# Chosen: another governor is told once it has stayed so long. A session that is refused, as a soak runs, may
# have set one for some seconds; and a cap that heat lifts and sets again is one cap.
HELD_NS = 30 * 10**9
# of the limit at the soak's start; the thermal suite's share (docs/power-and-thermal.md, Thermal)
CAPPED_RATIO = 0.95
_POLICIES = "/sys/devices/system/cpu/cpufreq/policy*"


class Policy(NamedTuple):
    """One policy. `cpus` is empty where it doesn't say whose clock it is."""

    governor: str
    min_hz: int
    max_hz: int
    cpus: Tuple[int, ...]

    def to_args(self) -> Dict[str, Any]:
        return {
            "governor": self.governor,
            "min_hz": self.min_hz,
            "max_hz": self.max_hz,
            "cpus": list(self.cpus),
        }


def read_policies(root: str, cpus: Sequence[int] = ()) -> Dict[str, Policy]:
    """Return the policies by name, those of `cpus` alone where any are given. Raises Unreadable for none."""
    found = {os.path.basename(folder): _read_policy(folder) for folder in folders(root, _POLICIES)}
    used = {name: p for name, p in found.items() if not cpus or not p.cpus or set(cpus) & set(p.cpus)}
    if not used:
        raise Unreadable("this device shows no frequency policy of a CPU")
    return used


def _read_policy(folder: str) -> Policy:
    low, high = (
        parse_integer(read_text(folder + "/" + name), name) * 1000
        for name in ("scaling_min_freq", "scaling_max_freq")
    )
    return Policy(read_text(folder + "/scaling_governor"), low, high, _cpus(folder))


def _cpus(folder: str) -> Tuple[int, ...]:
    try:
        return tuple(int(word) for word in read_text(folder + "/affected_cpus").split())
    except (Unreadable, ValueError):
        return ()


def policies_to_args(policies: Dict[str, Policy]) -> Dict[str, Any]:
    """Return policies as a record's `cpufreq` has them."""
    return {name: policy.to_args() for name, policy in policies.items()}


def parse_policies(plain: Any) -> Dict[str, Policy]:
    """Return what `to_args` made of policies; empty where it is something else."""
    try:
        return {
            str(name): Policy(
                str(p["governor"]), int(p["min_hz"]), int(p["max_hz"]), tuple(int(cpu) for cpu in p["cpus"])
            )
            for name, p in plain.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


class FrequencyWatch:
    """Governors and upper limits, against those of the soak's start.

    `now` is what was found when it was made, empty where the device shows none: nothing is watched then, and
    `why_not` says why.
    """

    def __init__(self, read: Callable[[], Dict[str, Policy]]) -> None:
        self.now: Dict[str, Policy] = {}
        self.why_not = ""
        self._read = read
        try:
            self.now = read()
        except Unreadable as error:
            self.why_not = str(error)
        self._other: Dict[str, Tuple[str, int]] = {}  # another governor, and since when
        self._capped_ns: Dict[str, int] = {}  # when a capped policy was seen so last
        self.hold_against(self.now)

    def hold_against(self, start: Dict[str, Policy]) -> None:
        """Compare with what an earlier life has found at the soak's start."""
        self._start = start
        self._governors = {name: policy.governor for name, policy in start.items()}  # as told last

    def look(self, boottime_ns: int) -> List[Found]:
        """Return `governor` for those that are others now, `frequency_capped` and `frequency_uncapped`."""
        if not self._start:
            return []
        try:
            now = self._read()
        except Unreadable:  # the CPU is away for the moment
            return []
        known = {name: policy for name, policy in now.items() if name in self._start}
        return [*self._look_at_governors(known, boottime_ns), *self._look_at_limits(known, boottime_ns)]

    def _look_at_governors(self, now: Dict[str, Policy], boottime_ns: int) -> List[Found]:
        changed = []
        details: Dict[str, Any] = {}
        for name, policy in now.items():
            was = self._governors[name]
            if policy.governor == was:
                self._other.pop(name, None)
                continue
            seen, since_ns = self._other.get(name, ("", 0))
            if seen != policy.governor:
                self._other[name] = policy.governor, boottime_ns
            elif boottime_ns - since_ns >= HELD_NS:
                self._governors[name] = policy.governor
                del self._other[name]
                changed.append("%s from %s to %s" % (_whose(name, policy), was, policy.governor))
                details[name] = {"from": was, "to": policy.governor}
        if not changed:
            return []
        return [("governor", "; ".join(changed), details)]

    def _look_at_limits(self, now: Dict[str, Policy], boottime_ns: int) -> List[Found]:
        capped, lifted = [], []
        details: Dict[str, Any] = {}
        for name, policy in now.items():
            first_hz = self._start[name].max_hz
            if policy.max_hz < CAPPED_RATIO * first_hz:
                if name not in self._capped_ns:
                    details[name] = {"max_hz": policy.max_hz, "start_hz": first_hz}
                    capped.append(
                        "%s at %.0f MHz at most, %.0f at the start"
                        % (_whose(name, policy), policy.max_hz / 1e6, first_hz / 1e6)
                    )
                self._capped_ns[name] = boottime_ns
            elif name in self._capped_ns and boottime_ns - self._capped_ns[name] >= HELD_NS:
                del self._capped_ns[name]
                lifted.append("%s up to %.0f MHz again" % (_whose(name, policy), policy.max_hz / 1e6))
        found: List[Found] = []
        if capped:
            found.append(("frequency_capped", "; ".join(capped), details))
        if lifted:
            found.append(("frequency_uncapped", "; ".join(lifted), {}))
        return found


def _whose(name: str, policy: Policy) -> str:
    if not policy.cpus:
        return name
    first, last = policy.cpus[0], policy.cpus[-1]
    if len(policy.cpus) > 2 and policy.cpus == tuple(range(first, last + 1)):
        return "cpu%d-%d" % (first, last)
    return "cpu%s" % ",".join(str(cpu) for cpu in policy.cpus)
