"""How good a calibration is: what it makes of its own networks, each left out, against its board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.model import Fidelity, Run
from harness.report.data import ReportData
from harness.report.figure import Cell, Figure, Mark, Panel, figure
from harness.units import counted


def estimates(data: ReportData) -> Figure | None:
    """Return a panel for each calibration, precision, threads and way that the estimates rest on."""
    panels: dict[tuple[str, ...], Panel] = {}
    rows: list[tuple[Cell, ...]] = []
    for run in data.runs:
        said = _said(run)
        if said is None:
            continue
        key = (str(said["calibration"]), str(said["precision"]), str(run.threads), str(said["by"]))
        if key in panels:
            continue
        points = {str(name): (float(p[0]), float(p[1])) for name, p in said["points"].items()}
        panels[key] = _panel(said, key, points)
        rows += [(*key, name, board, made, made / board - 1) for name, (board, made) in points.items()]
    return figure(
        "estimates",
        "Estimates against the calibration's own board",
        "Each point is a network of the calibration: what the board took, and what the fit makes of it "
        "without having seen it. On the line they agree. These networks are not the session's models.",
        [Fidelity.ESTIMATED],
        list(panels.values()),
        ("calibration", "precision", "threads", "by", "network", "board_ms", "estimated_ms", "error_ratio"),
        rows,
    )


def _said(run: Run) -> Mapping[str, Any] | None:
    """Return what a run's estimate rests on; None where it has none."""
    said = run.settings.get("estimate")
    return said if isinstance(said, Mapping) and said.get("points") else None


def _panel(said: Mapping[str, Any], key: tuple[str, ...], points: Mapping[str, tuple[float, float]]) -> Panel:
    name, precision, threads, by = key
    errors = {network: made / board - 1 for network, (board, made) in points.items()}
    worst = max(errors, key=lambda network: abs(errors[network]))
    on = counted(int(threads), "thread")
    rests_on = counted(len(points), "network")
    return Panel(
        "agreement",
        f"{name}, {precision} on {on}",
        f"{rests_on}, by {by}: off by {float(said['mean_error_ratio']):.1%} on average, "
        f"at worst {errors[worst]:+.1%} ({worst}).",
        "board, ms",
        f"left out, ms ({Fidelity.ESTIMATED})",
        (Mark(name, 0, tuple(p[0] for p in points.values()), tuple(p[1] for p in points.values())),),
        note=f"by {by}; times: {said['source']}",
    )
