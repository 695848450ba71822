"""Golden outputs: which samples agree, and files that aren't of this model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import ConfigError
from harness.measure.golden import compute_close, load_golden, measure_golden, tolerance_of
from harness.model import TensorSpec

OUTPUTS = (TensorSpec("scores", (None, 2), "float32"), TensorSpec("box", (None, 4), "float32"))


def test_a_sample_agrees_when_all_its_values_do():
    want = np.array([[1.0, 10.0], [2.0, 20.0], [np.nan, np.inf]])
    got = np.array([[1.1, 10.0], [2.0, 20.5], [np.nan, np.inf]])
    # within 0.1 + 0.01 × 20 = 0.3
    assert compute_close(got, want, 0.01, 0.1).tolist() == [True, False, True]
    assert compute_close(-got, want, 0.01, 0.1)[2] == np.False_


def test_agreement_counts_samples_over_all_golden_outputs():
    golden = {"scores": np.zeros((10, 2)), "box": np.ones((10, 4))}
    outputs = {name: values.copy() for name, values in golden.items()}
    outputs["scores"][0, 1] = outputs["box"][1, 3] = 5.0
    measured, series = measure_golden(outputs, golden, 1e-3, 1e-3, where="golden.npz")
    assert (measured.metric, measured.value, measured.n) == ("golden_agreement", 0.8, 10)
    # Clopper–Pearson, 8 of 10 at 90% (binomial tables): 0.4931 to 0.9632
    assert (measured.low, measured.high) == (pytest.approx(0.4931, abs=1e-4), pytest.approx(0.9632, abs=1e-4))
    assert series.values.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]


def test_the_plans_tolerance_goes_before_the_precisions():
    assert tolerance_of("fp32", None, None) == (1e-3, 1e-4)
    assert tolerance_of("int8", 0.0, None) == (0.0, 1e-3)


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"score": np.zeros((3, 2))}, "`score` is no output of the model; did you mean `scores`?"),
        ({"scores": np.zeros((2, 2))}, "`scores` has shape (2, 2), expected 3 samples first"),
        ({"scores": np.array(["a", "b", "c"])}, "`scores` has type str32, expected numbers"),
        ({}, "there is no output in it; the model's are: scores, box"),
    ],
)
def test_what_is_no_golden_output_of_this_model_is_refused(tmp_path, arrays, said):
    with pytest.raises(ConfigError) as caught:
        load_golden(write(tmp_path / "golden.npz", **arrays), OUTPUTS, 3)
    assert said in str(caught.value)


def test_one_of_several_outputs_is_enough(tmp_path):
    path = write(tmp_path / "golden.npz", box=np.ones((3, 4)))
    assert list(load_golden(path, OUTPUTS, 3)) == ["box"]


@pytest.mark.parametrize("content", [None, b"not a zip"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "golden.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        load_golden(path, OUTPUTS, 3)


def test_a_golden_output_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match=r"`scores` has shape \(3, 2\), the model's output \(3, 5\)"):
        measure_golden({"scores": np.zeros((3, 5))}, {"scores": np.zeros((3, 2))}, 0, 0, where="g.npz")
