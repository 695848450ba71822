"""A comparison against its margin → PASS, FAIL, INCONCLUSIVE, INVALID or NOT_JUDGED. Pure.

Non-inferiority: PASS where the bad side of the interval stays within the margin, FAIL where even the good
side is beyond it. Several metrics of one run are one family: a FAIL must also stand after Holm's correction;
a PASS needs none, because all of them have to pass (intersection–union).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness import stats
from harness.metrics import HIGHER, LOWER, Metric
from harness.model import Comparison, Effect, Fidelity, Judgement, Verdict
from harness.units import format_quantity

ALPHA = 0.05  # one-sided: the other half of a 90% interval


def default_margin(metric: Metric, fidelity: Fidelity) -> float | None:
    """Return the margin of a metric where the plan sets none; None where it is only shown."""
    return metric.virtual_margin if fidelity is Fidelity.VIRTUAL else metric.margin


def judge_family(
    comparisons: Sequence[Comparison], margins: Sequence[float | None], metrics: Sequence[Metric]
) -> list[Judgement]:
    """Return a judgement for each comparison of one run, in their order."""
    judged = [judge_alone(c, m, row) for c, m, row in zip(comparisons, margins, metrics, strict=True)]
    family = [
        i
        for i, (judgement, margin) in enumerate(zip(judged, margins, strict=True))
        if margin is not None and judgement.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
    ]
    p_values = [_p_within(comparisons[i], margins[i], metrics[i]) for i in family]
    stands = stats.holm(p_values, ALPHA)
    for i, holds in zip(family, stands, strict=True):
        if judged[i].verdict is Verdict.FAIL and not holds:
            why = f"beyond it alone, but not after Holm's correction over {len(family)} metrics"
            judged[i] = Judgement(Verdict.INCONCLUSIVE, (*judged[i].reasons, why))
    return judged


def judge_alone(c: Comparison, margin: float | None, metric: Metric) -> Judgement:
    """Return the verdict of one comparison as if it were the only one."""
    if c.invalid:
        return Judgement(Verdict.INVALID, (*(f"{_named(c)}: {why}" for why in c.invalid), *c.reasons))
    if c.value is None:
        reasons = c.reasons or (f"{_named(c)}: there is no comparison",)
        return Judgement(Verdict.NOT_JUDGED if margin is None else Verdict.INVALID, reasons)
    numbers = [n for n in (c.value, c.low, c.high) if n is not None]
    low, high = numbers[1] if c.low is not None else -math.inf, c.high if c.high is not None else math.inf
    if not math.isfinite(c.value) or any(math.isnan(n) for n in numbers) or not low <= c.value <= high:
        what = f"{_named(c)}: {c.value:g} with bounds {c.low} and {c.high} is no interval"
        return Judgement(Verdict.INVALID, (what,))
    said = f"{_named(c)}: {describe(c, metric, _digits(c, margin, metric))}"
    if margin is None:
        return Judgement(Verdict.NOT_JUDGED, (f"{said}; no margin is set for it", *c.reasons))
    limit = _limit(c, margin, metric)
    good, bad = (c.low, c.high) if metric.direction == LOWER else (c.high, c.low)
    shown = format_margin(margin, metric)
    if bad is not None and _within(bad, limit, metric.direction, strict=c.low != c.high):
        return Judgement(Verdict.PASS, (f"{said}, within its margin of {shown}", *c.reasons))
    if good is not None and not _within(good, limit, metric.direction):
        return Judgement(Verdict.FAIL, (f"{said}, beyond its margin of {shown}", *c.reasons))
    why = "no bound to hold" if bad is None else "the interval reaches over its margin"
    return Judgement(Verdict.INCONCLUSIVE, (f"{said}: {why} of {shown}", *c.reasons))


def _named(c: Comparison) -> str:
    """Return the metric with the scenario and batch size that tell it from others of the same run."""
    batch = f"batch {c.batch_size}" if c.batch_size > 1 else ""
    scope = ", ".join(filter(None, (c.scenario, batch)))
    return f"{c.metric} ({scope})" if scope else c.metric


def _digits(c: Comparison, margin: float | None, metric: Metric) -> int:
    """Return how many digits tell the effect and its bounds from the margin, from 3 to 9."""
    if margin is None:
        return 3
    limit = _limit(c, margin, metric)
    apart = [n for n in (c.value, c.low, c.high) if n is not None and math.isfinite(n) and n != limit]
    for digits in range(3, 9):
        shown = signed_effect(c, limit, metric, digits)
        if all(signed_effect(c, n, metric, digits) != shown for n in apart):
            return digits
    return 9


def describe(c: Comparison, metric: Metric, digits: int = 3) -> str:
    """Return "+1.2% against `release` (+0.9% to +1.5%)"."""
    assert c.value is not None
    text = f"{signed_effect(c, c.value, metric, digits)} against `{c.baseline_name}`"
    if c.low is not None and c.high is not None:
        low, high = (signed_effect(c, bound, metric, digits) for bound in (c.low, c.high))
        return text if c.low == c.high else f"{text} ({low} to {high})"
    return f"{text} (no interval, n = {c.n})"


def signed_effect(c: Comparison, effect: float, metric: Metric, digits: int = 3) -> str:
    """Return an effect as a change: "+1.25%", or "-0.4 points" of a metric that is a ratio itself."""
    if c.effect is Effect.RATIO:
        percent = 100 * (effect - 1)
        # so many digits, but never as a power of ten
        return f"{percent:+.{digits}g}%" if abs(percent) < 999.5 else f"{percent:+.0f}%"
    if metric.unit == "ratio":
        return f"{100 * effect:+.{digits}g} points"
    text = format_quantity(effect, metric.unit, digits)
    return text if text.startswith("-") else f"+{text}"


def format_margin(margin: float, metric: Metric) -> str:
    """Return a margin as "1%", or "1 point" of a metric that is a ratio itself."""
    number = f"{100 * margin:.3g}"
    if metric.unit != "ratio":
        return f"{number}%"
    return f"{number} point" if number == "1" else f"{number} points"


def _limit(c: Comparison, margin: float | None, metric: Metric) -> float:
    """Return the worst effect that is still within `margin`."""
    assert margin is not None
    if metric.direction not in (LOWER, HIGHER):
        raise ValueError(f"direction is {LOWER!r} or {HIGHER!r}, got {metric.direction!r}")
    if c.effect is Effect.RATIO:
        return 1 + margin if metric.direction == LOWER else 1 / (1 + margin)
    return margin if metric.direction == LOWER else -margin


def _within(number: float, limit: float, direction: str, *, strict: bool = False) -> bool:
    if number == limit:
        return not strict
    return number < limit if direction == LOWER else number > limit


def _p_within(c: Comparison, margin: float | None, metric: Metric) -> float:
    """Return the one-sided p of the observed effect if the true one were at the margin, to be held to ALPHA.

    From the half of the interval on the margin's side: an interval of proportions isn't symmetric.
    """
    limit = _limit(c, margin, metric)
    bound = c.low if metric.direction == LOWER else c.high
    if c.value is None or bound is None or _within(c.value, limit, metric.direction):
        return 1.0
    if c.effect is Effect.RATIO and min(bound, c.value) <= 0:
        return 1.0  # no logarithm: such an interval reaches anywhere
    beyond = abs(_scaled(c, c.value) - _scaled(c, limit))
    half = abs(_scaled(c, c.value) - _scaled(c, bound))
    if half == 0:
        return 0.0
    p = stats.p_value_beyond(beyond, beyond - half, beyond + half, c.confidence, c.df, 0.0)
    # a look at a stricter confidence counts against its own share of the error
    return min(1.0, p * ALPHA / ((1 - c.confidence) / 2))


def _scaled(c: Comparison, effect: float) -> float:
    return math.log(effect) if c.effect is Effect.RATIO else effect
