"""What is asked for: budgets, margins, baselines, and the plan of a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.model.cases import PlanModel
from harness.model.runs import Measurement
from harness.model.soak import SoakSettings
from harness.model.words import Fidelity


@dataclass(frozen=True)
class Budget:
    """A limit for one metric of one model on one device type, a margin against its baseline, or both.

    `margin` is how much worse than the baseline it may be: relative for a ratio (0.01: 1% worse), in the
    metric's unit for a difference.
    """

    model: str
    device_type: str
    metric: str
    limit: float | None  # in the metric's unit
    fidelity: Fidelity = Fidelity.MEASURED
    rule: str = "confidence"  # or "point"
    scenario: str | None = None
    batch_size: int | None = None
    where: str = ""  # file and key, for messages
    margin: float | None = None
    fidelity_open: bool = False  # a test's own that names none: it overrides the plan's of each fidelity


@dataclass(frozen=True)
class RecordedNumber:
    """One measurement of a recorded baseline, and what may differ between the runs of one session."""

    run_id: str
    profile: str  # native, functional, timing
    governor: str | None
    measurement: Measurement  # its scenario is filled in
    doubts: tuple[str, ...] = ()  # conditions under which it doesn't count, as its run saw them


@dataclass(frozen=True)
class RecordedBaseline:
    """What a recorded baseline holds of one model on one unit: its numbers, and what they were taken with."""

    name: str  # of the baseline
    model: str  # the plan's name of it
    device_name: str
    device_type: str
    serial: str | None
    artifact_sha256: str
    artifact_format: str
    runtime: str
    runtime_version: str | None
    packages: tuple[str, ...]
    threads: int
    platform: str
    kernel: str | None
    session_id: str
    recorded_at: str  # ISO 8601, UTC: when the session was measured
    numbers: tuple[RecordedNumber, ...]
    artifact_file: str | None = None  # the copy's name in the baseline's folder; None: numbers alone

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return tuple(number.measurement for number in self.numbers)


@dataclass(frozen=True)
class Baseline:
    """What one candidate is compared with on one unit: a file to measure beside it, numbers, or both.

    `model` is set wherever there is a file, also a recorded baseline's: sharing of noise beats memory.
    """

    name: str  # as it was asked for
    model: PlanModel | None = None
    recorded: RecordedBaseline | None = None


@dataclass(frozen=True)
class CommandRuntime:
    """A runtime that the plan defines: an executable on the device (docs/agent-protocol.md, Commands)."""

    name: str
    argv: tuple[str, ...]  # `{model}` and `{threads}` are filled in
    protocol: str  # "json-lines" | "benchmark_model"
    formats: tuple[str, ...] = ()  # empty: any
    timeout_s: float | None = None  # longest wait for one answer


LATENCY = "latency"  # the one thing whose estimates a release may rest on, of its own accord


@dataclass(frozen=True)
class Plan:
    """release.toml: what must be measured, by what it is judged, and which fidelity counts."""

    path: Path | None
    models: tuple[PlanModel, ...] = ()
    device_types: tuple[str, ...] = ()  # that must be measured for a release
    required_suites: tuple[str, ...] = ()
    accepted_fidelity: tuple[Fidelity, ...] = (Fidelity.MEASURED, Fidelity.VIRTUAL)
    accepted_estimates: tuple[str, ...] = (LATENCY,)  # of what, though `estimated` isn't accepted as such
    budgets: tuple[Budget, ...] = ()
    runtimes: tuple[CommandRuntime, ...] = ()
    soak: SoakSettings = field(default_factory=SoakSettings)
    raw: Mapping[str, Any] = field(default_factory=dict)
