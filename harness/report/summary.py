"""The report's data as summary.json: a contract for CI, described by docs/summary.schema.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from harness.model import Comparison, DeviceFacts, Result
from harness.report.data import ReportData
from harness.store.codec import to_plain

SCHEMA_VERSION = 1


def summary(data: ReportData) -> dict[str, Any]:
    """Return summary.json's object. A number that is not finite is null, with a reason."""
    record = data.record
    devices = [_device(device) for device in data.devices]
    return {
        "schema_version": SCHEMA_VERSION,
        "session_id": record.session_id,
        "verdict": data.verdict.value,
        "exit_code": data.exit_code,
        "release": {
            "verdict": data.release.verdict.value,
            "missing": list(data.release.missing),
            "reasons": list(data.release.reasons),
        },
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "interrupted": record.interrupted,
        "device": devices[0] if devices else None,
        "devices": devices,
        "plan": record.plan_path,
        "harness_version": record.harness_version,
        "problems": list(data.problems),
        "budgets_toml": data.budgets_toml or None,
        "results": [_result(result) for result in data.results],
    }


def summary_json(data: ReportData) -> str:
    """Return summary.json's text."""
    return json.dumps(summary(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _device(device: DeviceFacts) -> Mapping[str, Any]:
    return {
        "name": device.name,
        "type": device.type,
        "kind": device.kind,
        "serial": device.serial,
        "platform": device.platform,
    }


_NUMBERS = ("value", "low", "high", "budget", "baseline", "ratio", "margin")


def _result(result: Result) -> Mapping[str, Any]:
    numbers = {name: getattr(result, name) for name in _NUMBERS}
    lost = [name for name, number in numbers.items() if number is not None and not math.isfinite(number)]
    reasons = [*result.reasons, *(f"{name} is {numbers[name]}, which JSON can't hold" for name in lost)]
    numbers.update(dict.fromkeys(lost))
    return {
        "run_id": result.run_id,
        "suite": result.suite,
        "test": result.test,
        "device": result.device_name,
        "model": result.model,
        "artifact_sha256": result.artifact_sha256,
        "runtime": result.runtime,
        "runtime_version": result.runtime_version,
        "scenario": result.scenario,
        "batch_size": result.batch_size,
        "threads": result.threads,
        "settings": to_plain(_settings(result.settings)),
        "metric": result.metric,
        "unit": result.unit,
        "direction": result.direction,
        "n": result.n,
        "fidelity": result.fidelity.value if result.fidelity else None,
        **numbers,
        "verdict": result.verdict.value,
        "reasons": reasons,
        **({"comparison": _comparison(result, result.comparison)} if result.comparison else {}),
    }


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings as each of its rows has them: a soak's lists and tables stay in run.json, and
    so do the networks of the calibration that an estimate rests on, and what was counted for it."""
    short = dict(settings)
    if isinstance(made := short.get("estimate"), Mapping):
        short["estimate"] = {k: v for k, v in made.items() if k not in ("points", "features")}
    if isinstance(soak := short.get("soak"), Mapping):
        short["soak"] = {k: v for k, v in soak.items() if not isinstance(v, list | tuple | Mapping)}
    return short


def _comparison(result: Result, c: Comparison) -> Mapping[str, Any]:
    """Return what a row that compares rests on; a number that is not finite is null, as in its row."""
    numbers = {"value": c.value, "low": c.low, "high": c.high, "margin": result.margin}
    finite = {
        name: number if number is not None and math.isfinite(number) else None
        for name, number in numbers.items()
    }
    return {
        "baseline_name": c.baseline_name,
        "effect": c.effect.value,
        **finite,
        "confidence": c.confidence,
        "method": c.method.value,
        "n": c.n,
    }
