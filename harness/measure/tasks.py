"""Task metrics: outputs and labels in, one number with its interval out. A new task is one row of TASKS.

How two models compare over the same samples is in `against`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness import stats
from harness.errors import ConfigError, nearest
from harness.model import Fidelity, Measurement, Series

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = Mapping[str, npt.NDArray[Any]]
    Task = Callable[[npt.NDArray[Any], npt.NDArray[Any]], tuple[float, float, float, npt.NDArray[Any]]]


def top1(output: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[float, float, float, npt.NDArray[Any]]:
    """Return the share of samples whose largest output is the label, its 90% interval, and hits (n,).

    `output` (n_samples, n_classes), `labels` (n_samples,) integers. Clopper–Pearson interval.
    """
    hits = (output.reshape(len(labels), -1).argmax(axis=1) == labels.reshape(-1)).astype("int64")
    low, high = stats.clopper_pearson(int(hits.sum()), len(hits))
    return float(hits.mean()), low, high, hits


def rmse(output: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[float, float, float, npt.NDArray[Any]]:
    """Return the root of the mean squared error, its 90% interval, and squared errors (n,).

    The interval is chi-squared with n degrees of freedom: exact for normal errors of mean zero.
    """
    import numpy as np
    from scipy.stats import chi2

    error = output.reshape(len(labels), -1).astype(np.float64) - labels.reshape(len(labels), -1)
    squared = (error**2).mean(axis=1)
    value = float(np.sqrt(squared.mean()))
    n = len(squared)
    return (
        value,
        float(value * np.sqrt(n / chi2.ppf(0.95, n))),
        float(value * np.sqrt(n / chi2.ppf(0.05, n))),
        squared,
    )


def auc(output: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[float, float, float, npt.NDArray[Any]]:
    """Return the area under the ROC curve, its 90% interval, and each sample's score (n,).

    A sample's score is its single value, or the last of them (the positive class). The interval is a BCa
    bootstrap within each class. Where no resample differs, as when the classes are apart altogether, it
    reaches as far as Clopper–Pearson's for as many trials as the smaller class has samples.
    """
    import numpy as np

    scores = output.reshape(len(labels), -1)[:, -1].astype(np.float64)
    positive = labels.reshape(-1).astype(bool)
    value, low, high = stats.paired_bootstrap(
        lambda at: stats.auc(scores[at], positive[at]), len(positive), strata=positive
    )
    if low == high:
        smaller = int(min(positive.sum(), (~positive).sum()))
        wide = stats.clopper_pearson(round(value * smaller), smaller)
        low, high = min(low, wide[0]), max(high, wide[1])
    return value, low, high, scores


TASKS: dict[str, tuple[Task, str]] = {
    "accuracy": (top1, "hit"),
    "auc": (auc, "score"),
    "rmse": (rmse, "squared_error"),
}


def measure_task(task: str, outputs: Arrays, labels: npt.NDArray[Any]) -> tuple[Measurement, Series]:
    """Return the task's metric over the model's first output, with its per-sample series."""
    import numpy as np

    name, output = first_output(outputs)
    check_labels(task, name, output, labels)
    compute, series_name = TASKS[task]
    value, low, high, per_sample = compute(output, labels)
    others = (f"from output `{name}`, the first of {len(outputs)}",) if len(outputs) > 1 else ()
    return (
        Measurement(task, value, low, high, len(labels), Fidelity.MEASURED, reasons=others),
        Series(series_name, "1", per_sample, np.zeros(len(per_sample), dtype=np.int32)),
    )


def first_output(outputs: Arrays) -> tuple[str, npt.NDArray[Any]]:
    """Return the name and samples of the output that tasks are computed from."""
    return next(iter(outputs.items()))


def check_labels(task: str, name: str, output: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    """Raise ConfigError where `task` is unknown, or `labels` aren't those of output `name`."""
    if task not in TASKS:
        raise ConfigError(f"unknown task metric `{task}`{nearest(task, TASKS)}")
    problem = _PROBLEMS[task](name, output, labels)
    if problem:
        raise ConfigError(problem, where=f"labels for task `{task}`")


def _class_problem(name: str, output: npt.NDArray[Any], labels: npt.NDArray[Any]) -> str | None:
    """Return why `labels` aren't classes of `output`, or None: an integer a sample, below the class count."""
    n_classes = output.reshape(len(output), -1).shape[1]
    if labels.size != len(output):
        return f"have shape {labels.shape}, expected one class a sample: ({len(output)},)."
    if labels.dtype.kind not in "iub":
        return f"are {labels.dtype.name}, expected integers: the class of each sample."
    if n_classes < 2:
        return f"are classes, but output `{name}` has one value a sample, expected one score a class."
    if labels.min() < 0 or labels.max() >= n_classes:
        return f"go from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1} (output `{name}`)."
    return None


def _value_problem(name: str, output: npt.NDArray[Any], labels: npt.NDArray[Any]) -> str | None:
    """Return why `labels` aren't targets of `output`, or None: numbers, as many as it has values."""
    if labels.dtype.kind not in "iuf":
        return f"are {labels.dtype.name}, expected numbers."
    if labels.size != output.size:
        return f"have shape {labels.shape}, expected {output.shape} as output `{name}`."
    return None


def _binary_problem(name: str, output: npt.NDArray[Any], labels: npt.NDArray[Any]) -> str | None:
    """Return why `labels` aren't the two classes of `output`, or None: 0 or 1 a sample, both there."""
    if labels.size != len(output):
        return f"have shape {labels.shape}, expected one class a sample: ({len(output)},)."
    if labels.dtype.kind not in "iub":
        return f"are {labels.dtype.name}, expected 0 or 1 for each sample."
    found = sorted(set(labels.reshape(-1).tolist()))
    if found not in ([0, 1], [False, True]):
        return f"hold {found[:5]}, expected 0 and 1, both of them."
    if output.dtype.kind not in "iuf":
        return f"are classes, but output `{name}` is {output.dtype.name}, expected scores."
    return None


_PROBLEMS: dict[str, Callable[[str, npt.NDArray[Any], npt.NDArray[Any]], str | None]] = {
    "accuracy": _class_problem,
    "auc": _binary_problem,
    "rmse": _value_problem,
}
