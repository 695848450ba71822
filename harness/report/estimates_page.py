"""The page beside the report that sets what a calibration estimates against what its board took."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model import Fidelity
from harness.report.data import ReportData
from harness.report.estimates import Agreement, agreements, panel_of
from harness.report.figure import Mark, Panel
from harness.report.plots import draw
from harness.report.wording import Badge, fidelity_badge
from harness.units import counted, format_significant


@dataclass(frozen=True)
class NetworkRow:
    """One network of a calibration; times in milliseconds."""

    network: str
    board: str
    estimated: str
    band: str
    error: str
    held: bool  # whether the board's time lies in the band


@dataclass(frozen=True)
class FitView:
    """One fit: where its times come from, how far it is off, its drawing and its networks."""

    id: str
    title: str
    facts: tuple[tuple[str, str], ...]
    panels: tuple[tuple[str, str, str], ...]  # title, drawing, in words
    rows: tuple[NetworkRow, ...]


@dataclass(frozen=True)
class EstimatesPage:
    title: str
    fidelity: Badge | None
    fits: tuple[FitView, ...]


def build_estimates_page(data: ReportData) -> EstimatesPage | None:
    """Return the page's texts and drawings; None where no estimate of the session rests on a calibration."""
    fits = agreements(data)
    if not fits:
        return None
    return EstimatesPage(
        title=f"Estimates against boards · {data.record.session_id}",
        fidelity=fidelity_badge(Fidelity.ESTIMATED),
        fits=tuple(_view(fit, f"fit-{number}") for number, fit in enumerate(fits, 1)),
    )


def _view(fit: Agreement, id_: str) -> FitView:
    drawn = (("Estimated against the board", panel_of(fit)), ("Error", _errors_of(fit)))
    panels = tuple(
        (title, draw(panel, f"{id_}-{number}"), panel.description)
        for number, (title, panel) in enumerate(drawn, 1)
    )
    rows = tuple(_row(fit, network) for network in sorted(fit.points, key=lambda n: fit.points[n][0]))
    return FitView(id_, fit.title, _facts(fit, rows), panels, rows)


def _errors_of(fit: Agreement) -> Panel:
    """Return the drawing of the errors, which that of the times is too small to show."""
    percents = {network: fit.error_ratio(network) * 100 for network in fit.points}
    beyond = [network for network in fit.points if not fit.holds(network)]
    return Panel(
        "errors",
        fit.title,
        f"Errors from {min(percents.values()):+.1f}% to {max(percents.values()):+.1f}%; the strip is the "
        f"band. Outside it: {', '.join(beyond) or 'none'}.",
        "board, ms",
        "error of the estimate, %",
        (
            Mark(
                fit.calibration,
                0,
                tuple(board for board, _ in fit.points.values()),
                tuple(percents.values()),
            ),
        ),
        band_ratio=fit.band_ratio,
    )


def _row(fit: Agreement, network: str) -> NetworkRow:
    board, made = fit.points[network]
    low, high = fit.band_ms(network)
    return NetworkRow(
        network,
        _ms(board),
        _ms(made),
        f"{_ms(low)} – {_ms(high)}",
        f"{fit.error_ratio(network):+.1%}",
        fit.holds(network),
    )


def _facts(fit: Agreement, rows: tuple[NetworkRow, ...]) -> tuple[tuple[str, str], ...]:
    said = fit.said
    held = sum(row.held for row in rows)
    return (
        ("board", str(said.get("board", ""))),
        ("its times", f"{said.get('statistic', '')}, {said['source']}"),
        ("estimated by", fit.by),
        ("calibration", f"{fit.calibration}, of {said['taken_on']}, {_before(int(said['age_days']))}"),
        ("networks", str(len(rows))),
        (
            "off by",
            f"{float(said['mean_error_ratio']):.1%} on average, {float(said['worst_error_ratio']):.1%} "
            "at worst, each network left out of the fit",
        ),
        (
            f"band of {float(said['confidence']):.0%}",
            # not proof of 90%: these errors are what the band was made of
            f"× or ÷ {fit.band_ratio:.2f}, made from these errors; it holds the board's time of {held} of "
            f"{counted(len(rows), 'network')}. Wider for what is borrowed or unlike these networks.",
        ),
    )


def _before(days: int) -> str:
    """Return a calibration's age in words that hold whenever a stored session is read."""
    if not days:
        return "the session's day"
    return f"{counted(abs(days), 'day')} {'before' if days > 0 else 'after'} the session"


def _ms(value: float) -> str:
    return format_significant(value)
