"""A soak's table → measurements, conditions and what the report needs of the judgement. Pure.

Coverage, calls and errors here; events in `policy`, slopes in `drift`, alerts in `alerts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.model import Condition, Fidelity, Measurement, Scope, SoakSettings, SoakTable
from harness.soak.alerts import Alert, evaluate
from harness.soak.drift import drift_settings, judge_drift
from harness.soak.policy import (
    DEFAULT,
    JudgedEvent,
    count_events,
    describe,
    event_conditions,
    judge_events,
)
from harness.soak.unseen import log_unread
from harness.stats.proportions import clopper_pearson
from harness.units import counted, format_duration, format_ratio

_MIN_GAP_RATIO = 0.01  # of a window: less is rounding


@dataclass(frozen=True)
class Judged:
    """What a soak amounts to. `settings` are keys of `run.settings["soak"]` (docs/soak-format.md)."""

    measurements: tuple[Measurement, ...]
    conditions: tuple[Condition, ...]
    reasons: tuple[str, ...]  # what a reader should know first, the gravest before the rest
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Coverage:
    """How much of a soak's time was observed."""

    expected_s: float
    observed_s: float
    gaps: tuple[Mapping[str, Any], ...]  # {"start_s", "end_s", "why"}

    @property
    def ratio(self) -> float:
        return min(1.0, self.observed_s / self.expected_s) if self.expected_s > 0 else 0.0


def judge_soak(
    table: SoakTable,
    settings: SoakSettings,
    *,
    ram_bytes: float | None,
    compressed: bool,
    fidelity: Fidelity,
    baseline: Sequence[Measurement] = (),
) -> Judged:
    """Return the judgement of a soak as far as its table goes.

    `fidelity` is that of the device's clock, `baseline` the measurements of a soak known to be good.
    A table without a window is INCONCLUSIVE, never a PASS; nothing here raises for what a soak did.
    """
    cover = coverage_of(table, settings)
    events = judge_events(table, settings)
    alerts = evaluate(table, settings, ram_bytes=ram_bytes)
    drifts = judge_drift(table, settings, ram_bytes=ram_bytes, fidelity=fidelity, baseline=baseline)
    measurements = (
        _coverage(cover, table, settings),
        *(m for stream in streams_of(table) for m in _calls(table, stream, settings)),
        *count_events(events, settings, table.start_s.size, log_unread(table)),
        *_alerts(alerts.fired, settings, table.start_s.size),
        *(m for drift in drifts for m in drift.measurements),
    )
    return Judged(
        measurements,
        (*event_conditions(events), *alerts.conditions, *_alarmed(alerts.fired, settings), *_records(table)),
        _reasons(cover, events, alerts.fired, table),
        {
            "compressed": compressed,
            "duration_s": cover.expected_s,
            "observed_s": cover.observed_s,
            "coverage_ratio": cover.ratio,
            "window_s": settings.window_s,
            "block_s": settings.block_s,
            "warmup_s": settings.warmup_s,
            "ended": table.ended,
            "events": [_event(j) for j in events],
            "gaps": [dict(gap) for gap in cover.gaps],
            "lives": [{"life": v.life, "start_s": v.start_s, "boot_id": v.boot_id} for v in table.lives],
            "alerts": [alert.row() for alert in alerts.fired],
            "drift": drift_settings(drifts),
        },
    )


def streams_of(table: SoakTable) -> tuple[str, ...]:
    """Return the streams, the first is the run's own model."""
    return tuple(table.latency)


# --- coverage -------------------------------------------------------------------------------------


def coverage_of(table: SoakTable, settings: SoakSettings) -> Coverage:
    """Return how much of the time asked for was observed, and what wasn't with its reason.

    Without a duration in `settings`, of the time that the soak took.
    """
    last = float(table.end_s.max()) if table.end_s.size else 0.0
    expected = settings.duration_s if settings.duration_s else last
    spans = sorted(zip(table.start_s.tolist(), table.end_s.tolist(), strict=True))
    reached = observed = 0.0
    gaps = []
    for start, end in spans:
        start, end = max(start, reached), min(end, expected)
        if start - reached > _MIN_GAP_RATIO * settings.window_s and reached < expected:
            until = min(start, expected)
            gaps.append({"start_s": reached, "end_s": until, "why": _why(table, reached, until)})
        observed += max(0.0, end - start)
        reached = max(reached, end)
    if expected - reached > _MIN_GAP_RATIO * settings.window_s:
        why = f"ended: {table.ended}" if table.ended else "nothing was collected"
        gaps.append({"start_s": reached, "end_s": expected, "why": why})
    return Coverage(expected, observed, tuple(gaps))


def _why(table: SoakTable, start_s: float, end_s: float) -> str:
    """Return why nothing was observed from `start_s` to `end_s`."""
    for life in table.lives:
        if life.gap_from != "start" and start_s < life.start_s + 1 and life.start_s - life.gap_s < end_s:
            rebooted = any(e.kind == "reboot" and e.life == life.life for e in table.events)
            return "reboot" if rebooted else "the runner was away"
    return "windows were lost" if table.missing_seq else "not observed"


def _coverage(cover: Coverage, table: SoakTable, settings: SoakSettings) -> Measurement:
    """Return the share observed. What wasn't may have been fine: its interval reaches up to 1."""
    reasons = []
    if not table.start_s.size:
        reasons.append("no window was observed")
    elif cover.ratio < settings.coverage_ratio:
        unseen = cover.expected_s - cover.observed_s
        longest = max(cover.gaps, key=lambda g: g["end_s"] - g["start_s"], default=None)
        most = f", most of it at {format_duration(longest['start_s'])}: {longest['why']}" if longest else ""
        reasons.append(f"{format_duration(unseen)} of {format_duration(cover.expected_s)} unseen{most}")
    return Measurement(
        "coverage_ratio",
        cover.ratio,
        cover.ratio,
        1.0,
        int(table.start_s.size),
        Fidelity.MEASURED,
        reasons=tuple(reasons),
        limit=settings.coverage_ratio,
        limit_rule="confidence",
    )


# --- calls ----------------------------------------------------------------------------------------


def _calls(table: SoakTable, stream: str, settings: SoakSettings) -> tuple[Measurement, ...]:
    """Return how many calls were seen, of which one at least is needed, and the share that failed."""
    first = stream == streams_of(table)[0]
    scenario = None if first else f"soak: {stream}"
    calls, errors = (_total(table, f"{stream}/{key}") for key in ("calls", "errors"))
    why = () if calls else (f"no call of `{stream}` was observed: nothing is known of it",)
    seen = Measurement(
        # of none it isn't known how many there were
        "soak_calls", float(calls), float(calls), float(calls) or None, int(table.start_s.size),
        Fidelity.MEASURED,
        scenario, reasons=why, limit=1.0, limit_rule="confidence",
    )  # fmt: skip
    return seen, _error_ratio(calls, errors, scenario, settings)


def _total(table: SoakTable, name: str) -> int:
    values = table.channels.get(name)
    return int(np.nansum(values)) if values is not None else 0


def _error_ratio(calls: int, errors: int, scenario: str | None, settings: SoakSettings) -> Measurement:
    metric, limit = "call_error_ratio", 1 - settings.availability_ratio
    if not calls:
        return Measurement(
            metric, None, None, None, 0, Fidelity.MEASURED, scenario, reasons=("no call was observed",)
        )
    errors = min(errors, calls)
    low, high = clopper_pearson(errors, calls)
    reasons: tuple[str, ...] = ()
    judged: float | None = limit
    if not errors and high > limit:
        # 0 of n: the upper bound is 1 − 0.05^(1/n)
        needed = math.ceil(math.log(0.05) / math.log1p(-limit)) if 0 < limit < 1 else None
        shown = format_ratio(settings.availability_ratio, 4)
        reasons = (
            f"not judged: none of {counted(calls, 'call')} failed, and {shown} takes "
            f"{f'{needed} of them' if needed else 'more than any number'} to show",
        )
        judged = None
    return Measurement(
        metric, errors / calls, low, high, calls, Fidelity.MEASURED, scenario, reasons=reasons,
        limit=judged, limit_rule="confidence",
    )  # fmt: skip


# --- the rest -------------------------------------------------------------------------------------


def _alerts(fired: Sequence[Alert], settings: SoakSettings, windows: int) -> tuple[Measurement, ...]:
    policy = {**DEFAULT, **settings.policy}["alert"]
    number = float(len(fired))
    reasons = (f"the first {fired[0].describe()}",) if fired else ()
    limit = 0.0 if policy == "fail" else None
    return (
        Measurement(
            "alerts_fired", number, number, number, windows, Fidelity.MEASURED, reasons=reasons, limit=limit
        ),
    )


def _alarmed(fired: Sequence[Alert], settings: SoakSettings) -> tuple[Condition, ...]:
    """Return a breached condition where the policy says that an alert invalidates what is timed."""
    if not fired or settings.policy.get("alert") != "invalid":
        return ()
    seen = f"{len(fired)} fired, the first {fired[0].describe()}"
    return (Condition("soak: alerts", seen, "none", False, "See what caused it.", Scope.ABSOLUTE),)


def _records(table: SoakTable) -> tuple[Condition, ...]:
    """Return what is known of records lost or double; nothing where all are there once."""
    found = []
    if table.missing_seq:
        found.append(
            Condition(
                "soak: records lost",
                f"{len(table.missing_seq)} of {table.last_seq}",
                "none",
                None,  # what was in them counts as unseen, in coverage_ratio
                "See segment_damaged among the events.",
            )
        )
    if table.doubled_seq:
        found.append(
            Condition("soak: records double", f"{len(table.doubled_seq)}, counted once", "none", None)
        )
    return tuple(found)


def _event(judged: JudgedEvent) -> dict[str, Any]:
    e = judged.event
    return {
        "t_s": e.t_s,
        "source": e.source,
        "kind": e.kind,
        "stream": e.stream,
        "text": e.text,
        "judged": judged.judged,
    }


def _reasons(
    cover: Coverage, events: Sequence[JudgedEvent], fired: Sequence[Alert], table: SoakTable
) -> tuple[str, ...]:
    lines = []
    if not table.start_s.size:
        lines.append("no window was observed")
    failing = [j.event for j in events if j.judged == "FAIL"]
    if failing:
        count = counted(len(failing), "event that fails it", "events that fail it")
        lines.append(f"{count}, the first {describe(failing[0])}")
    lines += [f"alert {alert.describe()}" for alert in fired[:1]]
    if table.ended is None:
        lines.append("it hasn't ended, as far as was collected")
    elif table.ended != "duration":
        lines.append(f"it ended early: {table.ended}")
    if cover.expected_s > 0:
        said = f"{format_duration(cover.observed_s)} of {format_duration(cover.expected_s)} observed"
        lines.append(said)
    return tuple(lines)
