"""How close outputs are: tolerances by precision, and agreement with golden outputs, sample by sample.

Golden outputs are what the same runtime gave once: an .npz keyed by output name, first axis samples.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import stats
from harness.errors import ConfigError, nearest
from harness.model import Fidelity, Measurement, Series, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Arrays = Mapping[str, npt.NDArray[Any]]

# (rtol, atol) by precision. fp32: convolutions summed in another order differ by some 1e-6 relative
# (measured between x86-64 and arm64: 4e-8); 1e-3 leaves room for other instruction sets. int8: one step of
# an 8-bit output scale, which may round the other way, is 1/127 of its range.
TOLERANCES = {"fp32": (1e-3, 1e-4), "fp16": (1e-2, 1e-3), "int8": (1 / 64, 1e-3)}


def tolerance_of(precision: str, rtol: float | None, atol: float | None) -> tuple[float, float]:
    """Return (rtol, atol): the plan's own where it gives them, else those of the precision."""
    default_rtol, default_atol = TOLERANCES[precision]
    return default_rtol if rtol is None else rtol, default_atol if atol is None else atol


def compute_close(got: Array, want: Array, rtol: float, atol: float) -> npt.NDArray[Any]:
    """Return for each sample (n,) whether all its values are within atol + rtol × the largest of `want`.

    The largest is over all samples. What isn't finite matches only itself.
    """
    import numpy as np

    n = len(want)
    got64, want64 = got.astype(np.float64).reshape(n, -1), want.astype(np.float64).reshape(n, -1)
    finite = np.isfinite(want64)
    limit = atol + rtol * float(np.abs(want64[finite]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        near = np.abs(got64 - want64) <= limit
    same = (got64 == want64) | (np.isnan(got64) & np.isnan(want64))
    close = np.asarray(np.where(finite, near, same))
    return np.asarray(np.all(close, axis=1))


def load_golden(path: Path, outputs: Sequence[TensorSpec], n_samples: int) -> dict[str, Array]:
    """Return golden outputs by name. Raises ConfigError for what isn't an output, or another sample count."""
    import numpy as np

    if not path.is_file():
        raise ConfigError("no such file of golden outputs.", where=str(path))
    try:
        with np.load(path, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"not an .npz of plain arrays: {error}.", where=str(path)) from error
    names = [spec.name for spec in outputs]
    problems = [f"`{n}` is no output of the model{nearest(n, names)}" for n in arrays if n not in names]
    problems += [
        f"`{name}` has shape {array.shape}, expected {n_samples} samples first, as the inputs have"
        for name, array in arrays.items()
        if array.ndim == 0 or len(array) != n_samples
    ]
    problems += [
        f"`{name}` has type {array.dtype.name}, expected numbers"
        for name, array in arrays.items()
        if array.dtype.kind not in "biuf"
    ]
    if not arrays:
        problems.append(f"there is no output in it; the model's are: {', '.join(names)}")
    if problems:
        raise ConfigError(problems, where=str(path))
    return arrays


def measure_golden(
    outputs: Arrays, golden: Arrays, rtol: float, atol: float, where: str
) -> tuple[Measurement, Series]:
    """Return the share of samples that agree with all golden outputs (Clopper–Pearson), and which do.

    Raises ConfigError where an output has another shape than its golden one.
    """
    import numpy as np

    problems = [
        f"`{name}` has shape {want.shape}, the model's output {outputs[name].shape}"
        for name, want in golden.items()
        if outputs[name].shape != want.shape
    ]
    if problems:
        raise ConfigError(problems, where=where)
    agree = np.logical_and.reduce([compute_close(outputs[n], w, rtol, atol) for n, w in golden.items()])
    count, n = int(agree.sum()), len(agree)
    low, high = stats.clopper_pearson(count, n)
    said = f"{count} of {n} samples within {atol:g} + {rtol:g} × the largest value of each output"
    return (
        Measurement("golden_agreement", count / n, low, high, n, Fidelity.MEASURED, reasons=(said,)),
        Series("golden_hit", "1", agree.astype(np.int64), np.zeros(n, dtype=np.int32)),
    )
