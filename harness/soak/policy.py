"""What an event of a soak means: FAIL, INVALID for timing, or a note. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.model import Condition, Fidelity, Measurement, Scope, SoakEvent, SoakSettings, SoakTable
from harness.units import format_duration, how_often

DEFAULT: Mapping[str, str] = {
    "reboot": "fail",  # unplanned ones; a planned one is a note whatever is set
    "crash": "fail",
    "oom": "fail",
    "gave_up": "fail",
    "hardware_error": "fail",
    "alert": "fail",
    # of what is timed
    "throttled": "invalid",
    "governor": "invalid",
    "frequency_capped": "invalid",
}
# events that have a count of their own; others that are to fail share one
_METRICS: Mapping[str, str] = {
    "reboot": "unplanned_reboots",
    "crash": "crashes",
    "oom": "soak_oom_kills",
    "gave_up": "streams_given_up",
    "hardware_error": "hardware_errors",
}
OTHERS = "forbidden_events"
_REMEDIES: Mapping[str, str] = {
    "throttled": "Cool the device, or check its supply; or set soak.policy.throttled.",
    "governor": "Look for who sets it: a service, a power profile, another measurement.",
    "frequency_capped": "Cool the device, look for who caps its clock, or set soak.policy.frequency_capped.",
    "clock_step": "See what sets the device's clock.",
}
# the cut of a planned power cycle is told by the host, whose idea of soak time is an estimate (chosen)
_PLANNED_SLACK_S = 300.0


@dataclass(frozen=True)
class JudgedEvent:
    """An event with what it counts as: "FAIL", "INVALID" or "note"."""

    event: SoakEvent
    judged: str


def judge_events(table: SoakTable, settings: SoakSettings) -> list[JudgedEvent]:
    """Return every event with its judgement, in order of time.

    `alert` is judged by what the table's windows show (`alerts`), so that the host's word of it is a note.
    """
    policy = {**DEFAULT, **settings.policy}
    planned = _planned_reboots(table)
    found = []
    for event in sorted(table.events, key=lambda e: e.t_s):
        word = "note" if event.kind == "alert" else policy.get(event.kind, "note")
        if event in planned:
            word = "note"
        found.append(JudgedEvent(event, "note" if word == "note" else word.upper()))
    return found


def _planned_reboots(table: SoakTable) -> list[SoakEvent]:
    """Return the reboots that the host brought about: each power cut explains one."""
    cuts = [e.t_s for e in table.events if e.kind == "power_cut"]
    found = []
    for event in (e for e in table.events if e.kind == "reboot"):
        if event.details.get("planned") is True:
            found.append(event)
            continue
        gap_s = next((life.gap_s for life in table.lives if life.life == event.life), 0.0)
        earliest = event.t_s - gap_s - _PLANNED_SLACK_S
        mine = [t for t in cuts if earliest <= t <= event.t_s + _PLANNED_SLACK_S]
        if mine:
            cuts.remove(mine[0])
            found.append(event)
    return found


def count_events(
    judged: Sequence[JudgedEvent], settings: SoakSettings, windows: int, unread: str = ""
) -> tuple[Measurement, ...]:
    """Return a count of 0 or more, with a limit of 0, for each kind of event that fails a soak.

    A kind that the policy lets pass is counted without a limit. `unread` says why the kernel's log couldn't
    be read, where hardware errors are told: without one that was seen all the same there is no count then.
    """
    policy = {**DEFAULT, **settings.policy}
    found = []
    for kind, metric in _METRICS.items():
        mine = [j.event for j in judged if j.event.kind == kind and (kind != "reboot" or j.judged != "note")]
        if policy.get(kind) != "fail":
            mine = [j.event for j in judged if j.event.kind == kind]
        limit = 0.0 if policy.get(kind) == "fail" else None
        if kind == "hardware_error" and unread and not mine:
            why = (f"not observable: the kernel's log can't be read ({unread})",)
            found.append(Measurement(metric, None, None, None, windows, Fidelity.MEASURED, reasons=why))
            continue
        found.append(_count(metric, mine, limit, windows))
    others = [j.event for j in judged if j.judged == "FAIL" and j.event.kind not in _METRICS]
    if others:
        found.append(_count(OTHERS, others, 0.0, windows))
    return tuple(found)


def _count(metric: str, events: Sequence[SoakEvent], limit: float | None, windows: int) -> Measurement:
    reasons = (f"the first {describe(events[0])}",) if events else ()
    number = float(len(events))
    return Measurement(
        metric, number, number, number, windows, Fidelity.MEASURED, reasons=reasons, limit=limit
    )


def describe(event: SoakEvent) -> str:
    """Return "at 3.21 h: crash of main: ended by SIGSEGV"."""
    whose = f" of {event.stream}" if event.stream else ""
    text = f": {event.text}" if event.text else ""
    return f"at {format_duration(max(event.t_s, 0.0))}: {event.kind}{whose}{text}"


def _seen(events: Sequence[SoakEvent]) -> str:
    """Return "3 times, the first at 30 s: what it says"; the condition names the kind."""
    first = events[0]
    whose = f" of {first.stream}" if first.stream else ""
    when = f"at {format_duration(max(first.t_s, 0.0))}{whose}"
    text = f": {first.text}" if first.text else ""
    return f"{how_often(len(events))}, {'the first ' if len(events) > 1 else ''}{when}{text}"


def event_conditions(judged: Iterable[JudgedEvent]) -> tuple[Condition, ...]:
    """Return a breached condition for each kind of event that invalidates what is timed."""
    by_kind: dict[str, list[SoakEvent]] = {}
    for j in judged:
        if j.judged == "INVALID":
            by_kind.setdefault(j.event.kind, []).append(j.event)
    return tuple(
        Condition(
            f"soak: {kind}",
            _seen(events),
            "none",
            False,
            _REMEDIES.get(kind, f"See what caused it, or set soak.policy.{kind}."),
            Scope.ABSOLUTE,
        )
        for kind, events in by_kind.items()
    )
