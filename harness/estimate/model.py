"""Milliseconds on a board as a sum of three shares: issuing the code, memory's reads, memory's writes.

    t = a · scheduled cycles + b · lines that the last level of cache missed + c · bytes stored

with a, b, c ≥ 0, fitted on relative errors. By Amdahl's law threads divide the first share; the memory of
these boards is shared and doesn't grow with them, so that each number of threads has coefficients of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import ConfigError, DataError, nearest
from harness.estimate.features import Features
from harness.stats import nonnegative
from harness.units import counted

CONFIDENCE = 0.90
FEW = 9  # networks below which an estimate is marked
WIDE_RATIO = 3.0  # a band from a third to three times, or wider, is of little use (chosen)
NS_PER_MS = 1e6

TERMS: Mapping[str, Callable[[Features], float]] = {
    "instructions": lambda f: float(f.instructions),
    "cycles": lambda f: float(f.cycles),
    "memory_lines": lambda f: float(f.missed_by_loads[-1] + f.missed_by_stores[-1]),
    "stored_bytes": lambda f: float(f.stored_bytes),
    # what a fit may be made of too, to see what each is good for
    "first_level_lines": lambda f: float(f.missed_by_loads[0] + f.missed_by_stores[0]),
    "loaded_bytes": lambda f: float(f.loaded_bytes),
    "pages_walked": lambda f: float(f.pages_walked),
    "branches": lambda f: float(f.branch),
}
# chosen for what they mean, among few; `validate.choose_terms` shows what a choice by error alone comes to
PHYSICAL = ("cycles", "memory_lines", "stored_bytes")
ONE_FACTOR = ("instructions",)  # all there is without a plugin: the virtual clock counts instructions


@dataclass(frozen=True)
class Point:
    """One network on the emulated board and on a real one."""

    network: str
    features: Features
    board_ms: float


@dataclass(frozen=True)
class Fit:
    """A calibration for one precision and number of threads. Residuals are log(estimated ÷ board), left
    out."""

    terms: tuple[str, ...]
    coefficients_ns: tuple[float, ...]  # a unit of each term
    residuals: tuple[float, ...]  # in the order of the points
    ranges: Mapping[str, tuple[float, float]]  # see `traits`; what the points span

    @property
    def n(self) -> int:
        return len(self.residuals)

    @property
    def few(self) -> bool:
        return self.n < FEW

    @property
    def mean_error_ratio(self) -> float:
        """Return the mean of |estimated ÷ board - 1| over networks that the fit hadn't seen."""
        return sum(abs(math.expm1(r)) for r in self.residuals) / self.n

    @property
    def worst_error_ratio(self) -> float:
        return max(abs(math.expm1(r)) for r in self.residuals)

    def band_ratio(self, confidence: float = CONFIDENCE) -> float:
        """Return how many times above and below its estimate the band of a network like these reaches."""
        return math.exp(nonnegative.log_half_width(self.residuals, len(self.terms), confidence))


@dataclass(frozen=True)
class Estimate:
    """What a board would take, with the band that holds it with `confidence`. Never shown without the
    band."""

    board_ms: float
    low_ms: float
    high_ms: float
    confidence: float
    n: int  # networks that it rests on
    outside: tuple[str, ...]  # traits that lie outside what the calibration spans; they widened the band

    @property
    def is_wide(self) -> bool:
        """Return whether the band is too wide to be of use: as a whole, wider than × or ÷ WIDE_RATIO."""
        return self.high_ms > self.low_ms * WIDE_RATIO**2


def amounts_of(features: Features, terms: Sequence[str]) -> list[float]:
    """Return the terms' amounts. Raises ConfigError for a term that doesn't exist."""
    for name in terms:
        if name not in TERMS:
            raise ConfigError(f"no term {name!r} of an estimate{nearest(name, TERMS)}")
    return [TERMS[name](features) for name in terms]


def traits(features: Features, terms: Sequence[str] = PHYSICAL) -> dict[str, float]:
    """Return what decides whether a network is like those of a calibration: its length, and the balance of
    its terms.
    """
    first, *others = terms
    length = max(1.0, TERMS[first](features))
    return {first: length} | {f"{o} per {first}": max(1.0, TERMS[o](features)) / length for o in others}


def fit_points(points: Sequence[Point], terms: Sequence[str] = PHYSICAL) -> Fit:
    """Return the fit of `points`. Raises DataError for too few of them, or for times that are not above 0."""
    fewest = max(nonnegative.FEWEST, len(terms) + 1)
    if len(points) < fewest:
        raise DataError(
            f"{counted(len(points), 'network')}, expected at least {fewest} for "
            f"{counted(len(terms), 'term')}.",
            where="estimate",
            next_step="Measure more networks on the board.",
        )
    amounts = np.array([amounts_of(p.features, terms) for p in points], dtype=np.float64)
    totals = np.array([p.board_ms for p in points], dtype=np.float64) * NS_PER_MS
    try:
        coefficients = nonnegative.fit_shares(amounts, totals)
        residuals = nonnegative.leave_one_out(amounts, totals)
    except ValueError as error:
        raise DataError(f"these networks can't be fitted: {error}", where="estimate") from error
    spans = [traits(p.features, terms) for p in points]
    return Fit(
        terms=tuple(terms),
        coefficients_ns=tuple(float(c) for c in coefficients),
        residuals=tuple(float(r) for r in residuals),
        ranges={key: (min(s[key] for s in spans), max(s[key] for s in spans)) for key in spans[0]},
    )


def shares_ms(fit: Fit, features: Features) -> dict[str, float]:
    """Return each term's share of the estimate, in milliseconds."""
    amounts = amounts_of(features, fit.terms)
    return {t: a * c / NS_PER_MS for t, a, c in zip(fit.terms, amounts, fit.coefficients_ns, strict=True)}


def _beyond(fit: Fit, features: Features) -> dict[str, float]:
    """Return how far each trait lies outside its range, in widths of it.

    Both are logs, but for a balance below its range: a term that is next to nothing can miss no more than the
    share that it has at the range's end, however many times smaller it is.
    """
    found = {}
    for key, value in traits(features, fit.terms).items():
        low, high = fit.ranges[key]
        width = max(math.log(high / low), math.log(2.0))
        if value > high:
            found[key] = math.log(value / high) / width
        elif value < low and key == fit.terms[0]:
            found[key] = math.log(low / value) / width
        elif value < low:
            found[key] = (low - value) / max(high - low, low)
    return found


def estimate(fit: Fit, features: Features, confidence: float = CONFIDENCE, spread: float = 0.0) -> Estimate:
    """Return the milliseconds that `features` take on the board of `fit`.

    The band is symmetric as a ratio. A trait outside the calibration widens it by its distance in widths of
    the range; `spread` is a further log half-width, for a fit that is borrowed from another runtime. Raises
    ValueError for a confidence outside (0, 1).
    """
    board_ms = sum(shares_ms(fit, features).values())
    beyond = _beyond(fit, features)
    half = nonnegative.log_half_width(fit.residuals, len(fit.terms), confidence) * (1 + sum(beyond.values()))
    half = math.hypot(half, spread)
    return Estimate(
        board_ms=board_ms,
        low_ms=board_ms * math.exp(-half),
        high_ms=board_ms * math.exp(half),
        confidence=confidence,
        n=fit.n,
        outside=tuple(beyond),
    )
