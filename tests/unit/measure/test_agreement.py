"""Agreement with the host, and task metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.measure.accuracy import TOLERANCES, measure_agreement
from harness.measure.tasks import measure_task, rmse, top1


def agree(got, want, precision="fp32"):
    return measure_agreement({"y": np.array(got)}, {"y": np.array(want)}, precision, None, None)[0]


def test_the_largest_difference_and_its_limit():
    m = agree([[1.0, 2.0]], [[1.0, 2.5]])
    rtol, atol = TOLERANCES["fp32"]
    assert m.value == 0.5
    assert m.limit == pytest.approx(atol + rtol * 2.5)


def test_another_shape_or_a_nan_is_no_agreement():
    assert agree([[1.0]], [[1.0, 2.0]]).value == math.inf
    assert agree([[math.nan, 2.0]], [[1.0, 2.0]]).value == math.inf
    assert agree([[math.nan, 2.0]], [[math.nan, 2.0]]).value == 0.0


def test_a_missing_output_is_no_agreement():
    m, name = measure_agreement({}, {"y": np.ones((1, 2))}, "fp32", None, None)
    assert (m.value, name) == (math.inf, "y")


def test_the_worst_output_is_the_one_furthest_beyond_its_own_limit():
    got = {"big": np.array([1000.5]), "small": np.array([0.1])}
    want = {"big": np.array([1000.0]), "small": np.array([0.0])}
    m, name = measure_agreement(got, want, "fp32", None, None)
    assert (m.value, name) == (pytest.approx(0.1), "small")


def test_the_plans_own_tolerance_wins():
    m = measure_agreement({"y": np.array([1.0])}, {"y": np.array([1.5])}, "fp32", 0.0, 1.0)[0]
    assert m.limit == 1.0


def test_top1_counts_hits():
    output = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    value, low, high, hits = top1(output, np.array([1, 0, 0, 0]))
    assert value == 0.75
    assert hits.tolist() == [1, 1, 0, 1]
    # Clopper–Pearson, 3 of 4 at 90%: tables of the binomial give 0.2486 and 0.9873
    assert (low, high) == (pytest.approx(0.2486, abs=1e-4), pytest.approx(0.9873, abs=1e-4))


def test_rmse_by_hand():
    value, low, high, squared = rmse(np.array([[1.0], [2.0]]), np.array([0.0, 4.0]))
    assert value == pytest.approx(math.sqrt((1 + 4) / 2))
    assert squared.tolist() == [1.0, 4.0]
    assert low < value < high


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(Exception, match=r"did you mean `accuracy`"):
        measure_task("acuracy", {"y": np.ones((1, 2))}, np.array([0]))
