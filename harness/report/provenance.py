"""Runs, devices and artifacts as the page shows them: every attempt, its conditions, what it rests on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.model import Condition, DeviceFacts, Run, Scope
from harness.report.data import ReportData
from harness.report.estimates import estimate_facts
from harness.report.wording import Badge, runtime_of, when
from harness.units import counted, format_duration, format_quantity

_MAX_LOG_CHARACTERS = 8_000  # of each run's log, its end; log.txt has the whole


@dataclass(frozen=True)
class ConditionView:
    name: str
    observed: str
    expected: str
    state: Badge
    remedy: str


@dataclass(frozen=True)
class RunView:
    id: str
    run_id: str
    title: str
    attempt: str
    outcome: Badge
    duration: str
    envelope: str
    message: str
    conditions: tuple[ConditionView, ...]
    facts: tuple[tuple[str, str], ...]
    log: str


_OUTCOMES = {
    "completed": Badge("completed", "o-done", "✓"),
    "model_rejected": Badge("model rejected", "v-fail", "✕"),
    "infra_error": Badge("infra error", "v-infra_error", "⚡"),
    "invalid": Badge("invalid", "v-invalid", "!"),
    "skipped": Badge("skipped", "v-not_judged", "–"),
    "interrupted": Badge("interrupted", "v-invalid", "!"),
    "usage_error": Badge("usage error", "v-invalid", "!"),
}
STATES = {
    True: Badge("ok", "o-done", "✓"),
    False: Badge("violated", "v-fail", "✕"),
    None: Badge("not observable", "v-not_judged", "–"),
}


def run_view(number: int, run: Run) -> RunView:
    """Return one attempt with its conditions, settings and the end of its log."""
    error = f"{run.error.slug}: {run.error.message}" if run.error else run.reason or ""
    retries = (
        f" after {counted(run.error.retries, 'retry', 'retries')}" if run.error and run.error.retries else ""
    )
    return RunView(
        id=run_anchor(number),
        run_id=run.run_id,
        title=run_title(run),
        attempt=f"attempt {run.attempt}",
        outcome=_OUTCOMES[run.outcome.value],
        duration=format_duration(run.duration_s),
        envelope=_envelope(run.conditions),
        message=error + retries,
        conditions=tuple(
            ConditionView(c.name, c.observed, c.expected, STATES[c.ok], _what_to_do(c))
            for c in run.conditions
        ),
        facts=(
            ("test", run.test),
            ("started", when(run.started_at)),
            ("artifact sha256", run.artifact_sha256 or "–"),
            ("runtime", runtime_of(run)),
            ("threads", str(run.threads)),
            *(
                (f"setting {key}", _plain(value, key))
                for key, value in run.settings.items()
                if key not in ("soak", "estimate")
            ),
            *estimate_facts(run.settings.get("estimate")),
            *(
                (
                    f"series {s.name}, {s.arm or f'batch {s.batch_size}'}",
                    f"{counted(s.values.size, 'sample')}, {s.clock or 'no clock'}",
                )
                for s in run.series
            ),
        ),
        log=run.log[-_MAX_LOG_CHARACTERS:],
    )


def _what_to_do(c: Condition) -> str:
    """Return what a breached condition asks for, and how far it reaches; "" where it held."""
    if c.ok is not False:
        return ""
    return f"Absolute numbers only. {c.remedy}".strip() if c.scope is Scope.ABSOLUTE else c.remedy


def run_anchor(number: int) -> str:
    """Return the id of the `number`th run's details, counted from 1."""
    return f"run-{number}"


def run_title(run: Run) -> str:
    return " · ".join(filter(None, (_kind_of_run(run), run.model, run.device.name)))


def _kind_of_run(run: Run) -> str:
    scenario = f", {run.scenario.replace('_', ' ')}" if run.scenario else ""
    return f"{run.suite}{scenario}{', against the baseline' if run.comparisons else ''}"


def _envelope(conditions: Sequence[Condition]) -> str:
    if not conditions:
        return "no conditions recorded"
    counts = [(sum(c.ok is state for c in conditions), STATES[state].word) for state in (False, True, None)]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def session_facts(data: ReportData) -> tuple[tuple[str, str], ...]:
    record = data.record
    return (
        ("session", record.session_id),
        ("command", " ".join(record.command)),
        ("started", when(record.started_at)),
        ("finished", when(record.finished_at) if record.finished_at else "never"),
        ("plan", record.plan_path or "none"),
        ("harness", record.harness_version),
        *((f"host {key}", _plain(value, key)) for key, value in record.host.items()),
    )


def device_facts(device: DeviceFacts) -> tuple[tuple[str, str], ...]:
    return (
        ("type", device.type),
        ("kind", kind_of(device)),
        ("serial", device.serial or "not observable"),
        ("platform", device.platform),
        *((_label(key), _plain(value, key)) for key, value in device.details.items() if key != "serial"),
    )


def kind_of(device: DeviceFacts) -> str:
    names: Mapping[str, str] = {"qemu": "emulated", "ssh": "over SSH", "local": "this host"}
    return f"{device.type}, {names.get(device.kind, device.kind)}"


def artifacts(runs: Iterable[Run]) -> tuple[tuple[str, str, str, str], ...]:
    """Return (model, sha256, runtime, packages) of each distinct combination that was run."""
    rows = dict.fromkeys(
        (
            run.model,
            run.artifact_sha256 or "–",
            runtime_of(run),
            _plain(run.settings.get("runtime_packages", "–")),
        )
        for run in runs
    )
    return tuple(rows)


def _label(key: str) -> str:
    """Return a fact's name in words; the unit that ends it stands with the value."""
    return re.sub(r"_(bytes|ns|s)$", "", key).replace("_", " ")


def _plain(value: Any, name: str = "") -> str:
    """Return a fact in words; a number whose name ends with its unit reads with that unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        for ending, unit in (("_bytes", "bytes"), ("_ns", "ns")):
            if name.endswith(ending):
                return format_quantity(value, unit)
        if name.endswith("_s") and not name.endswith("_per_s") and math.isfinite(value):
            return format_duration(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, Mapping) and all(isinstance(v, str | int | float) for v in value.values()):
        return "; ".join(f"{_label(str(key))}: {_plain(v, str(key))}" for key, v in value.items()) or "none"
    return "not known" if value is None else json.dumps(value, ensure_ascii=False, default=str)
