"""What a board would take, beside the virtual latency of an emulated one: a run's median → its estimate.

Which calibration speaks and how surely is `estimate`'s job; here an answer becomes a measurement with its
band, its word and what it rests on. Where there is none, the virtual number stands alone, and a measurement
without a value says why.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.measure import accuracy
from harness.measure.bench import Bench, Observation
from harness.metrics import ESTIMATES
from harness.model import Fidelity, Measurement
from harness.units import how_old

if TYPE_CHECKING:
    from harness.estimate.calibration import Calibration
    from harness.estimate.estimator import Answer
    from harness.estimate.features import Features

SETTING = "estimate"  # where a run's settings keep what its estimate rests on
OWN_FOLDER = "estimates"  # of the reports: calibrations that `harness devices fit` made
NS_PER_MS = 1e6
# onnxruntime's threads spin while they wait: 13.9 virtual ms on four where one takes 3.1 (measured, 1.31)
_NEEDS_COUNTS = "several threads share the one emulated core, so that its clock shows waiting as work."
VIRTUAL_METRIC = "latency_p50_ns"


def calibration_name(of: str, runtime: str, precision: str, threads: int) -> str:
    """Return what a user's own calibration is called: by what it is `of`, and all that it is for."""
    return f"{of}-{runtime}-{precision}" + (f"-{threads}-threads" if threads > 1 else "")


def own_path(reports_dir: Path, device_type: str, runtime: str, precision: str, threads: int) -> Path:
    """Return where a user's own calibration is kept: one for each setting; the next replaces it."""
    return reports_dir / OWN_FOLDER / f"{calibration_name(device_type, runtime, precision, threads)}.toml"


def pieces_path(reports_dir: Path, device_type: str, board: str, threads: int) -> Path:
    """Return where a fit keeps what it has measured so far."""
    name = calibration_name(device_type, "against", board, threads)
    return reports_dir / OWN_FOLDER / f"{name}.json"


def known_calibrations(reports_dir: Path) -> list[Calibration]:
    """Return a user's own calibrations, then those that ship. Raises ConfigError for a broken one."""
    return [*own_calibrations(reports_dir), *_shipped()]


def own_calibrations(reports_dir: Path) -> list[Calibration]:
    """Return a user's own calibrations, by file name. Raises ConfigError for a broken one."""
    from harness.estimate import calibration  # scipy's neighbours: not on the way to the first test

    return [calibration.load(path) for path in sorted((reports_dir / OWN_FOLDER).glob("*.toml"))]


@functools.cache
def _shipped() -> tuple[Calibration, ...]:
    from harness.estimate import estimator

    return tuple(estimator.shipped())


def is_estimated(bench: Bench) -> bool:
    """Return whether times there are virtual, so that an estimate has something to say."""
    return bench.time_fidelity is Fidelity.VIRTUAL


def virtual_median_ns(seen: Observation) -> float | None:
    """Return the median latency on the virtual clock, in ns; None where there is none."""
    p50 = next((m for m in seen.measurements if m.metric == VIRTUAL_METRIC), None)
    return p50.value if p50 is not None and p50.fidelity is Fidelity.VIRTUAL else None


def with_estimate(
    seen: Observation,
    bench: Bench,
    known: Sequence[Calibration],
    *,
    today: datetime.date,
    features: Features | None = None,
    why_no_features: str = "",
) -> Observation:
    """Return `seen` with the estimate of its median latency, or with why there is none.

    `features` are of one inference; None where nothing counted them, and then `why_no_features` may say why.
    An observation without a virtual median comes back as it is.
    """
    from harness.estimate import estimator

    p50 = next((m for m in seen.measurements if m.metric == VIRTUAL_METRIC), None)
    if p50 is None or p50.value is None or p50.fidelity is not Fidelity.VIRTUAL:
        return seen
    device_type, precision = bench.board.device.type.name, precision_of(bench)
    answer = estimator.answer(
        known,
        device_type=device_type,
        runtime=bench.runtime.name,
        precision=precision,
        threads=bench.threads,
        virtual_ns=p50.value,
        features=features,
        core=qemu.cpu if (qemu := bench.board.device.qemu) is not None else None,
    )
    if features is None and bench.threads > 1 and answer.estimate is not None:
        answer = estimator.Answer(None, problem=" ".join(filter(None, (_NEEDS_COUNTS, why_no_features))))
    by = "what the emulation counted" if features is not None else "one factor of the virtual clock"
    said = {"device_type": device_type, "precision": precision, **_settings(answer, by, today)}
    if features is None and why_no_features:
        said["no_counts"] = why_no_features
    if features is not None:
        said["features"] = asdict(features)  # any fit can be asked again, and a reader see what was counted
    return replace(
        seen,
        measurements=(*seen.measurements, _measurement(answer, p50, said)),
        settings={**seen.settings, SETTING: said},
    )


def precision_of(bench: Bench) -> str:
    """Return which kernels run: "int8" where accuracy has it that it computes in integers, else "fp32".

    Half floats are widened by these runtimes on cores without them (Armv8.0-A), so they are fp32 here.
    """
    return "int8" if accuracy.precision_of(bench) == "int8" else "fp32"


def _measurement(answer: Answer, p50: Measurement, said: Mapping[str, Any]) -> Measurement:
    made, name = answer.estimate, ESTIMATES[VIRTUAL_METRIC]
    if made is None:
        why = (f"no estimate of a board's time: {answer.problem}",)
        return Measurement(
            name, None, None, None, 0, Fidelity.ESTIMATED, p50.scenario, p50.batch_size, reasons=why
        )
    return Measurement(
        name,
        made.board_ms * NS_PER_MS,
        made.low_ms * NS_PER_MS,
        made.high_ms * NS_PER_MS,
        made.n,
        Fidelity.ESTIMATED,
        p50.scenario,
        p50.batch_size,
        reasons=(_rests_on(answer, said), *answer.notes, *filter(None, (said.get("no_counts"),))),
    )


def _rests_on(answer: Answer, said: Mapping[str, Any]) -> str:
    """Return the calibration's name, its age and its error on its own networks, as one reason."""
    made = answer.estimate
    assert made is not None
    return (
        f"estimated from calibration {answer.calibration} (of {answer.taken_on}, "
        f"{how_old(said['age_days'])}), by {said['by']}: "
        f"off by {answer.mean_error_ratio:.1%} on average, {answer.worst_error_ratio:.1%} at worst, "
        f"on its own {made.n} networks, each left out; the band is of {made.confidence:.0%}"
    )


def _settings(answer: Answer, by: str, today: datetime.date) -> dict[str, Any]:
    if answer.estimate is None:
        return {"problem": answer.problem}
    return {
        "by": by,
        "calibration": answer.calibration,
        "taken_on": answer.taken_on,
        "age_days": answer.age_days(today),
        "board": answer.board,
        "source": answer.source,
        "statistic": answer.statistic,
        "networks": answer.estimate.n,
        "mean_error_ratio": answer.mean_error_ratio,
        "worst_error_ratio": answer.worst_error_ratio,
        "confidence": answer.estimate.confidence,
        "band_ratio": answer.band_ratio,
        "notes": list(answer.notes),
        # for the report, which reads the store alone: the board's ms, and the estimate's without the network
        "points": {name: [_short(board), _short(made)] for name, board, made in answer.points},
    }


def _short(value: float) -> float:
    """Return a time with five digits: enough for a plot, and for its error in tenths of a percent."""
    return float(f"{value:.5g}")
