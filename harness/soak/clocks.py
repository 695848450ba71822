"""What held the CPUs' clocks in a soak: its governors and limits, told beside what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.model import Condition, SoakTable

GOVERNOR_SET = "governor_set"  # of a run's settings: what devices.toml asked for, and what came of it
NOT_SET = "a soak runs under the board's own: nobody would put another back"


def governors_of(table: SoakTable) -> str | None:
    """Return the governors at the soak's start, as "ondemand, schedutil"; None where none was shown."""
    names = {str(policy.get("governor")) for policy in _at_start(table).values()}
    return ", ".join(sorted(names)) or None


def clock_conditions(table: SoakTable, settings: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Return the line of governors and limits, none where the device shows none.

    That it isn't the one which devices.toml asks for (`settings`, the run's) is no breach: a soak sets none,
    and what it compares is its own hours. A change on the way is an event (`policy`).
    """
    policies = _at_start(table)
    if not policies:
        return ()
    seen = "; ".join(_describe(name, policy) for name, policy in policies.items())
    asked = (settings.get(GOVERNOR_SET) or {}).get("asked")
    if asked is None or governors_of(table) == asked:
        return (Condition("soak: clocks", seen, "any, without a change", True),)
    return (
        Condition(
            "soak: clocks",
            f"{seen}; devices.toml asks for {asked}: {NOT_SET}",
            f"governor {asked}",
            None,
            "Have the board set it at its boot.",
        ),
    )


def _at_start(table: SoakTable) -> Mapping[str, Mapping[str, Any]]:
    return next((life.cpufreq for life in table.lives if life.cpufreq), {})


def _describe(name: str, policy: Mapping[str, Any]) -> str:
    """Return "cpu0-3: ondemand, 600 to 1500 MHz"."""
    low, high = (policy.get(key) for key in ("min_hz", "max_hz"))
    held = (
        f", {low / 1e6:.0f} to {high / 1e6:.0f} MHz"
        if isinstance(low, int | float) and isinstance(high, int | float)
        else ""
    )
    return f"{_whose(name, policy.get('cpus') or ())}: {policy.get('governor')}{held}"


def _whose(name: str, cpus: Sequence[int]) -> str:
    if not cpus:
        return name
    whole = list(cpus) == list(range(cpus[0], cpus[-1] + 1)) and len(cpus) > 2
    return f"cpu{cpus[0]}-{cpus[-1]}" if whole else "cpu" + ",".join(str(cpu) for cpu in cpus)
