"""Two models over the same samples: paired figures by hand, and what keeps them from being compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError, Unsupported
from harness.margins import judge_alone
from harness.measure import against
from harness.measure.against import compare_task, measure_accuracy_against, measure_size_against
from harness.metrics import METRICS
from harness.model import Artifact, Effect, Method, ModelCase, RuntimeSpec, Verdict


def scores(classes: list[int], n_classes: int = 2) -> dict[str, Any]:
    return {"y": np.eye(n_classes, dtype=np.float32)[classes]}


def hits(both: int, only_ours: int, only_theirs: int, neither: int) -> tuple[Any, Any, Any]:
    """Return outputs of both, and labels, with these counts of right answers."""
    right, wrong = 1, 0
    ours = [right] * both + [right] * only_ours + [wrong] * only_theirs + [wrong] * neither
    theirs = [right] * both + [wrong] * only_ours + [right] * only_theirs + [wrong] * neither
    return scores(ours), scores(theirs), np.ones(len(ours), dtype=np.int64)


def test_accuracy_is_compared_by_newcombes_paired_difference():
    # Newcombe 1998, table III, method 10: 36, 12, 2, 0 of 50: 0.20, 0.0569 to 0.3404 at 95%; at 90% narrower
    ours, theirs, labels = hits(36, 12, 2, 0)
    comparison, series = compare_task("accuracy", ours, theirs, labels, "release")
    assert comparison.effect is Effect.DIFFERENCE
    assert comparison.method is Method.PAIRED
    assert comparison.value == pytest.approx(0.20)
    assert comparison.low is not None
    assert comparison.high is not None
    assert 0.0569 < comparison.low < 0.20 < comparison.high < 0.3404
    assert (comparison.candidate, comparison.baseline) == (pytest.approx(0.96), pytest.approx(0.76))
    counts = {k: comparison.settings[k] for k in ("both", "only_candidate", "only_baseline", "neither")}
    assert counts == {"both": 36, "only_candidate": 12, "only_baseline": 2, "neither": 0}
    # McNemar exact, 12 against 2: 2 × (1 + 14 + 91) / 2^14
    assert comparison.settings["mcnemar_p"] == pytest.approx(2 * 106 / 2**14)
    assert [(s.name, s.arm, int(s.values.sum())) for s in series] == [
        ("hit", "candidate", 48),
        ("hit", "baseline", 38),
    ]


def test_swapping_the_arms_turns_the_difference_round():
    ours, theirs, labels = hits(80, 3, 9, 8)
    one = compare_task("accuracy", ours, theirs, labels, "b")[0]
    other = compare_task("accuracy", theirs, ours, labels, "b")[0]
    assert other.value == pytest.approx(-one.value)
    assert (other.low, other.high) == (pytest.approx(-one.high), pytest.approx(-one.low))


@given(st.integers(0, 40), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(1, 5))
def test_one_more_miss_never_gets_a_better_verdict(both, only_ours, only_theirs, neither, misses):
    misses = min(misses, both)
    if both + only_ours + only_theirs + neither == 0:
        return
    order = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]
    found = []
    for lost in (0, misses):
        ours, theirs, labels = hits(both - lost, only_ours, only_theirs + lost, neither)
        comparison = compare_task("accuracy", ours, theirs, labels, "b")[0]
        found.append(order.index(judge_alone(comparison, 0.02, METRICS["accuracy"]).verdict))
    assert found[1] >= found[0]


def test_an_auc_difference_is_resampled_over_samples():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    ours = {"y": (labels + rng.normal(0, 0.8, 200)).reshape(-1, 1)}
    theirs = {"y": (labels + rng.normal(0, 0.8, 200)).reshape(-1, 1)}
    comparison, series = compare_task("auc", ours, theirs, labels, "b")
    assert comparison.value == pytest.approx(comparison.candidate - comparison.baseline)
    assert comparison.low < comparison.value < comparison.high
    assert series[0].name == "score"
    same = compare_task("auc", ours, ours, labels, "b")[0]
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)


def test_an_rmse_ratio_by_hand():
    labels = np.zeros(4)
    ours, theirs = {"y": np.array([2.0, -2.0, 2.0, -2.0])}, {"y": np.ones(4)}
    comparison = compare_task("rmse", ours, theirs, labels, "b")[0]
    assert comparison.effect is Effect.RATIO
    assert (comparison.low, comparison.value, comparison.high) == pytest.approx((2.0, 2.0, 2.0))


def test_errors_against_a_baseline_without_any_are_beyond_any_margin():
    labels = np.zeros(4)
    worse = compare_task("rmse", {"y": np.ones(4)}, {"y": np.zeros(4)}, labels, "b")[0]
    assert worse.value > 1e300
    assert judge_alone(worse, 0.5, METRICS["rmse"]).verdict is Verdict.FAIL
    same = compare_task("rmse", {"y": np.zeros(4)}, {"y": np.zeros(4)}, labels, "b")[0]
    assert judge_alone(same, 0.0, METRICS["rmse"]).verdict is Verdict.PASS


def test_too_few_errors_leave_no_interval():
    labels = np.zeros(50)
    one_off = np.zeros(50)
    one_off[0] = 1.0
    comparison = compare_task("rmse", {"y": one_off}, {"y": one_off}, labels, "b")[0]
    assert (comparison.value, comparison.low, comparison.high) == (1.0, None, None)
    assert "too few errors among 50" in comparison.reasons[0]


def test_labels_must_fit_both_models():
    with pytest.raises(ConfigError, match=r"go from 2 to 2, expected 0 to 1"):
        compare_task("accuracy", scores([0, 2], 3), scores([0, 1]), np.array([2, 2]), "b")


# --- benches ---------------------------------------------------------------------------------------

SAMPLES = SimpleNamespace(n_samples=4, labels=np.array([1, 1, 0, 0]), sha256="i", made=False)
OURS, THEIRS = scores([1, 1, 0, 1]), scores([1, 0, 0, 0])


def bench(name: str = "new", *, task: str | None = "accuracy", inputs: Any = SAMPLES, size: int = 100) -> Any:
    artifact = Artifact(name, Path(name), "0" * 64, size, "onnx")
    case = ModelCase(artifact, RuntimeSpec("onnxruntime"), task=task, variant="fp32")
    return SimpleNamespace(
        case=case,
        inputs=inputs,
        env=SimpleNamespace(packages=("onnxruntime==1",)),
        look=SimpleNamespace(quantised=False),
    )


def inputs(**changed: Any) -> Any:
    return SimpleNamespace(**{**vars(SAMPLES), **changed})


@pytest.fixture(autouse=True)
def _outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"new": OURS, "old": THEIRS}
    monkeypatch.setattr(against, "infer_all", lambda b, label: given[b.case.name])


def test_both_answer_the_same_samples_on_the_device():
    seen = measure_accuracy_against(bench(), bench("old"), "release")
    (comparison,) = seen.comparisons
    assert comparison.value == 0.0
    assert comparison.settings["only_candidate"] == 1
    assert [(m.metric, m.value) for m in seen.measurements] == [("baseline_agreement", 0.5)]
    assert seen.settings["baseline_sha256"] == "0" * 64
    assert {s.arm for s in seen.series} == {"candidate", "baseline"}


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (inputs(n_samples=3), "the candidate has 4 samples, the baseline 3"),
        (inputs(labels=np.array([1, 1, 0, 1])), "labels differ in 1 of 4 places"),
        (inputs(labels=np.array([[1], [1], [0], [0]])), "labels have shape (4,), the baseline's (4, 1)"),
        (inputs(made=True, labels=None), "the baseline's inputs were made from its signature"),
    ],
)
def test_other_samples_are_not_compared(theirs, said):
    seen = measure_accuracy_against(bench(), bench("old", inputs=theirs), "release")
    (comparison,) = seen.comparisons
    assert said in comparison.invalid[0]
    assert judge_alone(comparison, 0.01, METRICS["accuracy"]).verdict is Verdict.INVALID


@pytest.mark.parametrize("changed", [{"task": None}, {"inputs": inputs(labels=None)}])
def test_without_a_task_or_labels_agreement_is_shown_and_not_judged(changed):
    other = {"inputs": inputs(labels=None)} if "inputs" in changed else {}
    seen = measure_accuracy_against(bench(**changed), bench("old", **other), "release")
    assert seen.comparisons == ()
    assert [(m.metric, m.value, m.limit) for m in seen.measurements] == [("baseline_agreement", 0.5, None)]


def test_nothing_to_compare_is_said():
    nothing = inputs(n_samples=0, labels=None)
    with pytest.raises(Unsupported, match=r"no outputs to compare"):
        measure_accuracy_against(bench(), bench("old", inputs=nothing), "release")


def test_outputs_that_are_no_classes_agree_within_a_tolerance():
    ours, theirs = {"y": np.array([1.0, 2.0, 3.0])}, {"y": np.array([1.0, 2.002, 3.1])}
    measured, how = against.measure_alike(bench(), ours, theirs)
    assert measured is not None
    assert measured.value == pytest.approx(2 / 3)
    assert "0.0001 + 0.001 ×" in how
    assert against.measure_alike(bench(), ours, {"y": np.ones((3, 2))})[0] is None


def test_sizes_compare_exactly():
    (c,) = measure_size_against(bench(size=50), bench("old", size=200), "release").comparisons
    assert (c.value, c.low, c.high, c.method) == (0.25, 0.25, 0.25, Method.EXACT)
    assert judge_alone(c, 0.0, METRICS["model_size_bytes"]).verdict is Verdict.PASS
    grown = replace(c, value=1.5, low=1.5, high=1.5)
    assert judge_alone(grown, 0.01, METRICS["model_size_bytes"]).verdict is Verdict.FAIL
