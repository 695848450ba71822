"""ncnn as a runtime, for the host: the files it reads and what a device needs. `adapter.py` runs there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import ConfigError
from harness.model import OptionValue
from harness.runtimes import RuntimeDescriptor

# the version that the shipped calibration `rpi4-ncnn` was counted with; another one's kernels may differ
VERSION = "1.0.20250503"


def requirements(version: str, python: str) -> Sequence[str]:
    """Return the wheels for the device. What else ncnn asks for serves its tools, which stay out."""
    return (f"ncnn=={version}",)


def files(path: Path, options: Mapping[str, OptionValue]) -> Sequence[Path]:
    """Return the .param and its .bin, which must be there unless `empty_weights` is set, else ConfigError."""
    if options.get("empty_weights"):
        return (path,)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ConfigError(
            f"ncnn's weights belong beside {path.name}, and there is no {weights.name}.",
            where=str(path),
            next_step="Put it there, or time the model without: --runtime-option empty_weights=true.",
        )
    return (path, weights)


DESCRIPTOR = RuntimeDescriptor(
    name="ncnn",
    formats=("param",),
    default_version=VERSION,
    requirements=requirements,
    adapter=Path(__file__).parent / "adapter.py",
    excludes=("model_zoo", "utils"),
    settable={"empty_weights": bool, "half_floats": bool},
    files=files,
)
