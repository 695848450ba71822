"""A soak as the page shows it: one line, its figures, tables of events and alerts, the runner's cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import StoredRunError
from harness.gate import worst
from harness.model import Run, Verdict
from harness.report.data import ReportData
from harness.report.figure import Figure
from harness.report.soak import Alert, Event, Soak, is_soak, read_soak, series_of
from harness.report.soak_axis import moment_of
from harness.report.soak_drift import drift_figure
from harness.report.soak_heat import heat_figures
from harness.report.soak_timeline import event_anchor, timeline_figure
from harness.report.wording import Badge, verdict_badge
from harness.units import counted, format_duration, format_quantity, format_ratio, noun

_MAX_SHOWN = 40  # events in the table at once; the rest unfold
_MAX_EVENTS = 400  # in the page at all: what was judged is kept first, the figure's data have the rest
_JUDGED = {
    "FAIL": verdict_badge(Verdict.FAIL),
    "INVALID": verdict_badge(Verdict.INVALID),
}
_NOTE = Badge("note", "o-done")


@dataclass(frozen=True)
class EventRow:
    anchor: str
    moment: str
    kind: str
    stream: str
    text: str
    source: str
    judged: Badge


@dataclass(frozen=True)
class AlertRow:
    rule: str
    fired: str
    lasted: str
    worst: str
    aborted: str


@dataclass(frozen=True)
class SoakView:
    """One soak's section. `problem` says why it can't be drawn; all else is empty then."""

    id: str
    title: str
    verdict: Badge
    line: tuple[str, ...] = ()
    compressed: str = ""
    streams: tuple[str, ...] = ()
    problem: str = ""
    figures: tuple[str, ...] = ()  # ids of: coverage and events; the rest follow the tables
    further: tuple[str, ...] = ()
    events: tuple[EventRow, ...] = ()
    more_events: tuple[EventRow, ...] = ()
    more_said: str = ""  # over these
    events_left_out: str = ""
    alerts: tuple[AlertRow, ...] = ()
    not_measured: tuple[tuple[str, str], ...] = ()  # what, why
    cost: tuple[tuple[str, str], ...] = ()


def build_soaks(data: ReportData) -> tuple[tuple[SoakView, ...], tuple[Figure, ...]]:
    """Return the sections of the session's soaks, and their figures for the page to draw."""
    views: list[SoakView] = []
    figures: list[Figure] = []
    for number, (run, title, judged) in enumerate(_titled(data), 1):
        id_, verdict = f"soak-{number}", verdict_badge(judged)
        try:
            soak = read_soak(run)
        except StoredRunError as error:
            views.append(SoakView(id_, title, verdict, problem=str(error)))
            continue
        first = timeline_figure(soak, f"{id_}-timeline", id_)
        drift = drift_figure(run, soak, f"{id_}-drift")
        further = [*([drift] if drift else []), *heat_figures(run, soak, f"{id_}-latency")]
        figures += [first, *further]
        views.append(_view(run, soak, id_, title, verdict, first, further))
    return tuple(views), tuple(figures)


def soak_lines(data: ReportData) -> tuple[tuple[str, Verdict, str], ...]:
    """Return (title, verdict, what it was in one line) of each soak of the session."""
    said = []
    for run, title, verdict in _titled(data):
        try:
            line = " · ".join(_line(run, read_soak(run)))
        except StoredRunError as error:
            line = str(error)
        said.append((title, verdict, line))
    return tuple(said)


def _titled(data: ReportData) -> list[tuple[Run, str, Verdict]]:
    """Return the session's soaks, each with its title and the worst verdict of its results."""
    runs = [run for run in data.runs if is_soak(run)]
    pairs = [(run.model, run.device.name) for run in runs]
    found = []
    for run, pair in zip(runs, pairs, strict=True):
        number = f", run {run.run_id.partition('-')[0]}" if pairs.count(pair) > 1 else ""
        verdict = worst(r.verdict for r in data.results if r.run_id == run.run_id)
        found.append((run, f"Soak of {run.model} on {run.device.name}{number}", verdict))
    return found


def _view(
    run: Run, soak: Soak, id_: str, title: str, verdict: Badge, first: Figure, further: Sequence[Figure]
) -> SoakView:
    events, left_out = _event_rows(soak, id_)
    return SoakView(
        id=id_,
        title=title,
        verdict=verdict,
        line=_line(run, soak),
        compressed=_compressed(run, soak),
        streams=tuple(_stream(soak, n) for n in range(len(soak.streams))),
        figures=(first.id,),
        further=tuple(figure.id for figure in further),
        events=events[:_MAX_SHOWN],
        more_events=events[_MAX_SHOWN:],
        more_said=counted(len(events) - _MAX_SHOWN, "more event") if events[_MAX_SHOWN:] else "",
        events_left_out=f"{counted(left_out, 'more note is', 'more notes are')} in the figure's data only."
        if left_out
        else "",
        alerts=_alert_rows(soak),
        not_measured=tuple((row.what, row.why) for row in soak.not_measured),
        cost=_cost(soak),
    )


# --- one line -------------------------------------------------------------------------------------


def _line(run: Run, soak: Soak) -> tuple[str, ...]:
    calls, errors = _total(run, soak, "calls"), _total(run, soak, "errors")
    if calls is None:
        calls = _counted(run, soak)
    seen = (
        f"{format_duration(soak.observed_s)} observed ({format_ratio(soak.coverage_ratio)})"
        if soak.observed_s > 0
        else "nothing observed"
    )
    said = [
        f"{format_duration(soak.duration_s)} asked",
        seen,
        "compressed time" if soak.compressed else "real time",
        f"{calls:,} {noun(calls, 'call')}" if calls is not None else "calls not counted",
        f"{errors:,} {noun(errors, 'error')}" if errors is not None else "errors not counted",
    ]
    if soak.ended != "duration":
        said.append(f"ended early: {soak.ended}" if soak.ended else "not ended yet")
    return tuple(said)


def _total(run: Run, soak: Soak, kind: str) -> int | None:
    """Return the sum of a kind of channel over all windows and streams; None where none was stored."""
    held = series_of(run)
    names = [c.series for c in soak.channels if c.kind == kind and c.series in held]
    return round(sum(float(np.nansum(held[name].values)) for name in names)) if names else None


def _counted(run: Run, soak: Soak) -> int | None:
    held = series_of(run)
    counts = [held[names.count].values for names in soak.latency if names.count in held]
    return int(sum(int(values.sum()) for values in counts)) if counts else None


def _compressed(run: Run, soak: Soak) -> str:
    if not soak.compressed:
        return ""
    return (
        f"Idle time was skipped: {format_duration(soak.duration_s)} of soak time passed in "
        f"{format_duration(run.duration_s)}. Work between waits ran whole; what depends on real time, "
        "as heat and wear do, isn't shown by it."
    )


def _stream(soak: Soak, number: int) -> str:
    stream = soak.streams[number]
    turns = f"; variants {' → '.join(stream.variants)}" if len(stream.variants) > 1 else ""
    name = f"{stream.name}: " if stream.name != stream.model else ""
    return f"{name}{stream.model}, {stream.cycle}{turns}"


# --- tables ---------------------------------------------------------------------------------------


def _event_rows(soak: Soak, id_: str) -> tuple[tuple[EventRow, ...], int]:
    """Return the events to show, by time, and how many notes were left out."""
    numbered = list(enumerate(soak.events, 1))
    judged = [item for item in numbered if item[1].judged in _JUDGED][:_MAX_EVENTS]
    notes = [item for item in numbered if item[1].judged not in _JUDGED]
    kept = sorted([*judged, *notes[: _MAX_EVENTS - len(judged)]], key=lambda item: (item[1].t_s, item[0]))
    rows = tuple(_event_row(id_, number, event) for number, event in kept)
    return rows, len(numbered) - len(rows)


def _event_row(id_: str, number: int, event: Event) -> EventRow:
    return EventRow(
        event_anchor(id_, number),
        moment_of(event.t_s),
        event.kind.replace("_", " "),
        event.stream or "device",
        event.text,
        event.source,
        _JUDGED.get(event.judged, _NOTE),
    )


def _alert_rows(soak: Soak) -> tuple[AlertRow, ...]:
    return tuple(
        AlertRow(
            alert.rule,
            moment_of(alert.fired_s),
            _held(alert),
            f"{alert.worst:.4g}" if alert.worst is not None else "–",
            "yes" if alert.aborted else "no",
        )
        for alert in sorted(soak.alerts, key=lambda a: a.fired_s)
    )


def _held(alert: Alert) -> str:
    """Return how long an alert held: "3 min"; "2 h, to the end" of one that the soak's end cut off."""
    if alert.cleared_s is not None:
        return format_duration(alert.cleared_s - alert.fired_s)
    if alert.held_to_s is None:
        return "never cleared"
    return f"{format_duration(alert.held_to_s - alert.fired_s)}, to the end"


def _cost(soak: Soak) -> tuple[tuple[str, str], ...]:
    """Return what observing took on the device."""
    cost = soak.runner
    rows = (
        ("CPU of one core", cost.cpu_ratio, "ratio", ""),
        ("memory, at most", cost.rss_bytes_max, "bytes", ""),
        ("written to its disk", cost.spool_bytes_per_day, "bytes", " per day"),
    )
    return tuple(
        (name, _cost_said(value, unit) + after * (value is not None)) for name, value, unit, after in rows
    )


def _cost_said(value: float | None, unit: str) -> str:
    if value is None:
        return "not observable"
    return "under 0.01%" if unit == "ratio" and 0 < value < 1e-4 else format_quantity(value, unit)
