"""Model files and how they are named on a command line: artifacts, formats, runtimes, shapes.

Nothing here opens a model: whether a runtime accepts it is the deploy suite's to find out. The format is
what the file's name says, or its first bytes where the name says nothing.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from harness.errors import ConfigError
from harness.model import Artifact, ModelCase, PlanModel, RuntimeSpec

FORMATS = {".onnx": "onnx", ".tflite": "tflite", ".lite": "tflite"}
DEFAULT_RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}

# file_identifier of the TFLite schema, at offset 4 of any FlatBuffer that has one
_TFLITE_MAGIC = (4, b"TFL3")
_RUNTIME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*?)\s*(?:==\s*([A-Za-z0-9][A-Za-z0-9.+!_-]*))?")
_DIMENSIONS = re.compile(r"[1-9][0-9]*(?:x[1-9][0-9]*)*")


def parse_runtime(text: str) -> RuntimeSpec:
    """Return the runtime that `onnxruntime` or `onnxruntime==1.20.1` names. Raises ConfigError."""
    match = _RUNTIME.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a runtime; expected NAME or NAME==VERSION, as litert==2.3.0")
    return RuntimeSpec(match[1], match[2])


def parse_dimensions(text: str) -> tuple[int, ...]:
    """Return the shape that "1x3x96x96" means. Raises ConfigError."""
    if _DIMENSIONS.fullmatch(text.strip()) is None:
        raise ConfigError(f"{text!r} is not a shape; expected whole numbers from 1, as 1x3x96x96")
    return tuple(int(size) for size in text.strip().split("x"))


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Return (input, shape) of "input=1x3x96x96". Raises ConfigError."""
    name, equals, dimensions = text.rpartition("=")
    if not equals or not name.strip():
        raise ConfigError(f"{text!r} names no input; expected NAME=1x3x96x96")
    return name.strip(), parse_dimensions(dimensions)


def format_of(path: Path) -> str:
    """Return a file's format by its suffix, else by its first bytes; else the bare suffix, "" without one."""
    suffix = path.suffix.lower()
    if suffix in FORMATS:
        return FORMATS[suffix]
    offset, magic = _TFLITE_MAGIC
    try:
        with path.open("rb") as file:
            start = file.read(offset + len(magic))
    except OSError:  # `artifact_of` has the message for a file that isn't there
        return suffix.removeprefix(".")
    return "tflite" if start[offset:] == magic else suffix.removeprefix(".")


def default_runtime(format: str) -> RuntimeSpec:
    """Return the runtime that a format is measured with unless told otherwise. Raises ConfigError."""
    if format not in DEFAULT_RUNTIMES:
        known = ", ".join(f"`.{name}`" for name in DEFAULT_RUNTIMES)
        raise ConfigError(
            f"no runtime is known for format `{format or 'unknown'}`; known formats: {known}.",
            next_step="Name one with --runtime, or with `runtime` in the plan.",
        )
    return RuntimeSpec(DEFAULT_RUNTIMES[format])


def artifact_of(path: Path, name: str | None = None) -> Artifact:
    """Return the file as an Artifact, `name`d, or called as its file is. Raises ConfigError."""
    if not path.is_file():
        what = "is a folder, expected a model file" if path.is_dir() else "no such model file"
        raise ConfigError(f"{what}.", where=str(path), next_step="Check --model, or `path` in the plan.")
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size_bytes += len(chunk)
    except OSError as error:
        raise ConfigError(f"the model can't be read: {error.strerror}.", where=str(path)) from error
    return Artifact(name or path.name, path, digest.hexdigest(), size_bytes, format_of(path))


def resolve_case(model: PlanModel, *, from_plan: bool = True) -> ModelCase:
    """Return `model` with its file read and its runtime settled. Raises ConfigError for a missing file."""
    artifact = artifact_of(model.path, model.name)
    if model.inputs_path is not None and not model.inputs_path.is_file():
        raise ConfigError(f"no such inputs file; model `{model.name}` needs it", where=str(model.inputs_path))
    if model.golden_path is not None and not model.golden_path.is_file():
        raise ConfigError(f"no such golden file; model `{model.name}` needs it", where=str(model.golden_path))
    return ModelCase(
        artifact=artifact,
        runtime=model.runtime or default_runtime(artifact.format),
        inputs_path=model.inputs_path,
        task=model.task,
        variant=model.variant,
        base=model.base,
        shapes=model.shapes,
        rtol=model.rtol,
        atol=model.atol,
        from_plan=from_plan,
        golden_path=model.golden_path,
        memory_limit_bytes=model.memory_limit_bytes,
        server=model.server,
        periodic=model.periodic,
        multi_stream=model.multi_stream,
        options=model.options,
    )
