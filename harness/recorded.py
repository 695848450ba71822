"""A run's numbers against a recorded baseline's, from memory. Pure.

Nothing was measured side by side here: what must match for such numbers to compare is checked, and what
doesn't makes the comparison INVALID. Where a recorded baseline's file is still there, it is measured beside
the candidate instead. Files and folders are `baselines`' job.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness import stats
from harness.judging import plan_name
from harness.metrics import ESTIMATES, METRICS, SOAK_METRICS, TIMED_KINDS, Metric
from harness.model import (
    WITHIN_ONE_PROCESS,
    Comparison,
    Effect,
    Fidelity,
    Measurement,
    Method,
    RecordedBaseline,
    RecordedNumber,
    Run,
)

# judged by a tolerance or a limit of their own in each run, or degrees: a ratio of two of them says nothing
NOT_COMPARED = frozenset(
    {r.name for r in METRICS.values() if r.kind == "agreement" or r.unit == "°C" or r.name == "oom_kills"}
    | SOAK_METRICS
)
FROM_MEMORY = "from memory"
MAX_AMBIENT_DIFFERENCE_C = 2.0  # between two thermal runs (chosen: a tenth of what a board warms by)
EXACT_KIND = "size"  # what no device and no build changes

Key = tuple[str, str | None, int]


def facts_of(runs: Sequence[Run], name: str = "", artifact_format: str = "") -> RecordedBaseline:
    """Return what `runs`, at least one, of one model on one unit amount to: their facts and numbers.

    Of a metric that several runs measured, the last of them counts.
    """
    last = runs[-1]
    numbers: dict[Key, RecordedNumber] = {}
    for run in runs:
        governor = run.settings.get("governor")
        profile = str(run.settings.get("profile", "native"))
        for m in run.measurements:
            if m.metric in ESTIMATES.values():
                continue  # it follows from the virtual number, which is there, and from a calibration
            number = RecordedNumber(
                run.run_id, profile, str(governor) if governor else None, _scoped(m, run), _doubts(m, run)
            )
            numbers[key_of(number.measurement)] = number
    kernel = last.device.details.get("kernel")
    packages = next((p for run in runs if (p := run.settings.get("runtime_packages"))), ())
    return RecordedBaseline(
        name=name,
        model=plan_name(last.model),
        device_name=last.device.name,
        device_type=last.device.type,
        serial=last.device.serial,
        artifact_sha256=last.artifact_sha256,
        artifact_format=artifact_format,
        runtime=last.runtime,
        runtime_version=last.runtime_version,
        packages=tuple(str(p) for p in packages),
        threads=last.threads,
        platform=last.device.platform,
        kernel=str(kernel) if kernel else None,
        session_id=last.session_id,
        recorded_at=last.started_at,
        numbers=tuple(numbers.values()),
    )


def _scoped(m: Measurement, run: Run) -> Measurement:
    return replace(m, scenario=m.scenario or run.scenario)


def _doubts(m: Measurement, run: Run) -> tuple[str, ...]:
    """Return the conditions under which a time of its run doesn't count: observed, expected."""
    row = METRICS.get(m.metric)
    if row is None or row.kind not in TIMED_KINDS:
        return ()
    return tuple(f"{c.name}: {c.observed}, expected {c.expected}" for c in run.conditions if c.ok is False)


def key_of(m: Measurement) -> Key:
    """Return what two measurements share that compare."""
    return (m.metric, m.scenario, m.batch_size)


def recorded_problems(recorded: RecordedBaseline, current: RecordedBaseline) -> tuple[str, ...]:
    """Return what keeps any number of `recorded` from being compared with `current`'s: observed, expected."""
    rows: list[tuple[str, object, object]] = [
        ("device unit", current.device_name, recorded.device_name),
        ("platform", current.platform, recorded.platform),
        ("runtime", _build(current), _build(recorded)),
        ("runtime packages", _listed(current.packages), _listed(recorded.packages)),
        ("threads", current.threads, recorded.threads),
    ]
    if current.device_name == recorded.device_name and None not in (current.serial, recorded.serial):
        rows.insert(1, ("serial number", current.serial, recorded.serial))
    return tuple(_differs(what, now, then) for what, now, then in rows if now != then)


def number_problems(recorded: RecordedNumber, current: RecordedNumber) -> tuple[str, ...]:
    """Return what keeps one number from being compared with the recorded one, beside the device and build."""
    rows: list[tuple[str, object, object]] = [
        ("profile", current.profile, recorded.profile),
        ("fidelity", current.measurement.fidelity, recorded.measurement.fidelity),
    ]
    row = METRICS.get(current.measurement.metric)
    if row is not None and row.kind in TIMED_KINDS:
        rows.append(("governor", current.governor or "not shown", recorded.governor or "not shown"))
    return tuple(_differs(what, now, then) for what, now, then in rows if now != then)


def compare_recorded(run: Run, recorded: RecordedBaseline) -> tuple[Comparison, ...]:
    """Return each of the run's numbers that compare against `recorded`'s, in the run's order.

    One that the baseline lacks has no value and says so; what can't be compared is in `invalid`.
    """
    current = facts_of([run])
    return compare_facts(current, recorded, recorded_problems(recorded, current))


def compare_facts(
    current: RecordedBaseline, recorded: RecordedBaseline, problems: tuple[str, ...]
) -> tuple[Comparison, ...]:
    """Return `current`'s numbers against `recorded`'s, all under `problems` but those of exact metrics."""
    there = {key_of(n.measurement): n for n in recorded.numbers}
    ambient = _ambient_problems(current, recorded)
    return tuple(
        _comparison(
            number,
            there.get(key_of(number.measurement)),
            recorded,
            (*problems, *ambient) if METRICS[number.measurement.metric].kind == "thermal" else problems,
        )
        for number in current.numbers
        if number.measurement.metric in METRICS and number.measurement.metric not in NOT_COMPARED
    )


def _ambient_problems(current: RecordedBaseline, recorded: RecordedBaseline) -> tuple[str, ...]:
    """Return what keeps thermal runs of two ambients apart; one that nobody saw may be any."""
    now, then = (_ambient_c(facts) for facts in (current, recorded))
    if now is None or then is None:
        side = "now" if now is None else "when it was recorded"
        return (f"ambient temperature is unknown {side}: set thermal.ambient_temp",)
    if abs(now - then) <= MAX_AMBIENT_DIFFERENCE_C:
        return ()
    return (
        f"ambient temperature is {now:.1f} °C, expected {then:.1f} °C as recorded, "
        f"±{MAX_AMBIENT_DIFFERENCE_C:g} °C",
    )


def _ambient_c(facts: RecordedBaseline) -> float | None:
    seen = (m.value for m in facts.measurements if m.metric == "ambient_temp_c")
    return next((value for value in seen if value is not None), None)


def _comparison(
    number: RecordedNumber,
    other: RecordedNumber | None,
    recorded: RecordedBaseline,
    problems: tuple[str, ...],
) -> Comparison:
    m, row = number.measurement, METRICS[number.measurement.metric]
    effect = Effect.DIFFERENCE if row.unit == "ratio" else Effect.RATIO
    value, low, high, reasons = None, None, None, _missing(m, recorded)
    if other is not None:
        value, low, high, reasons = _effect(m, other.measurement, effect, row)
        if value is not None:
            reasons = (
                *reasons,
                f"{FROM_MEMORY}: recorded {recorded.recorded_at[:10]}, not measured beside it",
            )
    invalid: tuple[str, ...] = ()
    if other is not None and row.kind != EXACT_KIND:
        doubts = (f"in {recorded.name}, {doubt}" for doubt in other.doubts)
        invalid = (*problems, *number_problems(other, number), *doubts)
    return Comparison(
        metric=m.metric,
        effect=effect,
        value=value,
        low=low,
        high=high,
        n=m.n,
        fidelity=m.fidelity,
        method=Method.RECORDED,
        candidate=m.value,
        baseline=other.measurement.value if other else None,
        baseline_name=recorded.name,
        scenario=m.scenario,
        batch_size=m.batch_size,
        reasons=reasons,
        invalid=invalid,
        settings={"baseline_session": recorded.session_id, "baseline_run": other.run_id if other else None},
    )


def _missing(m: Measurement, recorded: RecordedBaseline) -> tuple[str, ...]:
    scope = ", ".join(filter(None, (m.scenario, f"batch {m.batch_size}" if m.batch_size > 1 else "")))
    what = f"{m.metric} ({scope})" if scope else m.metric
    return (f"baseline `{recorded.name}` holds no {what} of {recorded.model} on {recorded.device_name}",)


def _effect(
    m: Measurement, other: Measurement, effect: Effect, row: Metric
) -> tuple[float | None, float | None, float | None, tuple[str, ...]]:
    """Return (value, low, high, reasons) of the effect; bounds are None where either side lacks one."""
    if m.value is None or other.value is None:
        side, reasons = ("the candidate", m.reasons) if m.value is None else ("the baseline", other.reasons)
        return None, None, None, (f"{side} has no {m.metric}", *reasons)
    if not (math.isfinite(m.value) and math.isfinite(other.value)):
        return None, None, None, (f"{m.value:g} against {other.value:g} can't be compared",)
    if effect is Effect.RATIO and (m.value <= 0 or other.value <= 0):
        return None, None, None, (f"{m.value:g} against {other.value:g} has no ratio",)
    value = m.value / other.value if effect is Effect.RATIO else m.value - other.value
    if row.kind == EXACT_KIND:
        return value, value, value, ()
    if m.low is None or m.high is None or other.low is None or other.high is None:
        side = "the candidate" if m.low is None or m.high is None else "the baseline"
        return value, None, None, (f"{side} has no interval on both sides",)
    for name, x in (("the candidate", m), ("the baseline", other)):
        if x.fidelity is not Fidelity.VIRTUAL and WITHIN_ONE_PROCESS in x.reasons:
            # the same file in the next process is off by more than such an interval says
            return value, None, None, (f"{name}'s interval is within one process, and these are of two",)
        assert x.low is not None
        assert x.high is not None
        assert x.value is not None
        if not (x.low <= x.value <= x.high and math.isfinite(x.high - x.low)):
            return value, None, None, (f"{name}'s interval isn't around its value",)
        if effect is Effect.RATIO and x.low <= 0:
            return value, None, None, (f"{name}'s interval reaches 0, so it has no ratio",)
    bounds = (m.value, m.low, m.high, other.value, other.low, other.high)
    if effect is Effect.RATIO:
        return (*stats.mover_ratio_interval(*bounds), ())
    return (value, *_difference_interval(*bounds), ())


def _difference_interval(
    a: float, a_low: float, a_high: float, b: float, b_low: float, b_high: float
) -> tuple[float, float]:
    """Return the interval of a − b of two independent estimates from their own.

    MOVER-D, the square-and-add of Newcombe's method 10 for independent proportions (Zou and Donner 2008,
    doi:10.1002/sim.3095).
    """
    difference = a - b
    low = difference - math.hypot(a - a_low, b_high - b)
    high = difference + math.hypot(a_high - a, b - b_low)
    return low, high


def _build(facts: RecordedBaseline) -> str:
    return f"{facts.runtime}=={facts.runtime_version}" if facts.runtime_version else facts.runtime


def _listed(packages: Iterable[str]) -> str:
    return ", ".join(sorted(packages)) or "not shown"


def _differs(what: str, now: object, then: object) -> str:
    return f"{what} is {now}, expected {then} as recorded"
