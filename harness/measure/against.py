"""A candidate against its baseline where no clock is needed: task figures over the same samples, file size.

Both models answer the same samples, so they are compared sample by sample; the interval is that of the paired
difference, which is narrower than two intervals side by side.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from harness import stats
from harness.errors import Unsupported
from harness.measure.accuracy import infer_all, precision_of
from harness.measure.bench import Bench, Observation
from harness.measure.golden import compute_close, tolerance_of
from harness.measure.tasks import TASKS, check_labels, first_output
from harness.model import Comparison, Effect, Fidelity, Measurement, Method, Series

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Arrays = dict[str, npt.NDArray[Any]]

AGREEMENT = "baseline_agreement"
BOOTSTRAP = "interval: paired bootstrap over samples"


def measure_size_against(bench: Bench, baseline_bench: Bench, baseline_name: str) -> Observation:
    """Return the ratio of both model files' sizes: exact, so its bounds are the ratio itself."""
    ours, theirs = (float(b.case.artifact.model_bytes) for b in (bench, baseline_bench))
    ratio = ours / theirs if theirs else math.inf
    return Observation(
        comparisons=(
            Comparison(
                "model_size_bytes",
                Effect.RATIO,
                ratio,
                ratio,
                ratio,
                1,
                Fidelity.MEASURED,
                Method.EXACT,
                ours,
                theirs,
                baseline_name,
            ),
        ),
        settings=baseline_settings(baseline_bench, baseline_name),
    )


def baseline_settings(baseline: Bench, name: str) -> dict[str, Any]:
    """Return what a run keeps of the model that it was compared with."""
    return {
        "baseline": name,
        "baseline_model": baseline.case.name,
        "baseline_sha256": baseline.case.artifact.sha256,
        "baseline_runtime": str(baseline.case.runtime),
        "baseline_packages": list(baseline.env.packages),
    }


def measure_accuracy_against(bench: Bench, baseline_bench: Bench, baseline_name: str) -> Observation:
    """Let both models answer the same samples on the device; compare their task figures, and their answers.

    Where the samples can't be the same (another count, other labels, inputs that were made up), the
    comparison says why and is INVALID. Without labels or a task the share of samples that both answer alike
    is shown. Raises Unsupported where there are no outputs to compare.
    """
    for each in (bench, baseline_bench):
        if not each.inputs.n_samples:
            what = "it takes no inputs from here, so there are no outputs to compare."
            raise Unsupported(what, where=each.case.name)
    task = bench.case.task
    labels = bench.inputs.labels if bench.inputs.labels is not None else baseline_bench.inputs.labels
    settings = {
        **baseline_settings(baseline_bench, baseline_name),
        "n_samples": bench.inputs.n_samples,
        "inputs_sha256": bench.inputs.sha256,
        "baseline_inputs_sha256": baseline_bench.inputs.sha256,
    }
    if unlike := _unlike_samples(bench, baseline_bench):
        if task is None:
            raise Unsupported(unlike, where=f"{bench.case.name} against {baseline_name}")
        return Observation(comparisons=(_not_comparable(task, baseline_name, unlike),), settings=settings)
    ours, theirs = infer_all(bench, "accuracy"), infer_all(baseline_bench, "accuracy-baseline")
    alike, how = measure_alike(bench, ours, theirs)
    if task is None or labels is None:
        if alike is None:
            raise Unsupported(how, where=f"{bench.case.name} against {baseline_name}")
        return Observation(measurements=(alike,), settings={**settings, "agreement_by": how})
    comparison, series = compare_task(task, ours, theirs, labels, baseline_name)
    return Observation(
        measurements=(alike,) if alike is not None else (),
        comparisons=(comparison,),
        series=series,
        settings={**settings, "agreement_by": how, **comparison.settings},
    )


def _unlike_samples(bench: Bench, baseline: Bench) -> str | None:
    """Return why the samples of both aren't the same ones, or None."""
    import numpy as np

    ours, theirs = bench.inputs, baseline.inputs
    if ours.n_samples != theirs.n_samples:
        return (
            f"the candidate has {ours.n_samples} samples, the baseline {theirs.n_samples}: expected the same"
        )
    if ours.made != theirs.made:
        made = "candidate's" if ours.made else "baseline's"
        return f"the {made} inputs were made from its signature: give both the same samples (`inputs`)"
    if ours.labels is not None and theirs.labels is not None:
        if ours.labels.shape != theirs.labels.shape:
            return f"labels have shape {ours.labels.shape}, the baseline's {theirs.labels.shape}"
        differ = int(np.count_nonzero(ours.labels != theirs.labels))
        if differ:
            return f"labels differ in {differ} of {ours.labels.size} places: expected the same samples"
    return None


def _not_comparable(task: str, baseline_name: str, why: str) -> Comparison:
    return Comparison(
        task,
        _EFFECTS.get(task, Effect.DIFFERENCE),
        None,
        None,
        None,
        0,
        Fidelity.MEASURED,
        Method.PAIRED,
        None,
        None,
        baseline_name,
        invalid=(why,),
    )


_EFFECTS = {"accuracy": Effect.DIFFERENCE, "auc": Effect.DIFFERENCE, "rmse": Effect.RATIO}


def compare_task(
    task: str, candidate: Arrays, baseline: Arrays, labels: Array, baseline_name: str
) -> tuple[Comparison, tuple[Series, ...]]:
    """Return the comparison of one task figure over the same samples, and both arms' per-sample series.

    Raises ConfigError where the labels aren't those of either model's first output.
    """
    import numpy as np

    values: list[float] = []
    per_sample: list[Array] = []
    for outputs in (candidate, baseline):
        name, output = first_output(outputs)
        check_labels(task, name, output, labels)
        value, _, _, each = TASKS[task][0](output, labels)
        values.append(value)
        per_sample.append(each)
    effect, low, high, settings, reasons = _PAIRED[task](per_sample[0], per_sample[1], labels)
    zeros = np.zeros(len(labels), dtype=np.int32)
    series = tuple(
        Series(TASKS[task][1], "1", each, zeros, arm=arm)
        for each, arm in zip(per_sample, ("candidate", "baseline"), strict=True)
    )
    comparison = Comparison(
        task,
        _EFFECTS[task],
        effect,
        low,
        high,
        len(labels),
        Fidelity.MEASURED,
        Method.PAIRED,
        values[0],
        values[1],
        baseline_name,
        reasons=reasons,
        settings=settings,
    )
    return comparison, series


Paired = tuple[float, float | None, float | None, dict[str, Any], tuple[str, ...]]


def _paired_hits(ours: Array, theirs: Array, labels: Array) -> Paired:
    """Return the difference of two shares of hits: Newcombe's interval, McNemar's p and the four counts."""
    ours, theirs = ours.astype(bool), theirs.astype(bool)
    counts = {
        "both": int((ours & theirs).sum()),
        "only_candidate": int((ours & ~theirs).sum()),
        "only_baseline": int((~ours & theirs).sum()),
        "neither": int((~ours & ~theirs).sum()),
    }
    difference, low, high = stats.newcombe_paired_difference(**counts)
    p = stats.mcnemar_exact(counts["only_candidate"], counts["only_baseline"])
    said = (
        f"right alone: the candidate {counts['only_candidate']} times, the baseline "
        f"{counts['only_baseline']} (McNemar's exact p = {p:.3g})"
    )
    return difference, low, high, {**counts, "mcnemar_p": p}, (said,)


def _paired_auc(ours: Array, theirs: Array, labels: Array) -> Paired:
    """Return the difference of two areas, resampled within each class."""
    positive = labels.reshape(-1).astype(bool)

    def difference(at: npt.NDArray[np.intp]) -> float:
        return stats.auc(ours[at], positive[at]) - stats.auc(theirs[at], positive[at])

    value, low, high = stats.paired_bootstrap(difference, len(positive), strata=positive)
    return value, low, high, {}, (BOOTSTRAP,)


def _paired_rmse(ours: Array, theirs: Array, labels: Array) -> Paired:
    """Return the ratio of two root mean squared errors, given each sample's squared error."""
    if not theirs.any():
        if not ours.any():
            return 1.0, 1.0, 1.0, {}, ("neither makes any error",)
        worse = sys.float_info.max  # any error is beyond any margin; a number, so that it is judged
        return worse, worse, worse, {}, ("the baseline makes no error at all, the candidate does",)
    value = math.sqrt(float(ours.mean()) / float(theirs.mean()))
    if not ours.any():
        return value, value, value, {}, ("the candidate makes no error at all",)

    def log_ratio(at: npt.NDArray[np.intp]) -> float:
        top, bottom = float(ours[at].mean()), float(theirs[at].mean())
        return math.log(top / bottom) / 2 if top and bottom else math.nan

    try:
        _, low, high = stats.paired_bootstrap(log_ratio, len(ours))
    except ValueError:  # too few samples with any error in them
        return value, None, None, {}, (f"too few errors among {len(ours)} samples for an interval",)
    return value, math.exp(low), math.exp(high), {}, (BOOTSTRAP,)


_PAIRED = {"accuracy": _paired_hits, "auc": _paired_auc, "rmse": _paired_rmse}


def measure_alike(bench: Bench, candidate: Arrays, baseline: Arrays) -> tuple[Measurement | None, str]:
    """Return the share of samples that both models answer alike, and by what; None, and why there is none.

    Where the first output holds several scores a sample, alike is the same largest one; else within the
    tolerance of the candidate's precision.
    """
    (_, ours), (_, theirs) = first_output(candidate), first_output(baseline)
    n = len(ours)
    if ours.shape != theirs.shape:
        return None, f"their first outputs have shapes {ours.shape} and {theirs.shape}: nothing to compare"
    if ours.ndim == 2 and ours.shape[1] > 1:
        same, how = int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum()), "the same largest score"
    else:
        precision = precision_of(bench)
        rtol, atol = tolerance_of(precision, bench.case.rtol, bench.case.atol)
        same = int(compute_close(ours, theirs, rtol, atol).sum())
        how = f"within {atol:g} + {rtol:g} × the largest value ({precision})"
    low, high = stats.clopper_pearson(same, n)
    return Measurement(AGREEMENT, same / n, low, high, n, Fidelity.MEASURED, reasons=(f"alike: {how}",)), how
