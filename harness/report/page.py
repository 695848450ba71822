"""The report's data as the page shows it: texts formatted, lists in order. The template only places them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.gate import OUTCOME, worst
from harness.metrics import HIGHER, METRICS
from harness.model import Condition, DeviceFacts, Fidelity, Result, Run, Verdict
from harness.report.data import ReportData
from harness.report.figure import Figure, last, subjects
from harness.report.figures import build_figures
from harness.report.plots import draw, style_class, style_mark
from harness.report.tradeoff import is_task
from harness.units import format_apart, format_quantity

_MAX_LOG_CHARACTERS = 8_000  # of each run's log, its end; log.txt has the whole


@dataclass(frozen=True)
class Badge:
    """A word with the class that colours it and a mark for those who see no colours."""

    word: str
    css: str
    mark: str = ""


_MARKS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✕",
    Verdict.INCONCLUSIVE: "?",
    Verdict.INVALID: "!",
    Verdict.INFRA_ERROR: "⚡",
    Verdict.NOT_JUDGED: "–",
}
_WORDS = {Verdict.NOT_JUDGED: "not judged", Verdict.INFRA_ERROR: "INFRA ERROR"}
_MEANINGS = {
    Verdict.PASS: "Everything that was judged is within its limits.",
    Verdict.FAIL: "At least one result is beyond its limit.",
    Verdict.INCONCLUSIVE: "At least one interval straddles its limit: more samples are needed.",
    Verdict.INVALID: "The evidence is incomplete or contradicts itself: it says nothing about the model.",
    Verdict.INFRA_ERROR: "The lab failed, not the model. Try again.",
    Verdict.NOT_JUDGED: "Nothing was set to judge it by.",
}


def verdict_badge(verdict: Verdict) -> Badge:
    return Badge(_WORDS.get(verdict, verdict.value), f"v-{verdict.value.lower()}", _MARKS[verdict])


def fidelity_badge(fidelity: Fidelity | None) -> Badge | None:
    return Badge(fidelity.value, f"f-{fidelity.value}") if fidelity else None


@dataclass(frozen=True)
class Row:
    """One result in the table of its model. `reasons` are shown beneath where there are any."""

    metric: str
    name: str
    scope: str
    value: str
    interval: str
    budget: str
    baseline: str
    n: str
    fidelity: Badge | None
    verdict: Badge
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


@dataclass(frozen=True)
class ComparedCell:
    """A number with its ratio to the variant's base, which says in words whether that is better."""

    value: str
    fidelity: Badge | None
    ratio: str = ""
    ratio_css: str = ""


@dataclass(frozen=True)
class ComparedRow:
    group_id: str
    model: str
    detail: str
    mark: tuple[str, str]  # class and character, as in the figures
    cells: tuple[ComparedCell, ...]
    verdict: Badge


@dataclass(frozen=True)
class Comparison:
    columns: tuple[str, ...]
    rows: tuple[ComparedRow, ...]


@dataclass(frozen=True)
class PanelView:
    title: str
    description: str
    svg: str


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


@dataclass(frozen=True)
class ConditionView:
    name: str
    observed: str
    expected: str
    state: Badge
    remedy: str


@dataclass(frozen=True)
class RunView:
    id: str
    run_id: str
    title: str
    attempt: str
    outcome: Badge
    duration: str
    envelope: str
    message: str
    conditions: tuple[ConditionView, ...]
    facts: tuple[tuple[str, str], ...]
    log: str


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
    comparison: Comparison | None
    groups: tuple[Group, ...]
    figures: tuple[FigureView, ...]
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
    names = ", ".join(f"{d.name} ({_kind(d)})" for d in data.devices)
    return Page(
        title=f"{data.verdict.value} · {', '.join(d.name for d in data.devices)} · {record.session_id}",
        session=verdict_badge(data.verdict),
        session_meaning=_MEANINGS[data.verdict],
        tally=_tally(data.results, data.exit_code),
        release=verdict_badge(data.release.verdict),
        release_meaning=_release_meaning(data),
        missing=data.release.missing,
        release_reasons=tuple(r for r in data.release.reasons if r not in data.reasons),
        reasons=data.reasons,
        problems=data.problems,
        subtitle=f"{names} · {when(record.started_at)}{_lasted(record.started_at, record.finished_at)}",
        virtual=data.has_virtual,
        comparison=_comparison(data),
        groups=_groups(data),
        figures=tuple(_figure_view(data, figure) for figure in build_figures(data)),
        runs=tuple(_run_view(number, run) for number, run in enumerate(data.runs, 1)),
        unbudgeted=", ".join(data.unbudgeted),
        budgets_toml=data.budgets_toml,
        further_budgets=data.further_budgets,
        facts=_session_facts(data),
        devices=tuple((device.name, _device_facts(device)) for device in data.devices),
        artifacts=_artifacts(data.runs),
        plan_json=json.dumps(record.plan, indent=2, ensure_ascii=False, default=str) if record.plan else "",
    )


# --- verdicts -------------------------------------------------------------------------------------


def _tally(results: Sequence[Result], exit_code: int) -> str:
    counts = {verdict: sum(r.verdict is verdict for r in results) for verdict in Verdict}
    judged = len(results) - counts[Verdict.NOT_JUDGED]
    parts = [
        f"{counts[v]} {_WORDS.get(v, v.value)}" for v in Verdict if counts[v] and v is not Verdict.NOT_JUDGED
    ]
    listed = f": {', '.join(parts)}" if parts else ""
    return f"{judged} judged{listed} · {counts[Verdict.NOT_JUDGED]} without a budget · exit code {exit_code}"


def _release_meaning(data: ReportData) -> str:
    if data.release.verdict is Verdict.PASS:
        return "Everything that the plan requires was measured, judged and passed."
    if data.release.missing:
        return "What the plan requires is not complete:"
    return _MEANINGS[data.release.verdict]


# --- results --------------------------------------------------------------------------------------


def _pairs(data: ReportData) -> list[tuple[str, str]]:
    return list(subjects(data))


def _groups(data: ReportData) -> tuple[Group, ...]:
    groups = []
    for number, (model, device) in enumerate(_pairs(data), 1):
        mine = [r for r in data.results if (r.model, r.device_name) == (model, device)]
        runtimes = dict.fromkeys(_runtime(r) for r in mine)
        digests = dict.fromkeys(r.artifact_sha256[:12] for r in mine if r.artifact_sha256)
        parts = [device, ", ".join(runtimes), *(f"sha256 {digest}…" for digest in digests)]
        groups.append(
            Group(
                f"results-{number}",
                model,
                device,
                " · ".join(part for part in parts if part),
                verdict_badge(worst(r.verdict for r in mine)),
                tuple(_row(r, data.runs_by_id.get(r.run_id)) for r in mine),
            )
        )
    return tuple(groups)


def _runtime(result: Result) -> str:
    return f"{result.runtime} {result.runtime_version or ''}".strip()


def _row(result: Result, run: Run | None) -> Row:
    row = METRICS.get(result.metric)
    scope = [(result.scenario or "").replace("_", " ")]
    scope.append(
        f"batch {result.batch_size}" if result.batch_size != 1 or result.scenario == "offline" else ""
    )
    scope.append(f"{result.threads} threads" if result.threads > 1 else "")
    scope.append(f"attempt {run.attempt}" if run is not None and run.attempt > 1 else "")
    is_outcome = result.metric == OUTCOME
    return Row(
        metric=f"{result.suite} run" if is_outcome else result.metric,
        name=f"Run of {result.suite}" if is_outcome else row.title if row else result.metric,
        scope=", ".join(part for part in scope if part),
        value=run.outcome.value.replace("_", " ") if is_outcome and run else _quantity(result.value, result),
        interval=_interval(result),
        budget=_limit(result),
        baseline=_baseline(result),
        n=str(result.n) if result.n else "–",
        fidelity=fidelity_badge(result.fidelity),
        verdict=verdict_badge(result.verdict),
        reasons=result.reasons if result.verdict is not Verdict.PASS else (),
    )


def _quantity(value: float | None, result: Result) -> str:
    return format_quantity(value, result.unit)


def _interval(result: Result) -> str:
    if result.low is None and result.high is None:
        return "–"
    if result.low == result.high == result.value:
        return "exact" if result.n == 1 else "no spread"
    low, high = format_apart(result.low, result.high, result.unit)
    return f"{low} – {high}"


def _limit(result: Result) -> str:
    if result.budget is None:
        return "–"
    return f"{'≥' if result.direction == HIGHER else '≤'} {_quantity(result.budget, result)}"


def _baseline(result: Result) -> str:
    if result.baseline is None:
        return "–"
    ratio = f" ({result.ratio:.3f}×)" if result.ratio is not None else ""
    return f"{_quantity(result.baseline, result)}{ratio}"


# --- comparison of variants -----------------------------------------------------------------------

_COLUMNS = (
    ("Size", "model_size_bytes"),
    ("Latency p50", "latency_p50_ns"),
    ("Latency p99", "latency_p99_ns"),
    ("Peak RSS", "peak_rss_bytes"),
)


def _comparison(data: ReportData) -> Comparison | None:
    pairs = _pairs(data)
    picked = {pair: _picked(data, pair) for pair in pairs}
    kept = [n for n in range(len(_COLUMNS) + 1) if any(picked[pair][n] is not None for pair in pairs)]
    if not pairs or not kept:
        return None
    tasks = dict.fromkeys(METRICS[r.metric].title for r in (cells[-1] for cells in picked.values()) if r)
    titles = [*(title for title, _ in _COLUMNS), " / ".join(tasks)]
    bases = {model.name: model.base for model in data.plan.models}
    styles = {pair: number for number, pair in enumerate(pairs)}
    order = sorted(pairs, key=lambda p: (bases.get(p[0]) or p[0], bases.get(p[0]) is not None, p))
    rows = []
    for pair in order:
        base = picked.get((bases.get(pair[0]) or "", pair[1]))
        cells = tuple(_compared(picked[pair][n], base[n] if base else None) for n in kept)
        mine = [r for r in data.results if (r.model, r.device_name) == pair]
        rows.append(
            ComparedRow(
                f"results-{styles[pair] + 1}",
                pair[0],
                " · ".join(filter(None, (_variant(data, pair[0]), _runtime(mine[0]), pair[1]))),
                (style_class(styles[pair]), style_mark(styles[pair])),
                cells,
                verdict_badge(worst(r.verdict for r in mine)),
            )
        )
    return Comparison(tuple(titles[n] for n in kept), tuple(rows))


def _variant(data: ReportData, model: str) -> str:
    return next((m.variant or "" for m in data.plan.models if m.name == model), "")


def _picked(data: ReportData, pair: tuple[str, str]) -> tuple[Result | None, ...]:
    """Return the result for each column, and the task's figure last."""
    mine = [r for r in data.results if (r.model, r.device_name) == pair and r.scenario != "offline"]
    found = [last(mine, lambda r, name=name: r.metric == name) for _, name in _COLUMNS]  # type: ignore[misc]
    return (*found, last(mine, is_task))


def _compared(result: Result | None, base: Result | None) -> ComparedCell:
    if result is None:
        return ComparedCell("–", None)
    badge = fidelity_badge(result.fidelity)
    cell = ComparedCell(_quantity(result.value, result), badge)
    comparable = (
        base is not None
        and base.value
        and result.value is not None
        and (base.metric, base.fidelity, base.runtime, base.runtime_version)
        == (result.metric, result.fidelity, result.runtime, result.runtime_version)
    )
    if not comparable or base is None or not base.value or result.value is None:
        return cell
    if result.unit == "ratio":
        points = (result.value - base.value) * 100
        text, change = f"{points:+.2f} points", points
    else:
        ratio = result.value / base.value
        text, change = f"{ratio:.2f}×", ratio - 1
    better = change > 0 if result.direction == HIGHER else change < 0
    css = "" if change == 0 else "better" if better else "worse"
    return ComparedCell(cell.value, badge, text, css)


# --- figures --------------------------------------------------------------------------------------


def _figure_view(data: ReportData, figure: Figure) -> FigureView:
    panels = tuple(
        PanelView(panel.title, panel.description, draw(panel, f"{figure.id}-{number}"))
        for number, panel in enumerate(figure.panels, 1)
    )
    keys = tuple((style_class(n), style_mark(n), label) for n, label in enumerate(subjects(data).values()))
    return FigureView(
        figure.id,
        figure.title,
        figure.caption,
        tuple(badge for f in figure.fidelity if (badge := fidelity_badge(f))),
        panels,
        keys if figure.keyed else (),
        _data_url("text/csv", figure.to_csv()),
        _data_url("application/json", figure.to_json()),
        f"{figure.left_out} more panels are in the data only." if figure.left_out else "",
    )


def _data_url(media_type: str, text: str) -> str:
    return (
        f"data:{media_type};charset=utf-8;base64,{b64encode(text.encode('utf-8', 'replace')).decode('ascii')}"
    )


# --- runs and provenance --------------------------------------------------------------------------

_OUTCOMES = {
    "completed": Badge("completed", "o-done", "✓"),
    "model_rejected": Badge("model rejected", "v-fail", "✕"),
    "infra_error": Badge("infra error", "v-infra_error", "⚡"),
    "invalid": Badge("invalid", "v-invalid", "!"),
    "skipped": Badge("skipped", "v-not_judged", "–"),
    "interrupted": Badge("interrupted", "v-invalid", "!"),
    "usage_error": Badge("usage error", "v-invalid", "!"),
}
_STATES = {
    True: Badge("ok", "o-done", "✓"),
    False: Badge("violated", "v-fail", "✕"),
    None: Badge("not observable", "v-not_judged", "–"),
}


def _run_view(number: int, run: Run) -> RunView:
    error = f"{run.error.slug}: {run.error.message}" if run.error else run.reason or ""
    retries = f" after {run.error.retries} retries" if run.error and run.error.retries else ""
    return RunView(
        id=f"run-{number}",
        run_id=run.run_id,
        title=" · ".join(filter(None, (_kind_of_run(run), run.model, run.device.name))),
        attempt=f"attempt {run.attempt}",
        outcome=_OUTCOMES[run.outcome.value],
        duration=format_quantity(run.duration_s, "s"),
        envelope=_envelope(run.conditions),
        message=error + retries,
        conditions=tuple(
            ConditionView(c.name, c.observed, c.expected, _STATES[c.ok], c.remedy if c.ok is False else "")
            for c in run.conditions
        ),
        facts=(
            ("test", run.test),
            ("started", when(run.started_at)),
            ("artifact sha256", run.artifact_sha256 or "–"),
            ("runtime", f"{run.runtime} {run.runtime_version or ''}".strip()),
            ("threads", str(run.threads)),
            *((f"setting {key}", _plain(value, key)) for key, value in run.settings.items()),
            *(
                (
                    f"series {s.name}, batch {s.batch_size}",
                    f"{s.values.size} samples, {s.clock or 'no clock'}",
                )
                for s in run.series
            ),
        ),
        log=run.log[-_MAX_LOG_CHARACTERS:],
    )


def _kind_of_run(run: Run) -> str:
    return f"{run.suite}, {run.scenario.replace('_', ' ')}" if run.scenario else run.suite


def _envelope(conditions: Sequence[Condition]) -> str:
    if not conditions:
        return "no conditions recorded"
    counts = [(sum(c.ok is state for c in conditions), _STATES[state].word) for state in (False, True, None)]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _session_facts(data: ReportData) -> tuple[tuple[str, str], ...]:
    record = data.record
    return (
        ("session", record.session_id),
        ("command", " ".join(record.command)),
        ("started", when(record.started_at)),
        ("finished", when(record.finished_at) if record.finished_at else "never"),
        ("plan", record.plan_path or "none"),
        ("harness", record.harness_version),
        *((f"host {key}", _plain(value, key)) for key, value in record.host.items()),
    )


def _device_facts(device: DeviceFacts) -> tuple[tuple[str, str], ...]:
    return (
        ("type", device.type),
        ("kind", _kind(device)),
        ("serial", device.serial or "not observable"),
        ("platform", device.platform),
        *((key, _plain(value, key)) for key, value in device.details.items()),
    )


def _kind(device: DeviceFacts) -> str:
    names: Mapping[str, str] = {"qemu": "emulated", "ssh": "over SSH", "local": "this host"}
    return f"{device.type}, {names.get(device.kind, device.kind)}"


def _artifacts(runs: Iterable[Run]) -> tuple[tuple[str, str, str, str], ...]:
    """Return (model, sha256, runtime, packages) of each distinct combination that was run."""
    rows = dict.fromkeys(
        (
            run.model,
            run.artifact_sha256 or "–",
            f"{run.runtime} {run.runtime_version or ''}".strip(),
            _plain(run.settings.get("runtime_packages", "–")),
        )
        for run in runs
    )
    return tuple(rows)


def _plain(value: Any, name: str = "") -> str:
    """Return a fact in words; a number whose name ends with its unit reads with that unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        for ending, unit in (("_bytes", "bytes"), ("_ns", "ns"), ("_s", "s")):
            if name.endswith(ending):
                return format_quantity(value, unit)
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, str | int | float):
        return str(value)
    return "not known" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def when(stamp: str) -> str:
    """Return an ISO 8601 time as "2026-01-02 03:04:05 UTC"; what is none, as it stands."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    zone = "" if moment.tzinfo is None else " UTC" if not moment.utcoffset() else f" {moment:%z}"
    return f"{moment:%Y-%m-%d %H:%M:%S}{zone}"


def _lasted(started: str, finished: str | None) -> str:
    try:
        seconds = round(
            (datetime.fromisoformat(finished or "") - datetime.fromisoformat(started)).total_seconds()
        )
    except (ValueError, TypeError):
        return ""
    hours, minutes = divmod(seconds // 60, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{seconds % 60} s"]
    return " · " + " ".join(part for part in parts if part)
