"""How good a calibration is: what it makes of its own networks, each left out, against its board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.model import Fidelity, Run
from harness.report.data import ReportData
from harness.report.figure import Cell, Figure, Mark, Panel, figure
from harness.units import counted

PAGE = "estimates.html"  # beside the report; it has each network in a table


@dataclass(frozen=True)
class Agreement:
    """One of the fits that a session's estimates rest on, with its networks. Times are in milliseconds."""

    calibration: str
    precision: str
    threads: int
    by: str
    said: Mapping[str, Any]  # as stored with the runs
    points: Mapping[str, tuple[float, float]]  # by network: what the board took, the estimate without it

    @property
    def title(self) -> str:
        return f"{self.calibration}, {self.precision} on {counted(self.threads, 'thread')}"

    @property
    def band_ratio(self) -> float:
        return float(self.said["band_ratio"])

    def error_ratio(self, network: str) -> float:
        board, made = self.points[network]
        return made / board - 1

    def band_ms(self, network: str) -> tuple[float, float]:
        made = self.points[network][1]
        return made / self.band_ratio, made * self.band_ratio

    def holds(self, network: str) -> bool:
        """Return whether the board's time lies in the estimate's band."""
        low, high = self.band_ms(network)
        return low <= self.points[network][0] <= high


def agreements(data: ReportData) -> list[Agreement]:
    """Return the fits that the estimates rest on, each once: calibration, precision, threads and way."""
    found: dict[tuple[str, ...], Agreement] = {}
    for run in data.runs:
        said = _said(run)
        if said is None:
            continue
        key = (str(said["calibration"]), str(said["precision"]), str(run.threads), str(said["by"]))
        points = {str(name): (float(p[0]), float(p[1])) for name, p in said["points"].items()}
        found.setdefault(key, Agreement(key[0], key[1], run.threads, key[3], said, points))
    return list(found.values())


def estimates(data: ReportData) -> Figure | None:
    """Return a panel for each calibration, precision, threads and way that the estimates rest on."""
    fits = agreements(data)
    rows: list[tuple[Cell, ...]] = [
        (
            *(fit.calibration, fit.precision, str(fit.threads), fit.by),
            *(network, board, made, *fit.band_ms(network), fit.error_ratio(network)),
        )
        for fit in fits
        for network, (board, made) in fit.points.items()
    ]
    return figure(
        "estimates",
        "Estimates against the calibration's own board",
        "Each point is a network of the calibration: what the board took, and what the fit makes of it "
        "without having seen it. On the line they agree; the strip is the 90% band. These networks are not "
        "the session's models.",
        [Fidelity.ESTIMATED],
        [panel_of(fit) for fit in fits],
        (
            *("calibration", "precision", "threads", "by"),
            *("network", "board_ms", "estimated_ms", "estimated_low_ms", "estimated_high_ms", "error_ratio"),
        ),
        rows,
    )


def _said(run: Run) -> Mapping[str, Any] | None:
    """Return what a run's estimate rests on; None where it has none."""
    said = run.settings.get("estimate")
    return said if isinstance(said, Mapping) and said.get("points") and said.get("band_ratio") else None


def estimate_facts(said: object) -> tuple[tuple[str, str], ...]:
    """Return what a run's estimate rests on, as facts; its calibration's networks are the page's."""
    if not isinstance(said, Mapping):
        return ()
    facts = []
    if "calibration" in said:
        what = f"{said['calibration']} of {said['taken_on']}, {said['precision']}, by {said['by']}"
        facts.append(("estimate from", what))
    elif "problem" in said:
        facts.append(("estimate", f"none: {said['problem']}"))
    counts = said.get("features")
    if isinstance(counts, Mapping):
        facts.append(("counted for it", "; ".join(f"{_words(k)}: {_number(v)}" for k, v in counts.items())))
    return tuple(facts)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: object) -> str:
    """Return a count with its thousands apart; those of several levels of cache, the first level's first."""
    if isinstance(value, list | tuple):
        return ", ".join(_number(one) for one in value)
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def panel_of(fit: Agreement) -> Panel:
    """Return a fit's drawing: its networks about the line on which estimate and board agree."""
    worst = max(fit.points, key=lambda network: abs(fit.error_ratio(network)))
    return Panel(
        "agreement",
        fit.title,
        f"{counted(len(fit.points), 'network')}, by {fit.by}: off by "
        f"{float(fit.said['mean_error_ratio']):.1%} on average, "
        f"at worst {fit.error_ratio(worst):+.1%} ({worst}).",
        "board, ms",
        f"{Fidelity.ESTIMATED} without it, ms",
        (
            Mark(
                fit.calibration,
                0,
                tuple(board for board, _ in fit.points.values()),
                tuple(made for _, made in fit.points.values()),
            ),
        ),
        note=f"by {fit.by}; times: {fit.said['source']}",
        band_ratio=fit.band_ratio,
    )
