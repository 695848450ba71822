"""Which runtimes there are: what we ship, what installed packages bring, what a plan names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import model_files
from harness.errors import ConfigError, nearest
from harness.model import CommandRuntime, OptionValue, PlanModel, RuntimeSpec

ENTRY_POINT_GROUP = "harness.runtimes"


@dataclass(frozen=True)
class RuntimeDescriptor:
    """A runtime as the host knows it.

    `requirements` maps (version, python) to pip requirements, complete: nothing else is resolved.
    `adapter` names a built-in adapter, or is the path of a module that travels with the environment.
    `options` are passed to the adapter's `load`; `settable` names those that a user may set, with their types
    (bool, int, float or str). `excludes` are path parts left out of the environment. `files`, of a format of
    several files, maps the model's own and the options that the user set to all files that go to the device
    side by side; it may raise ConfigError.
    """

    name: str
    formats: tuple[str, ...]
    default_version: str | None
    requirements: Callable[[str, str], Sequence[str]]
    adapter: str | Path
    options: Mapping[str, Any] = field(default_factory=dict)
    excludes: tuple[str, ...] = ("tests", "test")
    settable: Mapping[str, type] = field(default_factory=dict)
    files: Callable[[Path, Mapping[str, OptionValue]], Sequence[Path]] | None = None


def _numpy_2(python: str) -> str:
    # numpy 2.4 needs Python 3.11; 2.0.2 is the last with 3.9 wheels
    return "numpy==2.4.6" if tuple(map(int, python.split("."))) >= (3, 11) else "numpy==2.0.2"


def _onnxruntime(version: str, python: str) -> Sequence[str]:
    # builds before 1.19 were compiled against numpy 1 (their release notes)
    old = tuple(int(x) for x in re.findall(r"\d+", version)[:2]) < (1, 19)
    return (f"onnxruntime=={version}", "numpy==1.26.4" if old else _numpy_2(python))


def _litert(version: str, python: str) -> Sequence[str]:
    # the interpreter imports these three beside itself; the rest of its requirements serve converters
    return (f"ai-edge-litert=={version}", _numpy_2(python), "flatbuffers", "backports.strenum")


def _tflite_runtime(version: str, python: str) -> Sequence[str]:
    # compiled against numpy 1 but declares no upper bound
    return (f"tflite-runtime=={version}", "numpy==1.26.4")


def _nothing(version: str, python: str) -> Sequence[str]:
    return ()


BUILT_IN: dict[str, RuntimeDescriptor] = {
    d.name: d
    for d in (
        RuntimeDescriptor(
            "onnxruntime",
            ("onnx",),
            "1.31.1",
            _onnxruntime,
            "onnxruntime",
            excludes=("tests", "test", "transformers", "quantization", "tools", "datasets"),
            settable={"graph_optimization_level": str},
        ),
        RuntimeDescriptor("litert", ("tflite",), "2.3.0", _litert, "litert"),
        RuntimeDescriptor("tflite-runtime", ("tflite",), "2.14.0", _tflite_runtime, "tflite_runtime"),
        RuntimeDescriptor("command", ("onnx", "tflite", "other"), None, _nothing, "command"),
    )
}


def descriptors(own: Sequence[CommandRuntime] = ()) -> dict[str, RuntimeDescriptor]:
    """Return every known runtime by name: built in, then by entry point, then the plan's `own`.

    None replaces one before it. Raises ConfigError for an entry point that doesn't give one.
    """
    known = dict(BUILT_IN)
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in known:
            known[point.name] = _installed(point)
    for command in own:
        known.setdefault(command.name, _command_descriptor(command))
    return known


def _installed(point: metadata.EntryPoint) -> RuntimeDescriptor:
    """Return the descriptor that an installed package has at its entry point. Raises ConfigError."""
    package = point.dist.name if point.dist else point.value
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 (whatever a foreign module raises while it is imported)
        problem = f"can't be imported: {type(error).__name__}: {error}"
    else:
        if isinstance(found, RuntimeDescriptor) and found.name == point.name:
            return found
        named = f" called `{found.name}`" if isinstance(found, RuntimeDescriptor) else ""
        problem = f"is a {type(found).__name__}{named}, expected a RuntimeDescriptor called `{point.name}`"
    raise ConfigError(
        f"runtime `{point.name}` of the installed package {package} can't be used: {point.value} {problem}.",
        next_step=f"Mend the package or remove it: pip uninstall {package}.",
    )


def _command_descriptor(command: CommandRuntime) -> RuntimeDescriptor:
    options: dict[str, Any] = {"argv": list(command.argv), "protocol": command.protocol}
    if command.timeout_s is not None:
        options["timeout_s"] = command.timeout_s
    formats = command.formats or BUILT_IN["command"].formats
    return RuntimeDescriptor(command.name, formats, None, _nothing, "command", options)


def descriptor(spec: RuntimeSpec, model_format: str, own: Sequence[CommandRuntime] = ()) -> RuntimeDescriptor:
    """Return the runtime called `spec.name`. Raises ConfigError: unknown, or not for this format."""
    known = descriptors(own)
    found = known.get(spec.name)
    if found is None:
        raise ConfigError(f"unknown runtime `{spec.name}`{nearest(spec.name, known)}")
    if spec.name == "command":
        raise ConfigError(
            "runtime `command` doesn't say which executable to run.",
            next_step="Give it a name and an `argv` in the plan: [runtimes.NAME] (docs/configuration.md).",
        )
    if found.adapter == "command" and spec.version:
        raise ConfigError(f"runtime `{spec.name}` is an executable on the device; it takes no version")
    if not runs_format(found, model_format):
        able = sorted(n for n, d in known.items() if n != "command" and runs_format(d, model_format))
        raise ConfigError(
            f"runtime `{spec.name}` runs {' and '.join(found.formats)}, not {model_format}; "
            f"runtimes for it: {', '.join(able) or 'none'}"
        )
    return found


def settled(model: PlanModel) -> PlanModel:
    """Return `model` with its runtime where it names none and its format is one installed runtime's alone.

    What we ship has defaults by format (`model_files`); this is for formats that others bring.
    """
    if model.runtime is not None:
        return model
    format = model_files.format_of(model.path)
    if format in model_files.DEFAULT_RUNTIMES:
        return model
    fitting = [name for name, found in descriptors().items() if format in found.formats]
    return replace(model, runtime=RuntimeSpec(fitting[0])) if len(fitting) == 1 else model


def runs_format(found: RuntimeDescriptor, model_format: str) -> bool:
    """Return whether this runtime is for files of this format."""
    return model_format in found.formats or "other" in found.formats
