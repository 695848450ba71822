"""ncnn as a runtime, for the host: the files it reads and what a device needs. `adapter.py` runs there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.runtimes import RuntimeDescriptor

# the version that the shipped calibration `rpi4-ncnn` was counted with; another one's kernels may differ
VERSION = "1.0.20250503"


def requirements(version: str, python: str) -> Sequence[str]:
    """Return the wheels for the device. What else ncnn asks for serves its tools, which stay out."""
    return (f"ncnn=={version}",)


DESCRIPTOR = RuntimeDescriptor(
    name="ncnn",
    formats=("param",),
    default_version=VERSION,
    requirements=requirements,
    adapter=Path(__file__).parent / "adapter.py",
    excludes=("model_zoo", "utils"),
    settable={"empty_weights": bool},
)
