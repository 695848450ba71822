"""Figures of duets, both arms on one axis: distributions, processes, and block by block over time.

Numbers only: plots.py draws. The candidate has its model's style; a hollow mark is the baseline's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.metrics import METRICS
from harness.model import Comparison, Fidelity, Run, Series
from harness.report.data import ReportData
from harness.report.effects import change_of, interval_of_change
from harness.report.figure import (
    Cell,
    Figure,
    Mark,
    Panel,
    curve_points,
    figure,
    floats,
    scale,
    styles,
    subjects,
    thinned,
)
from harness.units import counted, format_quantity

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ARMS = ("candidate", "baseline")
_MAX_STRIPS = 12  # duets of a panel: with more, a pair of strips is too narrow to read
_MAX_STRIP_POINTS = 360  # of a panel, shared among its processes
_MAX_PAIRS = 240  # of a panel: what can be told apart over its width


@dataclass(frozen=True)
class _Duet:
    """A run of duets: latencies of both arms, and what the comparison of medians says."""

    run: Run
    label: str
    style: int
    fidelity: Fidelity
    arms: tuple[Series, Series]  # as in ARMS
    comparison: Comparison | None
    margin: float | None

    def key(self) -> tuple[Cell, ...]:
        return (self.run.model, self.run.device.name, self.run.run_id, self.fidelity.value)


_KEY = ("model", "device", "run_id", "fidelity")


def duet_figures(data: ReportData) -> tuple[Figure | None, ...]:
    """Return what the duets of a session show; None for a figure without numbers."""
    duets = _duets(data)
    return (_ecdf(duets), _processes(duets), _blocks(duets))


def _duets(data: ReportData) -> list[_Duet]:
    labels, style_of = subjects(data), styles(data)
    found = []
    for run in data.runs:
        series = [
            next((s for s in run.series if s.name == "latency_ns" and s.arm == arm and s.values.size), None)
            for arm in ARMS
        ]
        timed = [c for c in run.comparisons if c.metric in METRICS and METRICS[c.metric].kind == "time"]
        if series[0] is None or series[1] is None or not timed:
            continue
        pair = (run.model, run.device.name)
        median = next((c for c in timed if c.metric == "latency_p50_ns"), None)
        margins = [r.margin for r in data.compared if r.run_id == run.run_id and r.comparison == median]
        found.append(
            _Duet(
                run,
                f"{labels.get(pair, run.model)} against {timed[0].baseline_name}",
                style_of.get(pair, 0),
                timed[0].fidelity,
                (series[0], series[1]),
                median,
                margins[0] if margins else None,
            )
        )
    return found


# --- distributions --------------------------------------------------------------------------------


def _ecdf(duets: Sequence[_Duet]) -> Figure | None:
    panels, rows = [], []
    for duet in duets:
        ordered = [np.sort(series.values.astype(np.float64)) for series in duet.arms]
        factor, unit = scale("ns", max(float(np.median(values)) for values in ordered))
        marks, words = [], []
        for arm, values in zip(ARMS, ordered, strict=True):
            keep = curve_points(values.size)
            share = (keep + 1) / values.size
            marks.append(_arm_mark(duet, arm, values[keep] / factor, share))
            p50, p99 = (format_quantity(float(np.percentile(values, q)), "ns", 4) for q in (50, 99))
            words.append(f"{arm}: half are at or under {p50}, 99% at or under {p99}")
            rows += [(*duet.key(), arm, float(v), float(s)) for v, s in zip(values[keep], share, strict=True)]
        panels.append(
            Panel(
                "ecdf_arms",
                duet.label,
                "; ".join(words) + ".",
                f"latency, {unit} ({duet.fidelity})",
                "share of samples",
                tuple(marks),
            )
        )
    return figure(
        "duet-ecdf",
        "Latency of both arms",
        "Share of inferences at or under each latency, all duets of a run together. Side by side both arms "
        "met the same device, so it is the distance between the curves that counts. A long tail leaves the "
        "panel; the data have it.",
        [duet.fidelity for duet in duets],
        panels,
        (*_KEY, "arm", "latency_ns", "share"),
        rows,
    )


def _arm_mark(duet: _Duet, arm: str, x: Any, y: Any) -> Mark:
    return Mark(arm, duet.style, floats(x), floats(y), hollow=arm == "baseline")


# --- processes ------------------------------------------------------------------------------------


def _processes(duets: Sequence[_Duet]) -> Figure | None:
    panels, rows, seen = [], [], []
    for duet in duets:
        numbers = [int(n) for n in np.unique(duet.arms[0].process)]
        shown = len(numbers) <= _MAX_STRIPS
        factor, unit = scale("ns", max(float(np.median(series.values)) for series in duet.arms))
        strips: list[Mark] = []
        medians: dict[str, dict[int, float]] = {arm: {} for arm in ARMS}
        for number in numbers:
            for arm, series, aside in zip(ARMS, duet.arms, (-0.21, 0.21), strict=True):
                values = np.sort(series.values[series.process == number].astype(np.float64))
                if not values.size:
                    continue
                medians[arm][number] = float(np.median(values))
                rows.append((*duet.key(), number, arm, "median", medians[arm][number]))
                if shown:
                    kept = values[thinned(values.size, _MAX_STRIP_POINTS // (2 * len(numbers)), 2)]
                    mark = _arm_mark(duet, arm, kept / factor, (number + 1 + aside,) * kept.size)
                    strips.append(replace(mark, limit=medians[arm][number] / factor))
                    rows += [(*duet.key(), number, arm, "inference", float(v)) for v in kept]
        ladder = [
            _arm_mark(duet, arm, [n + 1 for n in found], [value / factor for value in found.values()])
            for arm, found in medians.items()
        ]
        words = [
            f"{arm}: medians from {format_quantity(min(found.values()), 'ns', 4)} to "
            f"{format_quantity(max(found.values()), 'ns', 4)}"
            for arm, found in medians.items()
            if found
        ]
        panels.append(
            Panel(
                "strip_arms" if shown else "ladder",
                duet.label,
                f"{counted(len(numbers), 'duet')} of fresh processes. {'; '.join(words)}.",
                "duet",
                f"{'latency' if shown else 'median'}, {unit} ({duet.fidelity})",
                tuple(strips if shown else ladder),
            )
        )
        seen.append(duet.fidelity)
    return figure(
        "duet-processes",
        "Both arms by duet",
        "Each duet is a fresh pair of processes: a dot is one inference and a bar a process's median, or, "
        "where there are many duets, a dot is a process's median. Where the step between the arms is the "
        "same in each duet, it is the model's; where it isn't, processes differ more than models. Triangles "
        "at the edge stand for what is slower still.",
        seen,
        panels,
        (*_KEY, "duet", "arm", "of", "latency_ns"),
        rows,
    )


# --- over time ------------------------------------------------------------------------------------


def _blocks(duets: Sequence[_Duet]) -> Figure | None:
    panels, rows, seen = [], [], []
    for duet in duets:
        sides = [_block_medians(series) for series in duet.arms]
        keys = [key for key in sides[0] if key in sides[1] and sides[1][key] > 0]
        if len(keys) < 2:
            continue
        keep = keys[:: 1 + (len(keys) - 1) // _MAX_PAIRS]
        place = {key: position for position, key in enumerate(keys, 1)}
        panels.append(_drift_panel(duet, sides, keep, place))
        panels.append(_ratio_panel(duet, sides, keep, place))
        rows += [
            (*duet.key(), number, pair, sides[0][number, pair], sides[1][number, pair],
             sides[0][number, pair] / sides[1][number, pair])
            for number, pair in keep
        ]  # fmt: skip
        seen.append(duet.fidelity)
    return figure(
        "duet-blocks",
        "Block by block",
        "The first panel of a run: the median of each block, arm by arm, in the order they were run. Drift, "
        "heat and neighbours move both. The second: the change within each pair, in which they cancel; a bar "
        "is a duet's median, the dashed line the margin. Lines break where a new duet begins.",
        seen,
        panels,
        (*_KEY, "duet", "pair", "candidate_ns", "baseline_ns", "ratio"),
        rows,
    )


def _block_medians(series: Series) -> dict[tuple[int, int], float]:
    """Return (duet, pair) → the median of that block in ns, in the order they were run."""
    blocks = np.zeros_like(series.process) if series.block is None else series.block
    order = np.lexsort((blocks, series.process))
    process, block, values = series.process[order], blocks[order], series.values[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, (np.diff(process) != 0) | (np.diff(block) != 0)])
    parts = np.split(values, starts[1:])
    return {
        (int(process[start]), int(block[start])): float(np.median(part))
        for start, part in zip(starts, parts, strict=True)
    }


_Medians = dict[tuple[int, int], float]
_Keys = Sequence[tuple[int, int]]


def _drift_panel(
    duet: _Duet, sides: Sequence[_Medians], keep: _Keys, place: dict[tuple[int, int], int]
) -> Panel:
    factor, unit = scale("ns", max(max(side[key] for key in keep) for side in sides))
    marks, words = [], []
    for arm, side in zip(ARMS, sides, strict=True):
        found = [side[key] for key in keep]
        words.append(
            f"{arm}: block medians from {format_quantity(min(found), 'ns', 4)} to "
            f"{format_quantity(max(found), 'ns', 4)}"
        )
        for number in dict.fromkeys(key[0] for key in keep):
            mine = [key for key in keep if key[0] == number]
            marks.append(_arm_mark(duet, arm, [place[k] for k in mine], [side[k] / factor for k in mine]))
    return Panel(
        "drift",
        duet.label,
        "; ".join(words) + ".",
        "pair of blocks",
        f"block median, {unit} ({duet.fidelity})",
        tuple(marks),
    )


def _ratio_panel(
    duet: _Duet, sides: Sequence[_Medians], keep: _Keys, place: dict[tuple[int, int], int]
) -> Panel:
    marks = []
    for number in dict.fromkeys(key[0] for key in keep):
        mine = [key for key in keep if key[0] == number]
        changes = [100 * (sides[0][key] / sides[1][key] - 1) for key in mine]
        marks.append(Mark(f"duet {number + 1}", duet.style, floats(place[k] for k in mine), tuple(changes)))
    every = np.concatenate([mark.y for mark in marks])
    said = f"{counted(every.size, 'ratio')} within a pair, from {every.min():+.3g}% to {every.max():+.3g}%"
    if duet.comparison is not None:
        told = f"{change_of(duet.comparison)} ({interval_of_change(duet.comparison)})"
        said += f"; over all duets the change is {told}"
    return Panel(
        "pair_ratios",
        f"{duet.label}, ratio",
        f"{said}.",
        "pair of blocks",
        f"change, % ({duet.fidelity})",
        tuple(marks),
        limit=None if duet.margin is None else 100 * duet.margin,
    )
