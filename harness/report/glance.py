"""The models of a session side by side: the figures that decide, and their ratio to the variant's base."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.gate import worst
from harness.metrics import ESTIMATES, HIGHER, METRICS
from harness.model import Result
from harness.report.data import ReportData
from harness.report.figure import PLAIN, last, subjects
from harness.report.palette import style_class, style_mark
from harness.report.tradeoff import is_task
from harness.report.wording import Badge, estimate_of, fidelity_badge, runtime_of, value_of, verdict_badge


@dataclass(frozen=True)
class ComparedCell:
    """A number with its ratio to the variant's base, which says in words whether that is better."""

    value: str
    fidelity: Badge | None
    ratio: str = ""
    ratio_css: str = ""
    estimate: str = ""  # of a real board, with its word and band


@dataclass(frozen=True)
class ComparedRow:
    group_id: str
    model: str
    detail: str
    mark: tuple[str, str]  # class and character, as in the figures
    cells: tuple[ComparedCell, ...]
    verdict: Badge


@dataclass(frozen=True)
class Glance:
    columns: tuple[str, ...]
    rows: tuple[ComparedRow, ...]


_COLUMNS = (
    ("Size", "model_size_bytes"),
    ("Latency p50", "latency_p50_ns"),
    ("Latency p99", "latency_p99_ns"),
    ("Peak RSS", "peak_rss_bytes"),
)


def build_glance(data: ReportData) -> Glance | None:
    """Return the table; None where nothing of it was measured. Variants follow their base."""
    pairs = list(subjects(data))
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
        cells = tuple(
            replace(_compared(picked[pair][n], base[n] if base else None), estimate=_estimate(data, pair, n))
            for n in kept
        )
        mine = [r for r in data.results if (r.model, r.device_name) == pair]
        rows.append(
            ComparedRow(
                f"results-{styles[pair] + 1}",
                pair[0],
                " · ".join(filter(None, (_variant(data, pair[0]), runtime_of(mine[0]), pair[1]))),
                (style_class(styles[pair]), style_mark(styles[pair])),
                cells,
                verdict_badge(worst(r.verdict for r in mine if data.stands(r))),
            )
        )
    return Glance(tuple(titles[n] for n in kept), tuple(rows))


def _variant(data: ReportData, model: str) -> str:
    return next((m.variant or "" for m in data.plan.models if m.name == model), "")


def _picked(data: ReportData, pair: tuple[str, str]) -> tuple[Result | None, ...]:
    """Return the result for each column, and the task's figure last."""
    absolute = [r for r in data.absolute if (r.model, r.device_name) == pair]
    mine = [r for r in absolute if r.scenario in PLAIN and r.batch_size == 1]
    found = [last(mine, lambda r, name=name: r.metric == name) for _, name in _COLUMNS]  # type: ignore[misc]
    return (*found, last(mine, is_task))


def _estimate(data: ReportData, pair: tuple[str, str], column: int) -> str:
    """Return what a board is estimated to show in a column; "" where nothing is estimated."""
    name = ESTIMATES.get(_COLUMNS[column][1]) if column < len(_COLUMNS) else None
    mine = [r for r in data.absolute if (r.model, r.device_name) == pair and r.metric == name]
    found = last(mine, lambda r: r.batch_size == 1)
    return estimate_of(found) if found is not None else ""


def _compared(result: Result | None, base: Result | None) -> ComparedCell:
    if result is None:
        return ComparedCell("–", None)
    badge = fidelity_badge(result.fidelity)
    cell = ComparedCell(value_of(result), badge)
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
    same = change == 0 or text in ("1.00×", "+0.00 points", "-0.00 points")
    css = "" if same else "better" if better else "worse"
    return ComparedCell(cell.value, badge, text, css)
