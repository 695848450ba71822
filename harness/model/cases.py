"""A model: its file, its inputs and outputs, and all that is needed to measure it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.model.soak import SoakLoad

OptionValue = bool | int | float | str  # of a runtime's option


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. `shape` holds an int, or None where the model leaves it open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str  # numpy's name: float32, int8, …


@dataclass(frozen=True)
class Signature:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class RuntimeSpec:
    """A runtime and, where pinned, its build: `onnxruntime==1.20.1`."""

    name: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" if self.version else self.name


@dataclass(frozen=True)
class Artifact:
    """One model file by its SHA-256."""

    name: str  # the model's name in the plan, or the file's name
    path: Path
    sha256: str
    size_bytes: int
    format: str  # "onnx" | "tflite" | …
    files: tuple[
        str, ...
    ] = ()  # of a bundle (harness/bundles.py): the names of its files, the model's own first
    sources: tuple[Path, ...] = ()  # and where they were packed from, if it was here
    files_bytes: int = 0  # and their sizes together: the archive around them is not the model's

    @property
    def model_bytes(self) -> int:
        """Return the size of the model as its user knows it."""
        return self.files_bytes or self.size_bytes


@dataclass(frozen=True)
class ServerLoad:
    """Requests that arrive at random, open loop: at a rate, or at the highest that keeps a p99.

    Exactly one of `rate_per_s` and `p99_ns` is set.
    """

    rate_per_s: float | None = None
    p99_ns: float | None = None
    duration_s: float | None = None  # of each rate that is tried; None: as the samples need


@dataclass(frozen=True)
class PeriodicLoad:
    """A frame each `period_ns`, which must be done `deadline_ns` after it was due."""

    period_ns: float
    deadline_ns: float


@dataclass(frozen=True)
class MultiStreamLoad:
    samples_per_query: int  # that come at once; a query ends with the last


@dataclass(frozen=True)
class ModelCase:
    """A model with all that is needed to measure it: what the plan says, or what options gave."""

    artifact: Artifact
    runtime: RuntimeSpec
    inputs_path: Path | None = None  # .npz keyed by input name, first axis samples; `labels` beside
    task: str | None = None  # task metric, e.g. "accuracy"; None: agreement only
    variant: str | None = None  # "fp32", "int8-static", …
    base: str | None = None  # name of the model this is a variant of
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rtol: float | None = None  # None: by precision
    atol: float | None = None
    from_plan: bool = True
    golden_path: Path | None = None  # .npz with the outputs that its runtime gave once
    memory_limit_bytes: int | None = None  # of the cgroup that its process runs in
    server: ServerLoad | None = None
    periodic: PeriodicLoad | None = None
    multi_stream: MultiStreamLoad | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict)  # of the runtime, as the user set them

    @property
    def name(self) -> str:
        return self.artifact.name


@dataclass(frozen=True)
class PlanModel:
    """A model as release.toml names it; nothing has been read from its file yet."""

    name: str
    path: Path
    runtime: RuntimeSpec | None = None  # None: by the file's format
    inputs_path: Path | None = None
    task: str | None = None
    variant: str | None = None
    base: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rtol: float | None = None
    atol: float | None = None
    golden_path: Path | None = None
    memory_limit_bytes: int | None = None
    server: ServerLoad | None = None
    periodic: PeriodicLoad | None = None
    multi_stream: MultiStreamLoad | None = None
    soak: SoakLoad | None = None  # None: the plan has no table `soak` for it
    baseline: str | None = None  # what it is compared with, unless --baseline says otherwise
    options: Mapping[str, OptionValue] = field(default_factory=dict)  # of its runtime
