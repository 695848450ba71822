"""Drawing of several quantities over one time axis, each in a row of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.report.drawings import plain_ticks
from harness.report.figure import Mark, Panel
from harness.report.palette import GRID, TONES, colour, dash
from harness.report.timeline import THROTTLED, TIMELINE, WINDOW

_APART = (THROTTLED, WINDOW)
ROW_INCHES, FRAME_INCHES = 1.05, 0.55


def rows_of(panel: Panel) -> tuple[str, ...]:
    """Return the names of the rows, in their order."""
    return tuple(dict.fromkeys(mark.note for mark in panel.marks if mark.note not in _APART))


def height_inches(panel: Panel) -> float:
    return FRAME_INCHES + ROW_INCHES * max(1, len(rows_of(panel)))


def _timeline(axes: Any, panel: Panel) -> None:
    names = rows_of(panel)
    drawing = axes.figure
    axes.remove()
    every = drawing.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for name, row in zip(names, every, strict=True):
        row.set_ylabel(name)
        row.grid(visible=True)
        for mark in panel.marks:
            if mark.note == WINDOW:
                row.axvspan(*mark.x, color=GRID, alpha=0.7, linewidth=0)
            elif mark.note == THROTTLED:
                row.axvspan(*mark.x, color=TONES["fail"], alpha=0.22, linewidth=0)
        for mark in panel.marks:
            if mark.note != name:
                continue
            if name.startswith("latency"):
                row.plot(mark.x, mark.y, linestyle="none", marker=".", markersize=2.5, color=colour(mark))
            else:
                row.plot(
                    mark.x,
                    mark.y,
                    color=colour(mark),
                    linestyle=dash(mark),
                    linewidth=1.3,
                    label=_short(mark),
                )
        if sum(mark.note == name for mark in panel.marks) > 1:
            # beside the row: over it, it would hide what it names
            row.legend(
                loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False, handlelength=1.4
            )
        row.margins(x=0.01, y=0.12)
        row.locator_params(axis="y", nbins=4)
        row.ticklabel_format(axis="y", useOffset=False, style="plain")
    plain_ticks(every[-1], "x")
    every[-1].set_xlabel(panel.x_label)
    drawing.align_ylabels()


def _short(mark: Mark) -> str:
    """Return the channel's place: its whole name is in the description and in the data."""
    return mark.label.partition(" (")[0]


TIMELINE_KINDS: dict[str, Callable[[Any, Panel], None]] = {TIMELINE: _timeline}
