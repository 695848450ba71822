"""Inputs: what fits a signature, what is made from one, and what the refusals say."""

from __future__ import annotations

import io

import numpy as np
import pytest

from harness.errors import ConfigError
from harness.measure.inputs import load_inputs, make_inputs
from harness.model import Signature, TensorSpec

IMAGE = Signature(
    (TensorSpec("image", (None, 4, 4, 1), "float32"),), (TensorSpec("y", (None, 10), "float32"),)
)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_samples_and_labels_are_read_and_labels_stay_on_the_host(tmp_path):
    path = save(tmp_path / "in.npz", image=np.ones((3, 4, 4, 1), np.float32), labels=np.array([1, 2, 3]))
    inputs = load_inputs(path, IMAGE, {})
    assert inputs.n_samples == 3
    assert inputs.labels is not None
    assert inputs.labels.tolist() == [1, 2, 3]
    with np.load(io.BytesIO(inputs.data)) as npz:
        assert npz.files == ["image"]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"imag": np.ones((3, 4, 4, 1), np.float32)}, "did you mean `imag`?"),
        ({"image": np.ones((3, 4, 5, 1), np.float32)}, "has shape 3x4x5x1, expected ?x4x4x1"),
        ({"image": np.ones((3, 4, 4), np.float32)}, "has shape 3x4x4, expected ?x4x4x1"),
        ({"image": np.ones((3, 4, 4, 1), np.float64)}, "has type float64, expected float32"),
        (
            {"image": np.ones((3, 4, 4, 1), np.float32), "extra": np.ones(3)},
            "`extra` is no input of the model",
        ),
        (
            {"image": np.ones((3, 4, 4, 1), np.float32), "labels": np.ones(2)},
            "`labels` has 2 entries, expected 3",
        ),
        ({"image": np.ones((0, 4, 4, 1), np.float32)}, "no samples"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, said):
    path = save(tmp_path / "in.npz", **arrays)
    with pytest.raises(ConfigError) as caught:
        load_inputs(path, IMAGE, {})
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path):
    path = save(tmp_path / "in.npz", image=np.ones((3, 4, 5, 1), np.float64), labels=np.ones(1))
    with pytest.raises(ConfigError) as caught:
        load_inputs(path, IMAGE, {})
    assert len(caught.value.problems) == 3


def test_pickled_objects_are_refused(tmp_path):
    path = save(tmp_path / "in.npz", image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match=r"not an .npz of plain arrays"):
        load_inputs(path, IMAGE, {})


def test_text_is_not_an_npz(tmp_path):
    path = tmp_path / "in.npz"
    path.write_text("hello")
    with pytest.raises(ConfigError, match=r"not an .npz"):
        load_inputs(path, IMAGE, {})


def test_made_inputs_repeat_to_the_byte():
    first, second = make_inputs(IMAGE, {}, "m"), make_inputs(IMAGE, {}, "m")
    assert first.sha256 == second.sha256
    assert first.made
    assert first.labels is None


def test_an_open_shape_asks_for_the_option():
    signature = Signature((TensorSpec("x", (None, 3, None, None), "float32"),), ())
    with pytest.raises(ConfigError, match=r"--shape x=1x3xNxN"):
        make_inputs(signature, {}, "m.onnx")
    made = make_inputs(signature, {"x": (1, 3, 8, 8)}, "m.onnx")
    with np.load(io.BytesIO(made.data)) as npz:
        assert npz["x"].shape[1:] == (3, 8, 8)


def test_a_shape_for_no_input_or_of_other_dimensions_is_refused():
    with pytest.raises(ConfigError, match=r"no input of it"):
        make_inputs(IMAGE, {"imagé": (1, 4, 4, 1)}, "m")
    with pytest.raises(ConfigError, match=r"does not fit the model's"):
        make_inputs(IMAGE, {"image": (1, 5, 4, 1)}, "m")


def test_integers_are_zero_or_one():
    signature = Signature((TensorSpec("ids", (None, 16), "int64"),), ())
    with np.load(io.BytesIO(make_inputs(signature, {}, "m").data)) as npz:
        assert set(np.unique(npz["ids"])) <= {0, 1}


def test_strings_cannot_be_made_up():
    signature = Signature((TensorSpec("text", (None,), "str"),), ())
    with pytest.raises(ConfigError, match=r"type str"):
        make_inputs(signature, {}, "m")


def test_a_single_label_and_a_damaged_archive_are_told(tmp_path):
    image = np.ones((3, 4, 4, 1), np.float32)
    with pytest.raises(ConfigError, match="is one value"):
        load_inputs(save(tmp_path / "a.npz", image=image, labels=np.array(1)), IMAGE, {})
    path = save(tmp_path / "b.npz", image=image)
    data = bytearray(path.read_bytes())
    data[120] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ConfigError, match=r"not an .npz of plain arrays"):
        load_inputs(path, IMAGE, {})


def test_the_batch_axis_of_a_given_shape_is_one():
    signature = Signature((TensorSpec("x", (None, 3), "float32"),), ())
    with pytest.raises(ConfigError, match="first axis is the batch, expected 1"):
        make_inputs(signature, {"x": (4, 3)}, "m")
