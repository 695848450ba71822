"""The difference of two independent estimates, from their own intervals."""

from __future__ import annotations

import math


def mover_difference_interval(
    a: float, a_low: float, a_high: float, b: float, b_low: float, b_high: float
) -> tuple[float, float, float]:
    """Return a − b with its bounds, at the confidence of the two intervals, which needn't be symmetric.

    MOVER (Zou and Donner 2008, doi:10.1002/sim.3095): each bound is the root of the squared sides that
    reach towards it. With Wilson's intervals of two proportions this is Newcombe's method 10 (1998,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I). Raises ValueError unless
    low ≤ value ≤ high of both.
    """
    for value, low, high in ((a, a_low, a_high), (b, b_low, b_high)):
        if not low <= value <= high:
            raise ValueError(f"expected low <= value <= high, got {low}, {value}, {high}")
    difference = a - b
    return (
        difference,
        difference - math.hypot(a - a_low, b_high - b),
        difference + math.hypot(a_high - a, b - b_low),
    )
