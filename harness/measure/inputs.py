"""Inputs for a model: read from the plan's .npz, or made from the model's signature.

An .npz is keyed by input name, first axis samples, `labels` beside the inputs. `numpy` is imported inside
functions: this module is on the path of `pytest --collect-only`.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, nearest
from harness.model import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

LABELS = "labels"
N_MADE_SAMPLES = 8  # chosen: enough to see outputs differ, few enough for a slow board
_SEED = 20_240  # any; fixed, so that two runs feed the same bytes


@dataclass(frozen=True)
class Inputs:
    """Samples to feed. `data` is an .npz file's bytes without labels; `labels` has shape (n_samples, …)."""

    data: bytes
    sha256: str
    n_samples: int
    labels: npt.NDArray[Any] | None
    made: bool  # from the signature, by us


def load_inputs(path: Path, signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> Inputs:
    """Return the samples in an .npz. Raises ConfigError naming every tensor that doesn't fit."""
    import numpy as np

    if not path.is_file():
        raise ConfigError("no such inputs file.", where=str(path))
    if not zipfile.is_zipfile(path):
        raise ConfigError("not an .npz: numpy.savez writes one.", where=str(path))
    try:
        with np.load(path, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"not an .npz of plain arrays: {error}.", where=str(path)) from error
    labels = arrays.pop(LABELS, None)
    problems = fit_problems(arrays, labels, signature, shapes)
    if problems:
        raise ConfigError(problems, where=str(path))
    wanted = {spec.name: arrays[spec.name] for spec in signature.inputs}
    return _pack(wanted, labels, made=False)


def fit_problems(
    arrays: Mapping[str, npt.NDArray[Any]],
    labels: npt.NDArray[Any] | None,
    signature: Signature,
    shapes: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """Return what keeps `arrays` from being fed to a model of this signature; empty if nothing does."""
    problems = []
    names = [spec.name for spec in signature.inputs]
    for spec in signature.inputs:
        if spec.name not in arrays:
            problems.append(f"input `{spec.name}` of the model is missing{nearest(spec.name, arrays)}")
            continue
        array = arrays[spec.name]
        expected = shapes.get(spec.name, spec.shape)
        if array.ndim != len(expected) or any(
            want not in (None, got) for want, got in zip(expected[1:], array.shape[1:], strict=True)
        ):
            problems.append(
                f"input `{spec.name}` has shape {_shape_text(array.shape)}, expected "
                f"{_shape_text((None, *expected[1:]))} (first axis: samples)"
            )
        if array.dtype.name != spec.dtype and not _quantised_from_float(array.dtype.name, spec.dtype):
            problems.append(f"input `{spec.name}` has type {array.dtype.name}, expected {spec.dtype}")
    problems += [
        f"`{name}` is no input of the model{nearest(name, names)}" for name in arrays if name not in names
    ]
    counts = {name: a.shape[0] for name, a in arrays.items() if name in names and a.ndim}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {n}" for name, n in counts.items())
        problems.append(f"inputs differ in their number of samples ({listed})")
    elif counts and 0 in counts.values():
        problems.append("there are no samples in it")
    if labels is not None and labels.ndim == 0:
        problems.append(f"`{LABELS}` is one value, expected one a sample")
    elif labels is not None and counts and len(labels) != next(iter(counts.values())):
        problems.append(
            f"`{LABELS}` has {len(labels)} entries, expected {next(iter(counts.values()))}, one a sample"
        )
    return problems


def make_inputs(signature: Signature, shapes: Mapping[str, tuple[int, ...]], model: str) -> Inputs:
    """Return seeded samples for a model that came without any.

    Floats are uniform in [0, 1), integers 0 or 1 (valid as token, mask or index). Raises ConfigError when
    a shape is open beyond the batch axis and `shapes` doesn't give it, or when a type can't be made.
    """
    import numpy as np

    names = [s.name for s in signature.inputs]
    problems = [
        f"--shape names `{name}`, which is no input of it{nearest(name, names)}"
        for name in shapes
        if name not in names
    ]
    rng = np.random.default_rng(_SEED)
    arrays: dict[str, Any] = {}
    for spec in signature.inputs:
        shape, problem = made_shape(spec, shapes)
        if problem:
            problems.append(problem)
        elif np.dtype(spec.dtype).kind == "f":
            arrays[spec.name] = rng.random((N_MADE_SAMPLES, *shape[1:])).astype(spec.dtype)
        elif np.dtype(spec.dtype).kind in "iub":
            arrays[spec.name] = rng.integers(0, 2, (N_MADE_SAMPLES, *shape[1:])).astype(spec.dtype)
        else:
            problems.append(f"input `{spec.name}` has type {spec.dtype}, which can't be made up")
    if problems:
        raise ConfigError(problems, where=model)
    return _pack(arrays, None, made=True)


def made_shape(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], str | None]:
    """Return the shape of one sample with its batch axis (1), or what keeps it from being known."""
    if spec.name in shapes:
        given = shapes[spec.name]
        if given[:1] not in ((1,), spec.shape[:1]):
            return (), (
                f"--shape {spec.name}={_shape_text(given)}: its first axis is the batch, expected "
                f"{spec.shape[0] or 1}; the suites set the batch size themselves"
            )
        fits = len(given) == len(spec.shape) and all(
            want in (None, got) for want, got in zip(spec.shape[1:], given[1:], strict=True)
        )
        if not fits:
            return (), (
                f"--shape {spec.name}={_shape_text(given)} does not fit the model's "
                f"{_shape_text(spec.shape)} (? is open)"
            )
        return given, None
    if any(n is None for n in spec.shape[1:]):
        example = "x".join(str(n) if n else "N" for n in (spec.shape[0] or 1, *spec.shape[1:]))
        return (), (
            f"input `{spec.name}` has the open shape {_shape_text(spec.shape)}; "
            f"give it: --shape {spec.name}={example}"
        )
    return tuple(n or 1 for n in spec.shape), None


def _quantised_from_float(given: str, wanted: str) -> bool:
    # the TFLite adapters quantise float samples with the tensor's own scale and zero point
    return given == "float32" and wanted in ("int8", "uint8", "int16")


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if n is None else str(n) for n in shape) or "scalar"


def _pack(arrays: Mapping[str, Any], labels: npt.NDArray[Any] | None, *, made: bool) -> Inputs:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # zip members carry a fixed date: same arrays, same bytes
    data = buffer.getvalue()
    n_samples = len(next(iter(arrays.values()))) if arrays else 0
    return Inputs(data, hashlib.sha256(data).hexdigest(), n_samples, labels, made)
