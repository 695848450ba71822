"""Drawings of two arms on one axis: the candidate in its model's colour, the baseline grey."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.report.drawings import body_end, plain_ticks, spread_dots
from harness.report.figure import Mark, Panel
from harness.report.palette import GRID, INK, MUTED, colour

_ECDF_BODIES = 2.5  # how far the axis reaches, in multiples of what holds 90% of either arm


def _ecdf_arms(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        axes.step([mark.x[0], *mark.x], [0.0, *mark.y], where="post", label=mark.label, **_line(mark))
    axes.set_ylim(0, 1.03)
    low, high = min(mark.x[0] for mark in panel.marks), body_end(panel.marks, _ECDF_BODIES)
    room = 0.06 * (high - low) or max(abs(high), 1e-9) * 0.001
    axes.set_xlim(low - room, high + room)
    plain_ticks(axes, "x")
    _legend(axes)


def _strip_arms(axes: Any, panel: Panel) -> None:
    spread_dots(axes, panel.marks, 0.3, 0.18)
    for mark in dict((mark.label, mark) for mark in panel.marks).values():
        axes.plot(
            [], [], linestyle="none", marker="o", markersize=4, label=mark.label,
            color=MUTED if mark.hollow else colour(mark),
        )  # fmt: skip
    count = round(max(mark.y[0] for mark in panel.marks))
    axes.set_xlim(0.4, count + 0.6)
    axes.set_xticks(range(1, count + 1, 1 + count // 12))
    axes.grid(visible=False, axis="x")
    plain_ticks(axes, "y")
    _legend(axes)


def _ladder(axes: Any, panel: Panel) -> None:
    candidate, baseline = (dict(zip(mark.x, mark.y, strict=True)) for mark in panel.marks)
    for number in candidate.keys() & baseline.keys():
        axes.plot([number] * 2, [candidate[number], baseline[number]], color=GRID, linewidth=1.4, zorder=1)
    for mark in panel.marks:
        axes.plot(
            mark.x, mark.y, linestyle="none", marker="o", markersize=4, label=mark.label,
            color=MUTED if mark.hollow else colour(mark),
        )  # fmt: skip
    axes.margins(x=0.03, y=0.08)
    axes.grid(visible=False, axis="x")
    plain_ticks(axes, "y")
    _legend(axes)


def _drift(axes: Any, panel: Panel) -> None:
    named: set[str] = set()
    for mark in panel.marks:
        axes.plot(mark.x, mark.y, label=None if mark.label in named else mark.label, **_line(mark))
        named.add(mark.label)
    _parts(axes, [mark for mark in panel.marks if mark.label == panel.marks[0].label])
    plain_ticks(axes, "y")
    _legend(axes)


def _ratios(axes: Any, panel: Panel) -> None:
    every = np.concatenate([mark.y for mark in panel.marks])
    low, high = _robust_span(every, panel.limit)
    axes.axhline(0, color=INK, linewidth=0.9)
    if panel.limit is not None:
        axes.axhline(panel.limit, color=INK, linewidth=1.1, linestyle="--")
    for mark in panel.marks:
        x, y = np.array(mark.x), np.array(mark.y)
        axes.plot(
            x, np.clip(y, low, high), linestyle="none", marker="o", markersize=2.6, markeredgewidth=0,
            alpha=0.65, color=colour(mark), clip_on=False,
        )  # fmt: skip
        middle = float(np.median(y))
        axes.plot([x[0], x[-1]], [middle, middle], color=INK, linewidth=1.5)
    axes.set_ylim(low, high)
    _parts(axes, panel.marks)
    plain_ticks(axes, "y")


_MAX_PARTS = 16  # with more, the lines would hide what they part

ARM_KINDS: dict[str, Callable[[Any, Panel], None]] = {
    "ecdf_arms": _ecdf_arms,
    "strip_arms": _strip_arms,
    "ladder": _ladder,
    "drift": _drift,
    "pair_ratios": _ratios,
}


def _line(mark: Mark) -> dict[str, Any]:
    if mark.hollow:
        return {"color": MUTED, "linestyle": (0, (4, 1.5)), "linewidth": 1.3}
    return {"color": colour(mark), "linestyle": "-"}


def _robust_span(values: Any, limit: float | None) -> tuple[float, float]:
    """Return limits that hold all but stray values; those are drawn at the edge."""
    first, last = (float(q) for q in np.percentile(values, (2, 98)))
    ends = [first, last, 0.0, *([] if limit is None else [limit])]
    room = 0.25 * (max(ends) - min(ends)) or 0.01
    return min(ends) - room, max(ends) + room


def _parts(axes: Any, marks: Any) -> None:
    """Draw where one duet ends and the next begins."""
    for before, after in itertools.pairwise(marks if len(marks) <= _MAX_PARTS else []):
        axes.axvline((before.x[-1] + after.x[0]) / 2, color=GRID, linewidth=1.2, zorder=0.5)
    axes.set_xlim(marks[0].x[0] - 0.5, marks[-1].x[-1] + 0.5)
    axes.grid(visible=False, axis="x")


def _legend(axes: Any) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, fontsize=8.5, borderaxespad=0.2,
        handlelength=1.8, labelcolor=MUTED,
    )  # fmt: skip
