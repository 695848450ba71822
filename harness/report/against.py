"""Candidates against their baselines: what got worse in a sentence each, a forest plot, one row a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.gate import worst
from harness.metrics import METRICS
from harness.model import Comparison, Fidelity, Result, Run, Verdict
from harness.report.data import ReportData
from harness.report.effects import (
    METHOD_MEANINGS,
    METHODS,
    amount,
    bounds_of_change,
    change_of,
    interval_of_change,
    level_of,
    margin_of,
    worsening,
)
from harness.report.figure import Cell, Figure, Mark, Panel, figure, subjects
from harness.report.wording import Badge, fidelity_badge, scope_of, verdict_badge

# A plot reaches as far as its intervals do, but no further than this many of its narrowest margins: beyond it
# the margin itself could no longer be seen. What lies further is an arrow at the edge, with its number.
_MOST_MARGINS = 15
_LEAST_MARGINS = 1.3
# worst first
_SAID = {
    Verdict.FAIL: "worse than its margin allows",
    Verdict.INVALID: "not valid",
    Verdict.INCONCLUSIVE: "can't be told yet",
    Verdict.PASS: "within its margin",
}


@dataclass(frozen=True)
class ComparedRow:
    """One comparison in a table. `leaning` says in words which way its whole interval lies."""

    metric: str
    name: str
    scope: str
    candidate: str
    baseline: str
    change: str
    interval: str
    level: str
    leaning: str
    margin: str
    how: str
    n: str
    fidelity: Badge | None
    verdict: Badge
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """What the comparisons of one model on one device say together."""

    verdict: Badge
    subject: str
    group_id: str
    said: tuple[str, ...]
    baseline: str


@dataclass(frozen=True)
class Against:
    """The section: a word for each model, and what the words for the methods mean."""

    standings: tuple[Standing, ...]
    methods: str


def build_against(data: ReportData) -> Against | None:
    """Return the section; None where nothing was compared."""
    results = [r for r in data.compared if data.stands(r)]
    if not results:
        return None
    used = {_compared(r).method for r in results}
    meanings = "; ".join(f"{METHODS[m]}: {meaning}" for m, meaning in METHOD_MEANINGS.items() if m in used)
    return Against(
        _standings(data, results), f"How they were compared. {meanings[:1].upper()}{meanings[1:]}."
    )


def compared_row(data: ReportData, result: Result) -> ComparedRow:
    """Return one comparison as a table shows it."""
    c = _compared(result)
    again = () if data.stands(result) else ("It was tried again: it decides nothing, and is kept.",)
    return ComparedRow(
        metric=result.metric,
        name=METRICS[result.metric].title,
        scope=scope_of(result, data.runs_by_id.get(result.run_id)),
        candidate=amount(c.candidate, result.unit),
        baseline=amount(c.baseline, result.unit),
        change=change_of(c),
        interval=bounds_of_change(c),
        level=level_of(c),
        leaning=_leaning(c),
        margin=margin_of(result),
        how=METHODS[c.method],
        n=str(c.n) if c.n else "–",
        fidelity=fidelity_badge(result.fidelity),
        verdict=verdict_badge(result.verdict),
        reasons=(*_worth_saying(result), *again),
    )


def _worth_saying(result: Result) -> tuple[str, ...]:
    """Return the reasons; of a row that nothing judges, without the sentences that only repeat the row."""
    if result.verdict is not Verdict.NOT_JUDGED:
        return result.reasons
    return tuple(r for r in result.reasons if not r.endswith("no margin is set for it") and r[:5] != "look ")


def _compared(result: Result) -> Comparison:
    if result.comparison is None:
        raise ValueError(f"{result.metric} of run {result.run_id} is no comparison")
    return result.comparison


def _leaning(c: Comparison) -> str:
    """Return "worse" or "better" where the whole interval lies on that side of no change; else ""."""
    ends = [worsening(c, bound) for bound in (c.low, c.high) if bound is not None]
    shares = [end for end in ends if end is not None]
    if len(shares) < 2 or min(shares) == max(shares) == 0:
        return ""
    return "worse" if min(shares) > 0 else "better" if max(shares) < 0 else ""


# --- what it says ---------------------------------------------------------------------------------


def _standings(data: ReportData, results: Sequence[Result]) -> tuple[Standing, ...]:
    found = []
    for number, (pair, label) in enumerate(subjects(data).items(), 1):
        mine = [r for r in results if (r.model, r.device_name) == pair]
        if not mine:
            continue
        names = " and ".join(dict.fromkeys(_compared(r).baseline_name for r in mine))
        found.append(
            Standing(
                verdict_badge(worst(r.verdict for r in mine)),
                label,
                f"results-{number}",
                tuple(_said(mine)),
                " · ".join(filter(None, (names, *_identities(data, mine)))),
            )
        )
    return tuple(found)


def _said(results: Sequence[Result]) -> list[str]:
    """Return a phrase for each verdict with its metrics; of those without a margin, what moved."""
    lines = []
    for verdict, phrase in _SAID.items():
        mine = [r for r in results if r.verdict is verdict]
        if mine:
            lines.append(f"{phrase}: {_named(mine)}")
    unjudged = [r for r in results if r.verdict is Verdict.NOT_JUDGED]
    if unjudged:
        moved = {way: [r for r in unjudged if _leaning(_compared(r)) == way] for way in ("worse", "better")}
        parts = [f"{way}: {_named(mine)}" for way, mine in moved.items() if mine]
        lines.append("; ".join([f"{len(unjudged)} without a margin", *parts]))
    return lines


def _named(results: Sequence[Result]) -> str:
    return ", ".join(f"{METRICS[r.metric].title} {change_of(_compared(r))}" for r in results)


def _identities(data: ReportData, results: Sequence[Result]) -> list[str]:
    """Return what the runs recorded of the baseline that they met: file and runtime."""
    runs: list[Run] = [data.runs_by_id[i] for i in dict.fromkeys(r.run_id for r in results)]
    digests = dict.fromkeys(str(run.settings.get("baseline_sha256") or "")[:12] for run in runs)
    runtimes = dict.fromkeys(str(run.settings.get("baseline_runtime") or "") for run in runs)
    # a run that needs no clock says only the runtime's name
    named = [n for n in runtimes if n and not any(other.startswith(f"{n}==") for other in runtimes)]
    return [*(f"sha256 {digest}…" for digest in digests if digest), *named]


# --- forest ---------------------------------------------------------------------------------------


def forest(data: ReportData) -> Figure | None:
    """Return the forest plot: a panel for each model, device and fidelity, a row for each metric."""
    results = [r for r in data.compared if data.stands(r)]
    panels, seen = [], []
    for pair, label in subjects(data).items():
        for fidelity in Fidelity:
            mine = [r for r in results if r.fidelity is fidelity and (r.model, r.device_name) == pair]
            marks = tuple(mark for mark in (_mark(data, r) for r in mine) if mark is not None)
            if marks:
                panels.append(_panel(label, fidelity, marks, mine))
                seen.append(fidelity)
    return figure(
        "against-forest",
        "Change by metric",
        "One row a metric: the change with its interval against no change (the line) and its margin (the "
        "short bar). Right is worse, whichever way the metric counts. An arrow at the edge points to what "
        "lies beyond it; grey rows have no margin.",
        seen,
        panels,
        _COLUMNS,
        [_table_row(r) for r in results],
    )


def _span(results: Sequence[Result]) -> tuple[float, float]:
    """Return the x limits in percent."""
    ends = [0.0]
    for r in results:
        c = _compared(r)
        shares = (worsening(c, b) for b in (c.low, c.value, c.high) if b is not None)
        ends += [share for share in shares if share is not None]
    margins = [r.margin for r in results if r.margin]
    least = _LEAST_MARGINS * max(margins, default=0.0)
    most = _MOST_MARGINS * min(margins) if margins else float("inf")
    low = max(min(*ends, -least / 2), -max(most, least))
    high = min(max(*ends, least), max(most, least))
    room = 0.06 * (high - low) or 0.001
    return 100 * (low - room), 100 * (high + room)


def _mark(data: ReportData, result: Result) -> Mark | None:
    c = _compared(result)
    shares = [None if b is None else worsening(c, b) for b in (c.low, c.value, c.high)]
    low, middle, high = shares
    if middle is None and (c.value is not None or result.verdict is Verdict.NOT_JUDGED):
        return None
    ends = sorted(share for share in (low, high) if share is not None)
    x = (middle, *ends) if middle is not None else ()
    scope = scope_of(result, data.runs_by_id.get(result.run_id))
    unjudged = result.verdict is Verdict.NOT_JUDGED
    plain = "" if scope in ("", "single stream") else f", {scope}"
    return Mark(
        f"{METRICS[result.metric].title}{plain}",
        0,
        tuple(100 * share for share in x),
        (),
        limit=None if result.margin is None else 100 * result.margin,
        note=change_of(c) + ("" if unjudged else f" {verdict_badge(result.verdict).mark}"),
        tone=result.verdict.value.lower(),
    )


def _panel(
    label: str,
    fidelity: Fidelity,
    marks: tuple[Mark, ...],
    results: Sequence[Result],
) -> Panel:
    words = [
        f"{METRICS[r.metric].title} {change_of(_compared(r))} ({interval_of_change(_compared(r))}"
        f"{f', margin {margin_of(r)}' if r.margin is not None else ''}): {verdict_badge(r.verdict).word}"
        for r in results
    ]
    return Panel(
        "forest",
        f"{label}, {fidelity}",
        "; ".join(words) + ".",
        f"← better · change, % · worse → ({fidelity})",
        "",
        marks,
        x_span=_span(results),
    )


_COLUMNS = (
    "model", "device", "run_id", "fidelity", "metric", "scenario", "batch_size", "baseline_name", "method",
    "effect", "value", "low", "high", "confidence", "n", "candidate", "baseline", "margin", "verdict",
)  # fmt: skip


def _table_row(r: Result) -> tuple[Cell, ...]:
    c = _compared(r)
    return (
        r.model, r.device_name, r.run_id, c.fidelity.value, r.metric, r.scenario, r.batch_size,
        c.baseline_name, c.method.value, c.effect.value, c.value, c.low, c.high, c.confidence, c.n,
        c.candidate, c.baseline, r.margin, r.verdict.value,
    )  # fmt: skip
