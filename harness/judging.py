"""One measurement against its limit → PASS, FAIL, INCONCLUSIVE, INVALID or NOT_JUDGED. Pure.

A comparison against its margin is `margins`' job; what a run, a session or a release adds up to is `gate`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.metrics import HIGHER, LOWER, METRICS
from harness.model import Budget, Fidelity, Judgement, Measurement, Verdict
from harness.units import format_apart, format_quantity

RULES = ("confidence", "point")

# worst first; a verdict outweighs all that follow it
SEVERITY = (
    Verdict.FAIL,
    Verdict.INFRA_ERROR,
    Verdict.INVALID,
    Verdict.INCONCLUSIVE,
    Verdict.PASS,
    Verdict.NOT_JUDGED,
)


def plan_name(model: str) -> str:
    """Return what the plan calls a model: `name@runtime` is its `name` under a runtime that was asked for."""
    return model.partition("@")[0]


def joined(reasons: Iterable[str]) -> str:
    """Return reasons as one line; one that ends in a full stop doesn't have it before the next."""
    *before, last = [*reasons] or [""]
    return "; ".join([*(reason.removesuffix(".") for reason in before), last])


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of `verdicts`; NOT_JUDGED where there are none."""
    return min(verdicts, key=SEVERITY.index, default=Verdict.NOT_JUDGED)


def judge(measurement: Measurement, budget: Budget | None, direction: str) -> Judgement:
    """Return the verdict of one number: against its budget, and against a tolerance of its own.

    `direction` is "lower" or "higher", whichever is better. With neither budget nor tolerance it is
    NOT_JUDGED, also where it has no value: then there is nothing to hold, and the reason says why. A
    missing value that a limit waits for is INVALID, and so is one that isn't a number.
    """
    value = measurement.value
    if value is None:
        wanted = (budget is not None and budget.limit is not None) or measurement.limit is not None
        reasons = measurement.reasons or (f"{measurement.metric} has no value",)
        return Judgement(Verdict.INVALID if wanted else Verdict.NOT_JUDGED, reasons, budget)
    if math.isnan(value):
        reasons = (f"{measurement.metric} is not a number", *measurement.reasons)
        return Judgement(Verdict.INVALID, reasons, budget)
    low, high = measurement.low, measurement.high
    if any(bound is not None and math.isnan(bound) for bound in (low, high)):
        return Judgement(Verdict.INVALID, (f"{measurement.metric}: a bound is not a number",), budget)
    if low is not None and high is not None and low > high:
        what = f"{measurement.metric}: its interval runs from {low:g} down to {high:g}"
        return Judgement(Verdict.INVALID, (what,), budget)
    judgements = []
    if measurement.limit is not None:
        judgements.append(_judge_own(measurement, measurement.limit, direction))
    if budget is not None and budget.limit is not None:
        judgements.append(_judge_budget(measurement, budget, budget.limit, direction))
    if not judgements:
        return Judgement(Verdict.NOT_JUDGED, measurement.reasons)
    verdict = worst(verdict for verdict, _ in judgements)
    reasons = tuple(reason for found, texts in judgements if found is verdict for reason in texts)
    # what the number itself says of its interval belongs beside any verdict on it, a PASS too
    return Judgement(verdict, tuple(dict.fromkeys((*reasons, *measurement.reasons))), budget)


def _judge_own(m: Measurement, limit: float, direction: str) -> tuple[Verdict, tuple[str, ...]]:
    if m.limit_rule == "point":
        if limit == 0 and direction == LOWER and _is_count(m):
            return Verdict.FAIL, (f"{_named(m)}: {m.value:.0f}, expected none",)
        return _judge_point(m, limit, direction, "its tolerance of {}")
    if m.limit_rule == "confidence":
        return _judge_confidence(m, limit, direction, "its limit of {}")
    raise ValueError(f"{m.metric}: unknown rule {m.limit_rule!r} of its limit; valid: {', '.join(RULES)}")


def _is_count(m: Measurement) -> bool:
    """Return whether `m` counts something, and something is there."""
    row, value = METRICS.get(m.metric), m.value or 0.0
    return row is not None and row.unit == "1" and value > 0 and float(value).is_integer()


def _judge_budget(
    m: Measurement, budget: Budget, most: float, direction: str
) -> tuple[Verdict, tuple[str, ...]]:
    place = f" ({budget.where})" if budget.where else ""
    if m.fidelity is not budget.fidelity:
        what = f"not comparable: the budget is for {budget.fidelity} numbers, this one is {m.fidelity}{place}"
        return Verdict.INVALID, (f'{m.metric}: {what}. Set one with fidelity = "{m.fidelity}".',)
    limit = f"its budget of {{}}{place}"
    if budget.rule == "point":
        return _judge_point(m, most, direction, limit)
    if budget.rule == "confidence":
        return _judge_confidence(m, most, direction, limit)
    raise ValueError(f"unknown rule {budget.rule!r}{place}; valid: {', '.join(RULES)}")


def _judge_point(m: Measurement, limit: float, direction: str, name: str) -> tuple[Verdict, tuple[str, ...]]:
    assert m.value is not None
    if _within(m.value, limit, direction):
        return Verdict.PASS, ()
    value, shown = _apart(m, m.value, limit)
    of = _estimated(m, value) or f" of {value}"
    return Verdict.FAIL, (f"{_named(m)}{of} is {_beyond(direction)} {name.format(shown)}",)


def _judge_confidence(
    m: Measurement, limit: float, direction: str, name: str
) -> tuple[Verdict, tuple[str, ...]]:
    """PASS if the bad side of the interval is within the limit, FAIL if the good side is beyond it."""
    good, bad = (m.low, m.high) if direction == LOWER else (m.high, m.low)
    good_side, bad_side = ("lower", "upper") if direction == LOWER else ("upper", "lower")
    if bad is not None and _within(bad, limit, direction):
        return Verdict.PASS, ()
    if good is not None and not _within(good, limit, direction):
        bound, shown = _apart(m, good, limit)
        what = f"{_named(m)}{_estimated(m)}: even its {good_side} bound, {bound}, is {_beyond(direction)}"
        return Verdict.FAIL, (f"{what} {name.format(shown)}",)
    if bad is None:
        value, shown = _apart(m, m.value, limit)
        of = _estimated(m, value) or f" of {value}"
        what = f"{_named(m)}{of} has no {bad_side} bound (n = {m.n}) to hold against"
        return Verdict.INCONCLUSIVE, (f"{what} {name.format(shown)}", *m.reasons)
    value, shown = _apart(m, m.value, limit)
    bound = _apart(m, bad, limit)[0]
    of = _estimated(m, value) or f" of {value}"
    what = f"{_named(m)}{of}: its {bad_side} bound, {bound}, is {_beyond(direction)}"
    side = f", and its {good_side} bound isn't" if good is not None else ""
    return Verdict.INCONCLUSIVE, (f"{what} {name.format(shown)}{side}", *m.reasons)


def _estimated(m: Measurement, value: str = "") -> str:
    """Return " of an estimated 77 ms (66 ms – 90 ms)": an estimate stands nowhere without its word, nor
    without the band that it has; "" for anything else. `value`: how it is written beside its limit."""
    if m.fidelity is not Fidelity.ESTIMATED or m.value is None:
        return ""
    row = METRICS.get(m.metric)
    unit = row.unit if row else "1"
    band = "" if m.low is None or m.high is None else " ({} – {})".format(*format_apart(m.low, m.high, unit))
    return f" of an estimated {value or format_quantity(m.value, unit)}{band}"


def _named(m: Measurement) -> str:
    """Return the metric with the scenario and batch size that tell it from others of the same run."""
    batch = f"batch {m.batch_size}" if m.batch_size > 1 else ""
    scope = ", ".join(filter(None, (m.scenario, batch)))
    return f"{m.metric} ({scope})" if scope else m.metric


def _within(number: float, limit: float, direction: str) -> bool:
    if direction not in (LOWER, HIGHER):
        raise ValueError(f"direction is {LOWER!r} or {HIGHER!r}, got {direction!r}")
    return number <= limit if direction == LOWER else number >= limit


def _beyond(direction: str) -> str:
    return "above" if direction == LOWER else "below"


def _apart(m: Measurement, number: float | None, limit: float) -> tuple[str, str]:
    row = METRICS.get(m.metric)
    return format_apart(number, limit, row.unit if row else "1")
