"""A comparison in words: the change with its interval, its margin, how it was taken. Pure.

A change is told in percent, or in points where the metric is a share itself. `worsening` turns any metric's
change so that more is worse: what a forest plot needs to show all of them on one axis.
"""

from __future__ import annotations

import math

from harness.metrics import HIGHER, METRICS
from harness.model import Comparison, Effect, Method, Result
from harness.units import format_quantity, format_significant

METHODS = {
    Method.DUET: "duet",
    Method.ABBA: "fresh processes",
    Method.PAIRED: "paired samples",
    Method.EXACT: "exact",
    Method.RECORDED: "from memory",
}
METHOD_MEANINGS = {
    Method.DUET: "both sat loaded side by side and took turns in blocks",
    Method.ABBA: "fresh processes of both, in randomised ABBA order",
    Method.PAIRED: "the same samples through both",
    Method.EXACT: "nothing varies",
    Method.RECORDED: "the baseline's numbers as they were recorded",
}
_GATE_CONFIDENCE = 0.9  # what a bound has unless several looks were declared


def change_of(c: Comparison) -> str:
    """Return the change alone, "+1.20%" or "-0.33 points", with as many digits as its interval bears."""
    if c.value is None:
        return "–"
    return _with_unit(c, _number(_change(c, c.value), _decimals(c)))


def interval_of_change(c: Comparison) -> str:
    """Return the bounds of the change with their confidence where it isn't the gate's 90%."""
    return ", ".join(filter(None, (bounds_of_change(c), level_of(c))))


def bounds_of_change(c: Comparison) -> str:
    """Return the bounds of the change, "+0.90 to +1.50"; "exact", or "no interval" where there is none."""
    if c.value is None:
        return "–"
    if c.low is not None and c.low == c.high:
        return "exact"
    decimals = _decimals(c)
    low, high = (None if b is None else _number(_change(c, b), decimals) for b in (c.low, c.high))
    if low is None and high is None:
        return "no interval"
    if low is None or high is None:
        return f"at most {high}" if low is None else f"at least {low}"
    return f"{low} to {high}"


def level_of(c: Comparison) -> str:
    """Return "at 95.4%" where the bounds have another confidence than 90%; else ""."""
    plain = math.isclose(c.confidence, _GATE_CONFIDENCE) or c.low is None or c.high is None or c.low == c.high
    return "" if plain or c.value is None else f"at {100 * c.confidence:.3g}%"


def amount(value: float | None, unit: str) -> str:
    """Return a number of its own beside another: a count in full, with its thousands apart."""
    if value is not None and unit == "1" and abs(value) >= 10_000 and math.isfinite(value):
        return f"{value:,.0f}"
    return format_quantity(value, unit)


def margin_of(result: Result) -> str:
    """Return how much worse a result may be than its baseline, "1%"; "–" where nothing says so."""
    c = result.comparison
    if result.margin is None or c is None:
        return "–"
    if c.effect is Effect.DIFFERENCE and result.unit != "ratio":
        return format_quantity(result.margin, result.unit)
    return _with_unit(c, f"{100 * result.margin:.3g}")


def how_of(c: Comparison) -> str:
    """Return how the arms were taken, and how many times."""
    return METHODS[c.method] if c.method is Method.EXACT or not c.n else f"{METHODS[c.method]}, n = {c.n}"


def worsening(c: Comparison, effect: float) -> float | None:
    """Return an effect as a share by which the candidate is worse; negative where it is better.

    A margin has the same scale: the limit lies where this equals the margin. None where the metric's
    difference is no share (its unit says so), or the ratio isn't above 0.
    """
    row = METRICS[c.metric]
    if not math.isfinite(effect):
        return None
    if c.effect is Effect.DIFFERENCE:
        if row.unit != "ratio":
            return None
        return -effect if row.direction == HIGHER else effect
    if effect <= 0:
        return None
    return 1 / effect - 1 if row.direction == HIGHER else effect - 1


def _change(c: Comparison, effect: float) -> float:
    """Return the change in the number that is written: percent, points, or the metric's own unit."""
    if c.effect is Effect.RATIO:
        return 100 * (effect - 1)
    return 100 * effect if METRICS[c.metric].unit == "ratio" else effect


def _decimals(c: Comparison) -> int | None:
    """Return the decimals that show the half-width's first digit; None: three digits of the number."""
    if c.low is None or c.high is None or c.low == c.high:
        return None
    half = abs(_change(c, c.high) - _change(c, c.low)) / 2
    if not math.isfinite(half) or half <= 0:
        return None
    return 0 if half >= 10 else min(4, max(1, -math.floor(math.log10(half) + 1e-9)))


def _number(change: float, decimals: int | None) -> str:
    if change == 0:
        return "0"
    if decimals is None:
        return f"{'+' if change > 0 else ''}{format_significant(change)}"
    text = f"{change:+.{decimals}f}"
    return text if float(text) else text[1:]


def _with_unit(c: Comparison, number: str) -> str:
    unit = METRICS[c.metric].unit
    if c.effect is Effect.RATIO:
        return f"{number}%"
    if unit == "ratio":
        return f"{number} point{'' if number.lstrip('+-') == '1' else 's'}"
    return number if unit in ("1", "") else f"{number} {unit}"
