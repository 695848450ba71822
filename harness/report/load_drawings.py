"""Drawings of the scenarios with a schedule: p99 against the rate, frames against their deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.report.drawings import LOG_SPAN, log_axis, plain_ticks
from harness.report.figure import Panel
from harness.report.palette import INK, MUTED, SURFACE, colour, tone


def _rates(axes: Any, panel: Panel) -> None:
    shade = colour(panel.marks[0])
    axes.plot(
        [m.x[0] for m in panel.marks], [m.y[0] for m in panel.marks], color=shade, linewidth=1, alpha=0.5
    )
    for mark in panel.marks:
        if len(mark.y) > 1:
            axes.plot(mark.x * 2, mark.y, color=shade, linewidth=1.2)
        axes.plot(
            mark.x, [mark.y[0]], linestyle="none", marker="o", markersize=6.5, markeredgewidth=1.4,
            markeredgecolor=shade, markerfacecolor=SURFACE if mark.hollow else shade,
        )  # fmt: skip
    _from_zero(axes, panel)
    _limit_line(axes, panel)
    axes.margins(x=0.06)
    plain_ticks(axes, "x")


def _frames(axes: Any, panel: Panel) -> None:
    for mark in panel.marks:
        late = mark.tone == "fail"
        axes.plot(
            mark.x, mark.y, linestyle="none", marker="s" if late else "o", markeredgewidth=0,
            markersize=4.2 if late else 2.4, alpha=1 if late else 0.6,
            color=tone(mark) if late else colour(mark),
        )  # fmt: skip
    _from_zero(axes, panel)
    _limit_line(axes, panel)
    axes.margins(x=0.03)


LOAD_KINDS: dict[str, Callable[[Any, Panel], None]] = {"rates": _rates, "frames": _frames}


def _from_zero(axes: Any, panel: Panel) -> None:
    """Let the y axis begin at 0, or be logarithmic where a queue that grew leaves the rest no room."""
    every = np.concatenate([mark.y for mark in panel.marks])
    highest, lowest = max(float(every.max()), panel.limit or 0.0), float(every.min())
    if lowest > 0 and highest / lowest > LOG_SPAN:
        log_axis(axes, "y", highest / lowest)
    else:
        axes.set_ylim(0, highest * 1.1 or 1)
        plain_ticks(axes, "y")


def _limit_line(axes: Any, panel: Panel) -> None:
    if panel.limit is not None:
        axes.axhline(panel.limit, color=INK, linewidth=1.1, linestyle="--")
        axes.annotate(
            f"{panel.limit:.4g}", (1, panel.limit), (-2, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", fontsize=8, color=MUTED,
        )  # fmt: skip
