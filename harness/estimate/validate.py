"""How far a calibration can be trusted: every figure of a network comes from a fit that hasn't seen it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.estimate.model import (
    CONFIDENCE,
    NS_PER_MS,
    PHYSICAL,
    TERMS,
    Estimate,
    Point,
    amounts_of,
    estimate,
    fit_points,
)
from harness.stats import nonnegative

MOST_TERMS = 3


@dataclass(frozen=True)
class Validation:
    """Errors are |estimated ÷ board - 1|. `chosen`: the terms of each fit, one a network."""

    mean_error_ratio: float
    worst_error_ratio: float
    worst_network: str
    within_ten_percent_ratio: float  # share of networks
    covered_ratio: float  # share of networks whose board time lies in its band
    n: int
    chosen: tuple[tuple[str, ...], ...]


def candidates() -> list[tuple[str, ...]]:
    """Return every choice of up to `MOST_TERMS` terms that holds one for the code itself."""
    names = sorted(TERMS)
    return [
        chosen
        for count in range(1, MOST_TERMS + 1)
        for chosen in itertools.combinations(names, count)
        if "cycles" in chosen or "instructions" in chosen
    ]


def choose_terms(points: Sequence[Point]) -> tuple[str, ...]:
    """Return the candidate whose leave-one-out errors have the smallest mean square, as logs."""
    totals = np.array([p.board_ms for p in points]) * NS_PER_MS

    def error(terms: tuple[str, ...]) -> float:
        if len(points) <= len(terms) + 1:
            return math.inf
        amounts = np.array([amounts_of(p.features, terms) for p in points])
        return float(np.mean(nonnegative.leave_one_out(amounts, totals) ** 2))

    return min(candidates(), key=error)


def validate(
    points: Sequence[Point], terms: Sequence[str] | None = PHYSICAL, confidence: float = CONFIDENCE
) -> Validation:
    """Return what fits of all the others say of each point; `terms` None: chosen anew for each, without it.

    Raises DataError where the others are too few to fit.
    """
    made: list[Estimate] = []
    chosen = []
    for left_out, point in enumerate(points):
        others = [p for i, p in enumerate(points) if i != left_out]
        used = choose_terms(others) if terms is None else tuple(terms)
        made.append(estimate(fit_points(others, used), point.features, confidence))
        chosen.append(used)
    errors = [abs(e.board_ms / p.board_ms - 1) for e, p in zip(made, points, strict=True)]
    covered = [e.low_ms <= p.board_ms <= e.high_ms for e, p in zip(made, points, strict=True)]
    worst = max(range(len(points)), key=errors.__getitem__)
    return Validation(
        mean_error_ratio=sum(errors) / len(errors),
        worst_error_ratio=errors[worst],
        worst_network=points[worst].network,
        within_ten_percent_ratio=sum(e <= 0.10 for e in errors) / len(errors),
        covered_ratio=sum(covered) / len(covered),
        n=len(points),
        chosen=tuple(chosen),
    )
