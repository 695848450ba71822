"""Rows, their arithmetic and their rendering. Pure: numbers in, text out."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.units import format_ns, format_ratio

HEADINGS = ("what", "ours", "peer or limit", "ratio", "goal", "", "n")


@dataclass(frozen=True)
class Goal:
    """Bounds, both included, of a row's `ratio` or of `ours` in the row's unit."""

    of: str  # "ratio" | "ours"
    low: float | None = None
    high: float | None = None

    def holds(self, value: float) -> bool:
        """Return whether `value` lies within the bounds."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True)
class Row:
    """One comparison. `ours` and `peer` are in `unit`: "s" or "share" (0 to 1)."""

    what: str
    unit: str
    ours: float | None
    peer: float | None = None
    peer_name: str = ""
    goal: Goal | None = None
    n: int = 0  # what the medians are over
    paired_ratio: float | None = None  # where pairs were taken: the median of their ratios
    problem: str = ""  # why there is no number

    @property
    def ratio(self) -> float | None:
        """Return ours over the peer's: of the pairs where there are any, else of the two values."""
        if self.paired_ratio is not None:
            return self.paired_ratio
        if self.ours is None or not self.peer:
            return None
        return self.ours / self.peer

    @property
    def passed(self) -> bool | None:
        """Return whether the goal holds; None without one. A goal with nothing to judge is missed."""
        if self.problem:
            return False
        if self.goal is None:
            return None
        value = self.ratio if self.goal.of == "ratio" else self.ours
        return value is not None and self.goal.holds(value)


def failed(what: str, problem: str) -> Row:
    """Return the row of an item that could not be measured."""
    return Row(what, "s", None, problem=problem)


def compute_paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """Return the median of the ratios of pairs taken side by side. Raises ValueError if they don't pair."""
    return statistics.median([a / b for a, b in zip(ours, peer, strict=True)])


def compute_spread(values: Sequence[float]) -> float:
    """Return (largest - smallest) / median."""
    return (max(values) - min(values)) / statistics.median(values)


def compute_covered(windows: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """Return how much of [begin, end] the windows cover, those that overlap counted once."""
    covered, reached = 0.0, begin
    for start, stop in sorted(windows):
        start, stop = max(start, reached), min(stop, end)
        if stop > start:
            covered += stop - start
            reached = stop
    return covered


def format_value(value: float | None, unit: str) -> str:
    """Return a value for people: "5.86 ms", "37.2%"; "–" where it is missing."""
    if value is None:
        return "–"
    return format_ns(value * 1e9) if unit == "s" else format_ratio(value)


def format_goal(goal: Goal | None, unit: str) -> str:
    if goal is None:
        return ""

    def bound(value: float) -> str:
        return f"{value:g}" if goal.of == "ratio" else format_value(value, unit)

    if goal.low is not None and goal.high is not None:
        return f"{bound(goal.low)} to {bound(goal.high)}"
    return f"≤ {bound(goal.high)}" if goal.high is not None else f"≥ {bound(goal.low or 0.0)}"


def cells_of(row: Row) -> tuple[str, ...]:
    """Return a row's cells in the order of HEADINGS."""
    if row.problem:
        return (row.what, row.problem, "", "", "", "FAIL", "0")
    peer = ""
    if row.peer is not None:
        peer = f"{format_value(row.peer, row.unit)} {row.peer_name}".strip()
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}" if row.ratio >= 0.1 else f"{row.ratio:.2g}"
    verdict = {True: "pass", False: "FAIL", None: ""}[row.passed]
    goal = format_goal(row.goal, row.unit)
    return (row.what, format_value(row.ours, row.unit), peer, ratio, goal, verdict, str(row.n))


def render_text(rows: Sequence[Row]) -> str:
    """Return an aligned table for a terminal."""
    lines = [HEADINGS, *(cells_of(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    padded = [[c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def render_markdown(rows: Sequence[Row]) -> str:
    """Return the same table as Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells_of(row) for row in rows)]
    safe = [[c.replace("|", "\\|").replace("\n", " ") for c in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in safe)


def encode_row(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it."""
    return asdict(row)


def decode_row(data: Mapping[str, Any]) -> Row:
    """Return the row that `encode_row` wrote. Raises TypeError for other keys."""
    goal = data.get("goal")
    return Row(**{**data, "goal": Goal(**goal) if goal else None})
