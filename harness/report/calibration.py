"""What a unit's calibration says: how often it would cry wolf, and the smallest regression it catches."""

from __future__ import annotations

from dataclasses import dataclass

from harness import stats
from harness.model import Calibration, Detectable
from harness.report.data import ReportData
from harness.report.wording import Badge, fidelity_badge, when
from harness.units import format_quantity


@dataclass(frozen=True)
class CalibrationView:
    device: str
    fidelity: Badge | None
    facts: tuple[tuple[str, str], ...]
    detectable: tuple[tuple[str, str, str], ...]  # (measuring time, regression, how it is known)


@dataclass(frozen=True)
class Calibrations:
    units: tuple[CalibrationView, ...]
    without: tuple[str, ...]  # devices that compared and have none


def build_calibrations(data: ReportData) -> Calibrations | None:
    """Return what is known of the session's units; None where nothing was compared nor calibrated."""
    known = data.record.calibrations
    compared = dict.fromkeys(result.device_name for result in data.compared)
    without = tuple(name for name in compared if name not in {c.device for c in known})
    if not known and not without:
        return None
    return Calibrations(tuple(_view(c) for c in known), without)


def _view(c: Calibration) -> CalibrationView:
    runtime = f"{c.runtime} {c.runtime_version or ''}".strip()
    return CalibrationView(
        c.device,
        fidelity_badge(c.fidelity),
        (
            ("false FAIL", _share(c.false_fails, c.trials)),
            ("INCONCLUSIVE", _share(c.inconclusives, c.trials)),
            ("half-width of the 90% interval, median", f"±{_percent(c.half_width_ratio)}"),
            ("margin", _percent(c.margin)),
            ("one trial measures for", format_quantity(c.trial_s, "s")),
            ("taken", f"{when(c.taken_at)}, {c.model} in {runtime}, sha256 {c.artifact_sha256[:12]}…"),
        ),
        tuple(_detectable(d) for d in c.detectable),
    )


def _share(count: int, trials: int) -> str:
    """Return "1 of 40: 2.5% (90% interval 0.1% to 11%)"."""
    if trials < 1:
        return "no trials"
    low, high = stats.clopper_pearson(count, trials)
    return (
        f"{count} of {trials}: {_percent(count / trials)} (90% interval {_percent(low)} to {_percent(high)})"
    )


def _detectable(d: Detectable) -> tuple[str, str, str]:
    caught = "can't be told" if d.ratio is None else f"+{100 * d.ratio:.3g}%"
    return (f"{d.minutes:g} min", caught, "extrapolated" if d.extrapolated else "measured")


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2g}%" if ratio < 0.1 else f"{100 * ratio:.0f}%"
