"""What a run brought back: series, measurements, comparisons and the conditions they met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.model.devices import DeviceFacts
from harness.model.words import Effect, Fidelity, Method, Outcome, Scope


@dataclass(frozen=True)
class Series:
    """Raw samples of one quantity, in the order they were taken; warm-up excluded.

    `values` has shape (n,). `process` numbers the fresh process each sample came from, same shape.
    """

    name: str  # with its unit: "latency_ns"
    unit: str
    values: npt.NDArray[Any]
    process: npt.NDArray[np.int32]
    clock: str | None = None  # "CLOCK_MONOTONIC" …
    batch_size: int = 1
    arm: str = ""  # of a comparison: "candidate" or "baseline"
    block: npt.NDArray[np.int32] | None = None  # of its process, that each sample is in; same shape


# a reason of a measurement: its interval knows nothing of what differs between processes, or days
WITHIN_ONE_PROCESS = "interval: within one process"


@dataclass(frozen=True)
class Measurement:
    """One number with its interval, before any judgement.

    `low` and `high` bound `value` with 90% two-sided confidence; None where no bound can be given (the
    reason says why). Missing values are None with a reason, never 0.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    fidelity: Fidelity
    scenario: str | None = None  # single_stream, offline …
    batch_size: int = 1
    reasons: tuple[str, ...] = ()
    limit: float | None = None  # a limit that belongs to the measurement itself, e.g. a tolerance
    limit_rule: str = "point"  # how that one is held: "point" by the value, "confidence" by the interval


@dataclass(frozen=True)
class Condition:
    """One line of the validity envelope. `ok` is None where the device can't show it."""

    name: str
    observed: str
    expected: str
    ok: bool | None
    remedy: str = ""
    scope: Scope = Scope.ALL


@dataclass(frozen=True)
class Comparison:
    """A candidate's metric against its baseline's, with the interval of their effect; not judged yet.

    `low` and `high` bound `value` (a ratio, or a difference in the metric's unit) with two-sided
    `confidence`: 90%, or more where several looks were declared. The interval is symmetric on the log scale
    for a ratio, with `df` degrees of freedom (None: normal). `invalid` says why it must not be judged.
    """

    metric: str
    effect: Effect
    value: float | None
    low: float | None
    high: float | None
    n: int  # pairs of blocks, pairs of fresh processes, or samples
    fidelity: Fidelity
    method: Method
    candidate: float | None  # in the metric's unit, as seen in this comparison
    baseline: float | None
    baseline_name: str  # as it was asked for
    scenario: str | None = None
    batch_size: int = 1
    confidence: float = 0.9
    df: float | None = None
    reasons: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorRecord:
    """An error as it is stored: its slug in docs/errors.md, its text, how often it was retried."""

    slug: str
    message: str
    retries: int = 0


@dataclass(frozen=True)
class Run:
    """One device × artifact × runtime × settings, one attempt."""

    run_id: str
    session_id: str
    attempt: int
    suite: str  # deploy, accuracy, latency, memory …
    test: str  # pytest's node id
    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    device: DeviceFacts
    threads: int
    settings: Mapping[str, Any]
    started_at: str  # ISO 8601, UTC
    duration_s: float
    outcome: Outcome
    scenario: str | None = None
    error: ErrorRecord | None = None
    reason: str | None = None  # why skipped or invalid
    conditions: tuple[Condition, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    series: tuple[Series, ...] = ()
    log: str = ""
    comparisons: tuple[Comparison, ...] = ()
