"""Task metrics: outputs and labels in, one number with its interval out. A new task is one row of TASKS."""

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


TASKS: dict[str, tuple[Task, str]] = {"accuracy": (top1, "hit"), "rmse": (rmse, "squared_error")}


def measure_task(task: str, outputs: Arrays, labels: npt.NDArray[Any]) -> tuple[Measurement, Series]:
    """Return the task's metric over the model's first output, with its per-sample series."""
    import numpy as np

    if task not in TASKS:
        raise ConfigError(f"unknown task metric `{task}`{nearest(task, TASKS)}")
    compute, series_name = TASKS[task]
    name, output = next(iter(outputs.items()))
    problem = (
        _class_problem(name, output, labels) if task == "accuracy" else _value_problem(name, output, labels)
    )
    if problem:
        raise ConfigError(problem, where=f"labels for task `{task}`")
    value, low, high, per_sample = compute(output, labels)
    others = (f"from output `{name}`, the first of {len(outputs)}",) if len(outputs) > 1 else ()
    return (
        Measurement(task, value, low, high, len(labels), Fidelity.MEASURED, reasons=others),
        Series(series_name, "1", per_sample, np.zeros(len(per_sample), dtype=np.int32)),
    )


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
