"""The report's data as the page shows it: texts formatted, lists in order. The template only places them."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from harness.gate import OUTCOME, worst
from harness.metrics import METRICS
from harness.model import Result, Run, Verdict
from harness.report.against import Against, ComparedRow, build_against, compared_row
from harness.report.calibration import Calibrations, build_calibrations
from harness.report.data import ReportData
from harness.report.figure import Figure, subjects
from harness.report.figures import build_figures
from harness.report.glance import Glance, build_glance
from harness.report.palette import style_class, style_mark
from harness.report.plots import draw
from harness.report.provenance import RunView, artifacts, device_facts, kind_of, run_view, session_facts
from harness.report.soak_drawings import size_inches
from harness.report.soak_page import SoakView, build_soaks
from harness.report.validity import Validity, build_validity
from harness.report.wording import (
    MEANINGS,
    UNJUDGED,
    WORDS,
    Badge,
    fidelity_badge,
    interval_of,
    lasted,
    limit_of,
    runtime_of,
    scope_of,
    value_of,
    verdict_badge,
    when,
)
from harness.units import counted


@dataclass(frozen=True)
class Row:
    """One result in the table of its model. `reasons` are shown beneath where there are any."""

    metric: str
    name: str
    scope: str
    value: str
    interval: str
    budget: str
    n: str
    fidelity: Badge | None
    verdict: Badge
    breached: bool  # nothing judges it, and its run's conditions were breached
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The results of one model on one device."""

    id: str
    model: str
    device: str
    subtitle: str
    verdict: Badge
    rows: tuple[Row, ...]
    compared: tuple[ComparedRow, ...]


@dataclass(frozen=True)
class PanelView:
    title: str
    description: str
    svg: str
    verdict: Badge | None
    note: str


@dataclass(frozen=True)
class FigureView:
    id: str
    title: str
    caption: str
    fidelity: tuple[Badge, ...]
    panels: tuple[PanelView, ...]
    legend: tuple[tuple[str, str, str], ...]  # (class, mark, label)
    csv_href: str
    json_href: str
    note: str
    wide: bool  # a panel takes the page's whole width


@dataclass(frozen=True)
class Page:
    title: str
    session: Badge
    session_meaning: str
    tally: str
    release: Badge
    release_meaning: str
    missing: tuple[str, ...]
    release_reasons: tuple[str, ...]
    reasons: tuple[str, ...]
    problems: tuple[str, ...]
    subtitle: str
    virtual: bool
    against: Against | None
    glance: Glance | None
    soaks: tuple[SoakView, ...]
    groups: tuple[Group, ...]
    validity: Validity | None
    calibrations: Calibrations | None
    figures: tuple[FigureView, ...]
    soak_figures: tuple[FigureView, ...]
    runs: tuple[RunView, ...]
    unbudgeted: str
    budgets_toml: str
    further_budgets: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    devices: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    artifacts: tuple[tuple[str, str, str, str], ...]
    plan_json: str


def build_page(data: ReportData) -> Page:
    """Return everything the template places."""
    record = data.record
    soaks, soak_figures = build_soaks(data)
    names = ", ".join(f"{d.name} ({kind_of(d)})" for d in data.devices)
    return Page(
        title=f"{data.verdict.value} · {', '.join(d.name for d in data.devices)} · {record.session_id}",
        session=verdict_badge(data.verdict),
        session_meaning=_session_meaning(data),
        tally=_tally(data.standing, data.exit_code),
        release=verdict_badge(data.release.verdict),
        release_meaning=_release_meaning(data),
        missing=data.release.missing,
        release_reasons=tuple(r for r in data.release.reasons if r not in data.reasons),
        reasons=data.reasons,
        problems=data.problems,
        subtitle=f"{names} · {when(record.started_at)}{lasted(record.started_at, record.finished_at)}",
        virtual=data.has_virtual,
        against=build_against(data),
        glance=build_glance(data),
        soaks=soaks,
        groups=_groups(data),
        validity=build_validity(data.runs),
        calibrations=build_calibrations(data),
        figures=tuple(_figure_view(data, figure) for figure in build_figures(data)),
        soak_figures=tuple(_figure_view(data, figure) for figure in soak_figures),
        runs=tuple(run_view(number, run) for number, run in enumerate(data.runs, 1)),
        unbudgeted=", ".join(data.unbudgeted),
        budgets_toml=data.budgets_toml,
        further_budgets=data.further_budgets,
        facts=session_facts(data),
        devices=tuple((device.name, device_facts(device)) for device in data.devices),
        artifacts=artifacts(data.runs),
        plan_json=json.dumps(record.plan, indent=2, ensure_ascii=False, default=str) if record.plan else "",
    )


# --- verdicts -------------------------------------------------------------------------------------


def _tally(results: Sequence[Result], exit_code: int) -> str:
    counts = {verdict: sum(r.verdict is verdict for r in results) for verdict in Verdict}
    judged = len(results) - counts[Verdict.NOT_JUDGED]
    parts = [
        f"{counts[v]} {WORDS.get(v, v.value)}" for v in Verdict if counts[v] and v is not Verdict.NOT_JUDGED
    ]
    listed = f": {', '.join(parts)}" if parts else ""
    limits = "a budget or a margin" if any(r.comparison for r in results) else "a budget"
    return f"{judged} judged{listed} · {counts[Verdict.NOT_JUDGED]} without {limits} · exit code {exit_code}"


def _session_meaning(data: ReportData) -> str:
    """Return what the session's verdict says; a PASS that no budget stands behind says that."""
    if data.verdict is Verdict.PASS and all(r.verdict is Verdict.NOT_JUDGED for r in data.standing):
        return UNJUDGED
    return MEANINGS[data.verdict]


def _release_meaning(data: ReportData) -> str:
    if data.release.verdict is Verdict.PASS:
        return "Everything that the plan requires was measured, judged and passed."
    meaning = MEANINGS[data.release.verdict]
    if not data.release.missing:
        return meaning
    incomplete = "What the plan requires is not complete:"
    return incomplete if data.release.verdict is Verdict.INVALID else f"{meaning} {incomplete}"


# --- results --------------------------------------------------------------------------------------


def _pairs(data: ReportData) -> list[tuple[str, str]]:
    return list(subjects(data))


def _groups(data: ReportData) -> tuple[Group, ...]:
    groups = []
    for number, (model, device) in enumerate(_pairs(data), 1):
        mine = [r for r in data.results if (r.model, r.device_name) == (model, device)]
        runtimes = dict.fromkeys(runtime_of(r) for r in mine)
        digests = dict.fromkeys(r.artifact_sha256[:12] for r in mine if r.artifact_sha256)
        parts = [device, ", ".join(runtimes), *(f"sha256 {digest}…" for digest in digests)]
        groups.append(
            Group(
                f"results-{number}",
                model,
                device,
                " · ".join(part for part in parts if part),
                verdict_badge(worst(r.verdict for r in mine if data.stands(r))),
                tuple(_row(data, r) for r in mine if r.comparison is None),
                tuple(compared_row(data, r) for r in mine if r.comparison is not None),
            )
        )
    return tuple(groups)


def _row(data: ReportData, result: Result) -> Row:
    run = data.runs_by_id.get(result.run_id)
    row = METRICS.get(result.metric)
    is_outcome = result.metric == OUTCOME
    reasons = _shown_reasons(data, result)
    # of a number that nothing judges, the validity table tells these once for all
    told = [r for r in reasons if _is_breach(run, r)] if result.verdict is Verdict.NOT_JUDGED else []
    return Row(
        metric=f"{result.suite} run" if is_outcome else result.metric,
        name=f"Run of {result.suite}" if is_outcome else row.title if row else result.metric,
        scope=scope_of(result, run),
        value=run.outcome.value.replace("_", " ") if is_outcome and run else grouped(value_of(result)),
        interval=grouped(interval_of(result)),
        budget=grouped(limit_of(result)),
        n=grouped(str(result.n)) if result.n else "–",
        fidelity=fidelity_badge(result.fidelity),
        verdict=verdict_badge(result.verdict),
        breached=bool(told),
        reasons=tuple(reason for reason in reasons if reason not in told),
    )


_LONG_COUNT = re.compile(r"(?<![\d.,])\d{5,}(?![\d.])")


def grouped(text: str) -> str:
    """Return a number's text with its thousands apart from five digits on: 2485545 as 2,485,545."""
    return _LONG_COUNT.sub(lambda match: f"{int(match[0]):,}", text)


def _is_breach(run: Run | None, reason: str) -> bool:
    """Return whether a reason is a breached condition of the run, as `results` words it."""
    breached = [c for c in run.conditions if c.ok is False] if run is not None else []
    return any(reason.startswith(f"{c.name}: {c.observed}, expected") for c in breached)


def _shown_reasons(data: ReportData, result: Result) -> tuple[str, ...]:
    if data.stands(result):
        return result.reasons
    return (*result.reasons, "It was tried again: it decides nothing, and is kept.")


# --- figures --------------------------------------------------------------------------------------


def _figure_view(data: ReportData, figure: Figure) -> FigureView:
    panels = tuple(
        PanelView(
            panel.title,
            panel.description,
            draw(panel, f"{figure.id}-{number}"),
            verdict_badge(panel.verdict) if panel.verdict else None,
            panel.note,
        )
        for number, panel in enumerate(figure.panels, 1)
    )
    shown = {mark.label for panel in figure.panels for mark in panel.marks}
    keys = tuple(
        (style_class(n), style_mark(n), label)
        for n, label in enumerate(subjects(data).values())
        if label in shown
    )
    return FigureView(
        figure.id,
        figure.title,
        figure.caption,
        tuple(badge for f in figure.fidelity if (badge := fidelity_badge(f))),
        panels,
        keys if figure.keyed else (),
        _data_url("text/csv", figure.to_csv()),
        _data_url("application/json", figure.to_json()),
        _note(figure),
        any(size_inches(panel) for panel in figure.panels),
    )


def _note(figure: Figure) -> str:
    """Return what a figure leaves out, so that a page of many models stays small."""
    parts = []
    if figure.left_out:
        parts.append(f"{counted(figure.left_out, 'more panel is', 'more panels are')} in the data only.")
    if figure.every > 1:
        parts.append(f"The data here have one of {figure.every} points; series.parquet of each run has all.")
    return " ".join(parts)


def _data_url(media_type: str, text: str) -> str:
    return (
        f"data:{media_type};charset=utf-8;base64,{b64encode(text.encode('utf-8', 'replace')).decode('ascii')}"
    )
