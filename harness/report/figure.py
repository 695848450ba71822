"""The records of a figure, and what all figures share: labels, scales, thinning. No drawing here.

Tables are in stored units; panels in the units they show.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.model import Fidelity, Result, Verdict
from harness.report.data import ReportData

# Chosen so that a figure stays a few dozen kB: tails are kept whole, bodies thinned evenly by rank. The
# Parquet files beside the report hold every sample.
_MAX_CURVE_POINTS = 240
_TAIL_POINTS = 40
MARKED = (0.5, 0.9, 0.99)  # shares at which an ECDF's lines stand
# A page stays under 5 MB with all figures at their largest: a panel is some 40 kB, a row 200 bytes.
_MAX_PANELS = 16
_MAX_ROWS = 1500

# scenarios whose latency is that of one inference, as it is: what "the latency" of a model means
PLAIN = (None, "single_stream")

Cell = str | int | float | None


@dataclass(frozen=True)
class Mark:
    """One curve, cloud, bar or row. `style` counts from 0 and stands for one model on one device throughout.

    `tone` is a verdict's name where a verdict gives the colour, `note` a text beside the mark.
    """

    label: str
    style: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    hollow: bool = False
    limit: float | None = None
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Panel:
    """One drawing. `kind` names the function in plots.py; `description` says in words what it shows."""

    kind: str
    title: str
    description: str
    x_label: str
    y_label: str
    marks: tuple[Mark, ...]
    x_span: tuple[float, float] | None = None  # limits of the axis where the marks don't give them
    limit: float | None = None  # a budget or deadline, in the unit of its axis
    verdict: Verdict | None = None  # of what it shows; stands in its title
    note: str = ""  # one line under its title
    band_ratio: float | None = None  # of agreement: how far above and below the line the band reaches


@dataclass(frozen=True)
class Figure:
    """Panels under one heading with the table they were drawn from."""

    id: str
    title: str
    caption: str
    fidelity: tuple[Fidelity, ...]
    panels: tuple[Panel, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...] = field(repr=False)
    keyed: bool = False  # whether a legend of models belongs to it
    left_out: int = 0  # panels beyond the cap; the table has them
    every: int = 1  # the table has each so-manieth row

    def to_csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_plain_cell(cell) for cell in row] for row in self.rows)
        return text.getvalue()

    def to_json(self) -> str:
        rows = [[_short(cell) for cell in row] for row in self.rows]
        document = {"figure": self.id, "title": self.title, "columns": self.columns, "rows": rows}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _short(cell: Cell) -> Cell:
    """Return a number without digits that say nothing: a page holds tens of thousands of them."""
    if not isinstance(cell, float) or not math.isfinite(cell):
        return cell
    return int(cell) if cell == int(cell) else float(f"{cell:.9g}")


def _plain_cell(cell: Cell) -> Cell:
    """Return a cell that a spreadsheet won't run: a name that starts like a formula gets a quote in front."""
    cell = _short(cell)
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + cell
    return cell


# --- names ----------------------------------------------------------------------------------------


def subjects(data: ReportData) -> dict[tuple[str, str], str]:
    """Return (model, device) → label, in the order of their styles. One device alone isn't named."""
    several = len(data.devices) > 1
    pairs = dict.fromkeys((result.model, result.device_name) for result in data.results)
    return {pair: f"{pair[0]} on {pair[1]}" if several else pair[0] for pair in pairs}


def styles(data: ReportData) -> dict[tuple[str, str], int]:
    return {pair: number for number, pair in enumerate(subjects(data))}


def last(results: Sequence[Result], wanted: Callable[[Result], bool]) -> Result | None:
    """Return the last result that has a value and is wanted: of several attempts, the one that counts now."""
    return next((r for r in reversed(results) if r.value is not None and wanted(r)), None)


# --- helpers --------------------------------------------------------------------------------------


def figure(
    id_: str,
    title: str,
    caption: str,
    fidelity: Iterable[Fidelity],
    panels: Sequence[Panel],
    columns: tuple[str, ...],
    rows: Sequence[tuple[Cell, ...]],
    *,
    keyed: bool = False,
) -> Figure | None:
    if not panels:
        return None
    present = set(fidelity)
    every = 1 + (len(rows) - 1) // _MAX_ROWS
    return Figure(
        id_,
        title,
        caption,
        tuple(f for f in Fidelity if f in present),
        tuple(panels[:_MAX_PANELS]),
        columns,
        tuple(rows[::every]),
        keyed,
        max(0, len(panels) - _MAX_PANELS),
        every,
    )


def thinned(size: int, most: int = _MAX_CURVE_POINTS, tail: int = _TAIL_POINTS) -> np.ndarray[Any, Any]:
    """Return the indices to keep of `size` sorted samples: the first, an even choice, the whole tail."""
    if size <= most:
        return np.arange(size)
    body = np.linspace(0, size - tail - 1, most - tail).round().astype(int)
    return np.unique(np.concatenate([body, np.arange(size - tail, size)]))


def curve_points(size: int) -> np.ndarray[Any, Any]:
    """Return the indices to keep of `size` sorted samples for an ECDF: thinned, and those at MARKED shares.

    Without these its lines would stand at the next sample that was kept: far off where the tail is steep.
    """
    marked = np.ceil(np.array(MARKED) * size - 1e-9).astype(int) - 1
    kept = thinned(size, _MAX_CURVE_POINTS - len(MARKED))
    return np.union1d(kept, np.clip(marked, 0, size - 1)) if size else kept


def floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


_STEPS = {
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")),
    "ratio": ((0.01, "%"),),
    "1/s": ((1e6, "millions"), (1e3, "thousands"), (1.0, "")),
}


def scale(unit: str, largest: float) -> tuple[float, str]:
    """Return (factor, unit to show) for an axis that reaches `largest` of the stored `unit`."""
    steps = _STEPS.get(unit, ((1.0, ""),))
    return next((step for step in steps if largest >= step[0]), steps[-1])
