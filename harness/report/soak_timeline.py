"""What was observed of a soak and what happened in it, over soak time. Numbers and words only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.figure import Cell, Figure, Panel
from harness.report.soak import Alert, Event, Soak
from harness.report.soak_axis import TONES, TimeAxis, moment_of, time_axis
from harness.units import counted, format_duration

KIND = "soak-timeline"
_MAX_LANES = 14  # kinds of event with a lane of their own; the rest share one
_COLUMNS = 240  # marks of a lane nearer than this share one
_MAX_ROWS = 3000
_MAX_RULES = 6  # alert rules with a lane of their own
_OTHER = "other"
_RANK = ("FAIL", "INVALID", "note")
_TOLD = 3  # events that a shared mark tells


@dataclass(frozen=True)
class LaneMark:
    """One event, or several that fall together. `end` where it lasted; `href` is the first one's row."""

    start: float
    end: float | None
    tone: str  # "fail", "invalid" or "" for a note
    said: str
    href: str


@dataclass(frozen=True)
class Lane:
    name: str
    marks: tuple[LaneMark, ...]


@dataclass(frozen=True, kw_only=True)
class TimelinePanel(Panel):
    """Times in the axis's unit. `lives` holds (number, begin); `end` is where the soak ended."""

    axis: TimeAxis
    end: float
    gaps: tuple[tuple[float, float], ...]
    gaps_said: tuple[str, ...]
    lives: tuple[tuple[int, float], ...]
    lanes: tuple[Lane, ...]


def event_anchor(soak_id: str, number: int) -> str:
    """Return the id of an event's row in the table, counted from 1."""
    return f"{soak_id}-event-{number}"


def timeline_figure(soak: Soak, id_: str, soak_id: str) -> Figure:
    """Return the figure `id_`: coverage, lives and events of `soak`, over one axis."""
    axis = time_axis(soak.span_s)
    end_s = min(soak.duration_s, max(_last_seen_s(soak), 0.0))
    panel = TimelinePanel(
        KIND,
        "What was observed, and what happened",
        _words(soak),
        f"soak time, {axis.unit}",
        "",
        (),
        axis=axis,
        end=end_s / axis.factor,
        gaps=axis.spans(soak.gaps),
        gaps_said=tuple(
            f"{moment_of(g.start_s)}: {format_duration(g.end_s - g.start_s)} unobserved, {g.why}"
            for g in soak.gaps
        ),
        lives=tuple((life.life, life.start_s / axis.factor) for life in soak.lives),
        lanes=_lanes(soak, axis, soak_id),
    )
    return Figure(
        id_,
        "Coverage and events",
        "The bar is what was observed, red where nothing was; below it each kind of event has a line. Red "
        "squares are judged a failure, purple crosses make the soak invalid, grey dots are notes"
        f"{', grey bars alerts while they held' if soak.alerts else ''}.",
        (),
        (panel,),
        ("what", "start_s", "end_s", "source", "stream", "kind", "judged", "text"),
        _rows(soak),
    )


def _last_seen_s(soak: Soak) -> float:
    """Return where the soak ended: what was observed, and what was missed within it, since it began."""
    missed = sum(gap.end_s - gap.start_s for gap in soak.gaps)
    seen = [soak.observed_s + missed, *(life.start_s for life in soak.lives)]
    return max(seen)


def _words(soak: Soak) -> str:
    gaps = [
        f"{moment_of(g.start_s)} for {format_duration(g.end_s - g.start_s)} ({g.why})" for g in soak.gaps[:6]
    ]
    more = len(soak.gaps) - len(gaps)
    missed = (
        f"Not observed: {'; '.join(gaps)}{f' and {more} more' if more > 0 else ''}." if gaps else "No gaps."
    )
    bad = sum(e.judged in TONES for e in soak.events)
    lives = f"{counted(len(soak.lives), 'life', 'lives')} of the runner"
    return (
        f"{lives}. {missed} {counted(len(soak.events), 'event')}, {bad} of them judged; the table tells each."
    )


def _lanes(soak: Soak, axis: TimeAxis, soak_id: str) -> tuple[Lane, ...]:
    """Return a lane for each kind of event, those with a judged one first, and for each alert rule."""
    by_kind: dict[str, list[tuple[int, Event]]] = {}
    for number, event in enumerate(soak.events, 1):
        by_kind.setdefault(event.kind, []).append((number, event))
    kinds = sorted(by_kind, key=lambda kind: (_worst([e for _, e in by_kind[kind]]), by_kind[kind][0][1].t_s))
    if len(kinds) > _MAX_LANES:
        by_kind[_OTHER] = sorted(
            (item for kind in kinds[_MAX_LANES - 1 :] for item in by_kind[kind]), key=lambda x: x[1].t_s
        )
        kinds = [*kinds[: _MAX_LANES - 1], _OTHER]
    lanes = [Lane(kind.replace("_", " "), _marks(by_kind[kind], axis, soak_id)) for kind in kinds]
    rules = list(dict.fromkeys(alert.rule for alert in soak.alerts))[:_MAX_RULES]
    return (*lanes, *(Lane(rule, _alert_marks(soak, rule, axis, soak_id)) for rule in rules))


def _alert_marks(soak: Soak, rule: str, axis: TimeAxis, soak_id: str) -> tuple[LaneMark, ...]:
    """Return a bar for each time that a rule held."""
    return tuple(
        LaneMark(
            alert.fired_s / axis.factor,
            next((s for s in (alert.cleared_s, alert.held_to_s) if s is not None), axis.span_s) / axis.factor,
            "fail" if alert.aborted else "",
            f"Alert {alert.rule}: from {moment_of(alert.fired_s)}" + _to(alert),
            f"{soak_id}-alerts",
        )
        for alert in soak.alerts
        if alert.rule == rule
    )


def _worst(events: Sequence[Event]) -> int:
    return min(_RANK.index(e.judged) if e.judged in _RANK else len(_RANK) for e in events)


def _marks(events: Sequence[tuple[int, Event]], axis: TimeAxis, soak_id: str) -> tuple[LaneMark, ...]:
    columns: dict[int, list[tuple[int, Event]]] = {}
    for number, event in events:
        columns.setdefault(int(event.t_s / axis.span_s * _COLUMNS), []).append((number, event))
    made = []
    for together in columns.values():
        number, first = min(together, key=lambda item: _worst([item[1]]))
        said = [
            f"{moment_of(e.t_s)}: {e.kind.replace('_', ' ')}{f' of {e.stream}' if e.stream else ''}. {e.text}"
            for _, e in together[:_TOLD]
        ]
        if len(together) > _TOLD:
            said.append(f"and {len(together) - _TOLD} more")
        made.append(
            LaneMark(
                first.t_s / axis.factor,
                None,
                TONES.get(first.judged, ""),
                "\n".join(said),
                event_anchor(soak_id, number),
            )
        )
    return tuple(made)


def _to(alert: Alert) -> str:
    if alert.cleared_s is not None:
        return f" to {moment_of(alert.cleared_s)}"
    if alert.held_to_s is None:
        return ", never cleared"
    return f" to the end, {moment_of(alert.held_to_s)}{', which it brought about' if alert.aborted else ''}"


def _rows(soak: Soak) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[Cell, ...]] = [
        ("life", life.start_s, None, "", "", "life", "", f"life {life.life}, boot {life.boot_id}")
        for life in soak.lives
    ]
    rows += [("gap", gap.start_s, gap.end_s, "", "", "gap", "", gap.why) for gap in soak.gaps]
    rows += [("event", e.t_s, None, e.source, e.stream, e.kind, e.judged, e.text) for e in soak.events]
    rows += [("alert", a.fired_s, a.cleared_s, "", "", "alert", "", a.rule) for a in soak.alerts]
    return tuple(rows[:_MAX_ROWS])
