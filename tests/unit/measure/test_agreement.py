"""Agreement with the host, and task metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import ConfigError
from harness.measure.accuracy import TOLERANCES, measure_agreement
from harness.measure.tasks import auc, measure_task, rmse, top1


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
    assert agree([[1.0, 2.0]], [[math.nan, 2.0]]).value == math.inf


def test_values_that_are_not_finite_match_only_themselves():
    assert agree([[math.inf, 2.0]], [[math.inf, 2.0]]).value == 0.0
    assert agree([[math.nan, 2.0]], [[math.nan, 2.0]]).value == 0.0
    assert agree([[-math.inf, 2.0]], [[math.inf, 2.0]]).value == math.inf
    assert agree([[math.nan, 2.0]], [[math.inf, 2.0]]).value == math.inf


def test_outputs_without_a_finite_value_are_nothing_to_compare():
    m = agree([[math.nan, math.nan]], [[math.nan, math.nan]])
    assert m.value is None
    assert "finite" in m.reasons[0]


def test_a_tolerance_of_zero_asks_for_equality():
    same = measure_agreement({"y": np.ones((1, 2))}, {"y": np.ones((1, 2))}, "fp32", 0.0, 0.0)[0]
    assert (same.value, same.limit) == (0.0, 0.0)
    other = measure_agreement({"y": np.ones((1, 2))}, {"y": np.zeros((1, 2))}, "fp32", 0.0, 0.0)[0]
    assert (other.value, other.limit) == (1.0, 0.0)


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


@pytest.mark.parametrize(
    ("task", "output", "labels", "said"),
    [
        ("accuracy", np.ones((2, 3)), np.array(["a", "b"]), "expected integers"),
        ("accuracy", np.ones((2, 3)), np.array([0.5, 1.5]), "expected integers"),
        ("accuracy", np.ones((2, 1)), np.array([0, 1]), "one score a class"),
        ("accuracy", np.ones((2, 3)), np.array([0, 3]), "go from 0 to 3, expected 0 to 2"),
        ("accuracy", np.ones((2, 3)), np.eye(2, 3, dtype=np.int64), "one class a sample"),
        ("auc", np.ones((2, 1)), np.array([0, 2]), "hold [0, 2], expected 0 and 1"),
        ("auc", np.ones((2, 1)), np.array([1, 1]), "expected 0 and 1, both of them"),
        ("auc", np.ones((2, 1)), np.array([0.0, 1.0]), "expected 0 or 1"),
        ("auc", np.ones((2, 1)), np.eye(2, 2, dtype=np.int64), "one class a sample"),
        ("rmse", np.ones((2, 10)), np.ones(2), "expected (2, 10)"),
        ("rmse", np.ones((2, 1)), np.array(["a", "b"]), "expected numbers"),
    ],
)
def test_labels_that_are_not_the_outputs_are_refused(task, output, labels, said):
    with pytest.raises(ConfigError) as caught:
        measure_task(task, {"y": output}, labels)
    assert said in str(caught.value)


def test_a_task_over_several_outputs_says_which_it_took():
    m, _ = measure_task("accuracy", {"a": np.eye(2), "b": np.eye(2)}, np.array([0, 1]))
    assert m.value == 1.0
    assert "`a`, the first of 2" in m.reasons[0]


def test_auc_by_hand():
    # positives 0.9, 0.4; negatives 0.5, 0.1: 3 of 4 pairs the right way round
    value, low, high, scores = auc(np.array([[0.9], [0.5], [0.4], [0.1]]), np.array([1, 0, 1, 0]))
    assert value == 0.75
    assert low <= value <= high
    assert scores.tolist() == [0.9, 0.5, 0.4, 0.1]


def test_auc_takes_the_last_column_for_the_positive_class():
    two = np.array([[0.1, 0.9], [0.5, 0.5], [0.6, 0.4], [0.9, 0.1]])
    assert auc(two, np.array([1, 0, 1, 0]))[0] == 0.75


def test_classes_that_are_apart_altogether_still_have_an_interval():
    value, low, high, _ = auc(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False]))
    # Clopper–Pearson, 2 of 2 at 90%: √0.05
    assert (value, low, high) == (1.0, pytest.approx(math.sqrt(0.05)), 1.0)
