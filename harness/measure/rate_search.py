"""The highest rate that keeps a p99 within its budget, found by trying rates. Pure but for `try_rate`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

TOLERANCE = 1.02  # rates shown to hold and to miss end up this close
MAX_RATES = 16  # from one end of a range of 100 to the other, steps of 1.02^(3^k) and halving take 13


@dataclass(frozen=True)
class Bracket:
    """`held` was shown to keep the budget, `missed` not to; None where no rate was. `tried` counts rates."""

    held_per_s: float | None
    missed_per_s: float
    tried: int


def search_rate(
    try_rate: Callable[[float], bool], start_per_s: float, floor_per_s: float, ceiling_per_s: float
) -> Bracket:
    """Return the bracket around the highest rate for which `try_rate` is true.

    Goes from `start_per_s` in steps that triple on the log scale until one rate holds and one misses, then
    halves what is between. `ceiling_per_s` is known to miss without being tried. Where even `floor_per_s`
    misses, `held_per_s` is None.
    """
    held: float | None = None
    missed = ceiling_per_s
    rate, step, tried = min(max(start_per_s, floor_per_s), ceiling_per_s / TOLERANCE), TOLERANCE, 0
    while tried < MAX_RATES:
        tried += 1
        if try_rate(rate):
            held = rate
        else:
            missed = rate
        if held is not None and missed / held <= TOLERANCE * (1 + 1e-9):
            break
        if held is None:
            if missed <= floor_per_s:
                break
            rate = max(floor_per_s, missed / step)
            step = min(step**3, 100.0)
        elif missed == ceiling_per_s:
            rate = min(held * step, math.sqrt(held * missed))
            step = min(step**3, 100.0)
        else:
            rate = math.sqrt(held * missed)
    return Bracket(held, missed, tried)


def highest_rate(holds: Callable[[float], bool], floor_per_s: float, ceiling_per_s: float) -> float:
    """Return about the highest rate for which `holds`, by bisection; the floor where none does."""
    low, high = floor_per_s, ceiling_per_s
    while high / low > math.sqrt(TOLERANCE):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
