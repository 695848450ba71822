"""Drawings of the scenarios with a schedule: p99 against the rate, frames against their deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.report.drawings import plain_ticks
from harness.report.figure import Panel
from harness.report.palette import INK, MUTED, SURFACE, colour, tone

_MOST_BUDGETS = 4  # a queue that grows without end has any p99: what lies above is drawn at the edge
_LOG_SPAN = 12  # a wider range of values is shown on a log axis


def _rates(axes: Any, panel: Panel) -> None:
    top = _MOST_BUDGETS * panel.limit if panel.limit else max(max(mark.y) for mark in panel.marks) * 1.08
    shade = colour(panel.marks[0])
    x = [mark.x[0] for mark in panel.marks]
    axes.plot(x, [min(mark.y[0], top) for mark in panel.marks], color=shade, linewidth=1, alpha=0.5)
    for mark in panel.marks:
        if len(mark.y) > 1:
            axes.plot(mark.x * 2, [min(y, top) for y in mark.y], color=shade, linewidth=1.2)
        axes.plot(
            mark.x, [min(mark.y[0], top)], linestyle="none", marker="o" if mark.y[0] <= top else "^",
            markersize=6.5, markeredgewidth=1.4, markeredgecolor=shade, clip_on=False,
            markerfacecolor=SURFACE if mark.hollow else shade,
        )  # fmt: skip
    highest = max(min(max(mark.y), top) for mark in panel.marks)
    axes.set_ylim(0, max(highest, panel.limit or 0) * 1.1 or 1)
    _limit_line(axes, panel)
    axes.margins(x=0.06)
    plain_ticks(axes, "both")


def _frames(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        late = mark.tone == "fail"
        axes.plot(
            mark.x, mark.y, linestyle="none", marker="s" if late else "o", markeredgewidth=0,
            markersize=4.2 if late else 2.4, alpha=1 if late else 0.6,
            color=tone(mark) if late else colour(mark),
        )  # fmt: skip
    every = np.concatenate([mark.y for mark in panel.marks])
    highest, lowest = float(every.max()), float(every.min())
    if lowest > 0 and max(highest, panel.limit or 0) / lowest > _LOG_SPAN:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, max(highest, panel.limit or 0) * 1.1 or 1)
        plain_ticks(axes, "y")
    _limit_line(axes, panel)
    axes.margins(x=0.03)


LOAD_KINDS: dict[str, Callable[[Any, Panel], None]] = {"rates": _rates, "frames": _frames}


def _limit_line(axes: Any, panel: Panel) -> None:
    if panel.limit is not None:
        axes.axhline(panel.limit, color=INK, linewidth=1.1, linestyle="--")
        axes.annotate(
            f"{panel.limit:.4g}", (1, panel.limit), (-2, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", fontsize=8, color=MUTED,
        )  # fmt: skip
