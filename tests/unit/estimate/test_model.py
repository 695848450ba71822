"""Fits of planted boards, their bands, and networks unlike those that a calibration rests on."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from harness.errors import ConfigError, DataError
from harness.estimate.features import NOTHING, Features
from harness.estimate.model import (
    PHYSICAL,
    Point,
    amounts_of,
    estimate,
    fit_points,
    shares_ms,
)
from harness.estimate.validate import choose_terms, validate

BOARD_NS = (0.6, 6.0, 0.25)  # a cycle, a line, a byte


def features_of(cycles: float, lines_per_cycle: float, bytes_per_cycle: float) -> Features:
    lines = round(cycles * lines_per_cycle)
    return dataclasses.replace(
        NOTHING,
        instructions=round(cycles * 1.1),
        cycles=round(cycles),
        missed_by_loads=(2 * lines, lines - lines // 3),
        missed_by_stores=(lines, lines // 3),
        streamed=(0, 0),
        stored_bytes=round(cycles * bytes_per_cycle),
    )


def planted(count: int, noise: float = 0.0, seed: int = 3) -> list[Point]:
    rng = np.random.default_rng(seed)
    points = []
    for index in range(count):
        features = features_of(
            float(np.exp(rng.uniform(16, 20))), float(rng.uniform(0.003, 0.02)), float(rng.uniform(0.3, 1.5))
        )
        ms = sum(a * c for a, c in zip(amounts_of(features, PHYSICAL), BOARD_NS, strict=True)) / 1e6
        points.append(Point(f"net{index}", features, ms * math.exp(rng.normal(0, noise))))
    return points


def test_a_planted_board_is_found():
    points = planted(12)
    fit = fit_points(points)
    assert fit.coefficients_ns == pytest.approx(BOARD_NS, rel=1e-3)
    assert fit.worst_error_ratio < 1e-6
    assert estimate(fit, points[0].features).board_ms == pytest.approx(points[0].board_ms, rel=1e-3)


def test_the_shares_are_the_estimate():
    points = planted(12, noise=0.05)
    fit = fit_points(points)
    assert sum(shares_ms(fit, points[3].features).values()) == pytest.approx(
        estimate(fit, points[3].features).board_ms
    )


def test_bands_hold_as_often_as_they_say():
    held = [validate(planted(25, noise=0.05, seed=seed)).covered_ratio for seed in range(12)]
    # 300 networks: three standard errors of 90% are 5.2%
    assert np.mean(held) == pytest.approx(0.90, abs=0.055)


def test_a_network_unlike_the_others_has_a_wider_band_that_says_why():
    points = planted(12, noise=0.03)
    fit = fit_points(points)
    inside = estimate(fit, points[5].features)
    outside = estimate(fit, features_of(1e11, 0.01, 1.0))
    assert inside.outside == ()
    assert outside.outside == ("cycles",)
    assert outside.high_ms / outside.board_ms > inside.high_ms / inside.board_ms
    farther = estimate(fit, features_of(1e13, 0.01, 1.0))
    assert farther.high_ms / farther.board_ms > outside.high_ms / outside.board_ms


def test_a_term_that_is_next_to_nothing_widens_a_band_no_further_however_small_it_is():
    fit = fit_points(planted(12, noise=0.05))

    def band(lines: int) -> float:
        one = dataclasses.replace(
            features_of(1e8, 0.0, 0.8), missed_by_loads=(0, lines), missed_by_stores=(0, 0)
        )
        made = estimate(fit, one)
        assert made.outside == ("memory_lines per cycles",)
        return math.log(made.high_ms / made.low_ms)

    like = estimate(fit, features_of(1e8, 0.01, 0.8))
    assert band(2) == pytest.approx(band(200), rel=1e-3)
    assert math.log(like.high_ms / like.low_ms) < band(200)


def test_a_borrowed_fit_has_a_band_that_holds_the_spread_between_runtimes():
    points = planted(12, noise=0.03)
    fit = fit_points(points)
    borrowed = estimate(fit, points[0].features, spread=0.3)
    assert borrowed.high_ms >= borrowed.board_ms * math.exp(0.3)
    assert borrowed.low_ms <= borrowed.board_ms * math.exp(-0.3)


def test_few_networks_are_refused_or_marked():
    with pytest.raises(DataError, match="3 networks, expected at least 4 for 3 terms"):
        fit_points(planted(3))
    with pytest.raises(DataError, match="2 networks, expected at least 3"):
        fit_points(planted(2), ("cycles",))
    assert fit_points(planted(5)).few
    assert not fit_points(planted(12)).few


def test_a_board_that_took_no_time_is_refused():
    points = planted(6)
    points[2] = dataclasses.replace(points[2], board_ms=0.0)
    with pytest.raises(DataError, match="above 0"):
        fit_points(points)


def test_an_unknown_term_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean `stored_bytes`"):
        amounts_of(NOTHING, ("stored_byte",))


def test_the_terms_that_made_the_times_are_chosen():
    assert set(choose_terms(planted(12))) == set(PHYSICAL)


def test_an_error_that_is_planted_is_the_worst():
    points = planted(12)
    points[7] = dataclasses.replace(points[7], board_ms=points[7].board_ms * 1.5)
    done = validate(points)
    assert done.worst_network == "net7"
    assert done.worst_error_ratio == pytest.approx(1 / 3, rel=1e-6)
    assert done.n == 12


def test_one_network_is_one_network():
    with pytest.raises(DataError, match="1 network, expected at least 3 for 1 term"):
        fit_points(planted(1), ("cycles",))
