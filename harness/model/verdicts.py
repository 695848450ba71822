"""What is said of runs: results, releases, calibrations, and the session they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model.devices import DeviceFacts
from harness.model.plans import Budget
from harness.model.runs import Comparison
from harness.model.words import Fidelity, Verdict


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reasons: tuple[str, ...]
    budget: Budget | None = None


@dataclass(frozen=True)
class Result:
    """A measurement with its judgement: one row of summary.json and of the report's table."""

    run_id: str
    suite: str
    test: str
    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    device_name: str
    device_type: str
    scenario: str | None
    batch_size: int
    threads: int
    settings: Mapping[str, Any]
    metric: str
    unit: str
    direction: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    fidelity: Fidelity | None
    budget: float | None
    baseline: float | None  # of a row that compares: the baseline's value beside the candidate's
    ratio: float | None  # of a row that compares: the effect, a ratio or a difference
    margin: float | None
    verdict: Verdict
    reasons: tuple[str, ...]
    comparison: Comparison | None = None  # set in a row that compares


@dataclass(frozen=True)
class Release:
    """The release verdict and what is missing for a PASS."""

    verdict: Verdict
    missing: tuple[str, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detectable:
    """The smallest regression that a unit catches with 95% power in so much measuring time."""

    minutes: float
    ratio: float | None  # 0.013: a model 1.3% worse is called a FAIL; None: it can't be told
    extrapolated: bool  # from the spread seen, not from trials of that length


@dataclass(frozen=True)
class Calibration:
    """A against A on one unit: how often it would cry wolf, and what it would miss."""

    device: str
    taken_at: str  # ISO 8601, UTC
    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    fidelity: Fidelity
    margin: float
    trials: int
    false_fails: int
    inconclusives: int
    trial_s: float  # measuring time of one trial, median
    half_width_ratio: float  # median half-width of the 90% interval of the ratio (0.0015: ±0.15%)
    detectable: tuple[Detectable, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionRecord:
    """One pytest call: what was asked for, what it ran on, and its runs."""

    session_id: str
    started_at: str
    finished_at: str | None
    command: tuple[str, ...]
    plan_path: str | None
    plan: Mapping[str, Any]  # the plan as it was read, so that a report needs no other file
    devices: tuple[DeviceFacts, ...]
    harness_version: str
    interrupted: bool = False
    host: Mapping[str, Any] = field(default_factory=dict)
    calibrations: tuple[Calibration, ...] = ()  # of its devices, as they stood
