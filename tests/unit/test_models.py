"""The committed models: what README.md says of them is so."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODELS = Path(__file__).parents[2] / "models"
NAMES = ("digits_fp32.onnx", "digits_int8.onnx", "digits_fp32.tflite", "digits_int8.tflite")
ROW = re.compile(
    r"^\| `(?P<name>[\w.]+)` \| (?P<size>\d+) \| (?P<accuracy>[\d.]+|–) \| `(?P<sha256>\w{64})` \|$"
)


@dataclass(frozen=True)
class Row:
    size_bytes: int
    accuracy: float | None
    sha256: str


def read_readme() -> dict[str, Row]:
    rows = {}
    for line in (MODELS / "README.md").read_text(encoding="utf-8").splitlines():
        if match := ROW.match(line):
            accuracy = None if match["accuracy"] == "–" else float(match["accuracy"])
            rows[match["name"]] = Row(int(match["size"]), accuracy, match["sha256"])
    return rows


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    with np.load(MODELS / "digits_test.npz", allow_pickle=False) as archive:
        return dict(archive)


def load_onnx(name: str) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(MODELS / name, providers=["CPUExecutionProvider"])


def load_tflite(name: str) -> Any:
    module = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not on this host")
    return module.Interpreter(str(MODELS / name), num_threads=1)


def infer(name: str, image: np.ndarray) -> np.ndarray:
    """Return the logits of all images, in one batch."""
    if name.endswith(".onnx"):
        return np.asarray(load_onnx(name).run(["logits"], {"image": image})[0])
    return np.asarray(load_tflite(name).get_signature_runner("serving_default")(image=image)["logits"])


def test_readme_lists_every_file_in_the_folder() -> None:
    assert set(read_readme()) == {p.name for p in MODELS.iterdir() if p.name != "README.md"}


@pytest.mark.parametrize("name", [*NAMES, "digits_test.npz"])
def test_file_is_the_one_in_readme(name: str) -> None:
    data, row = (MODELS / name).read_bytes(), read_readme()[name]
    assert (len(data), hashlib.sha256(data).hexdigest()) == (row.size_bytes, row.sha256)


def test_test_set_has_its_documented_form(data: dict[str, np.ndarray]) -> None:
    assert set(data) == {"image", "labels"}
    assert data["image"].dtype == np.float32
    assert data["image"].shape == (300, 32, 32, 1)
    assert 0.0 <= data["image"].min() < data["image"].max() <= 1.0
    assert data["labels"].dtype == np.int64
    assert np.bincount(data["labels"]).tolist() == [30] * 10


def test_no_test_image_is_there_twice(data: dict[str, np.ndarray]) -> None:
    assert len(np.unique(data["image"], axis=0)) == len(data["image"])


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith(".onnx")])
def test_onnx_signature(name: str) -> None:
    session = load_onnx(name)
    seen = [(t.name, t.shape, t.type) for t in (*session.get_inputs(), *session.get_outputs())]
    assert seen == [
        ("image", ["batch", 32, 32, 1], "tensor(float)"),
        ("logits", ["batch", 10], "tensor(float)"),
    ]


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith(".tflite")])
def test_tflite_signature(name: str) -> None:
    interpreter = load_tflite(name)
    signature = {"inputs": ["image"], "outputs": ["logits"]}
    assert interpreter.get_signature_list() == {"serving_default": signature}
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["shape_signature"].tolist(), image["dtype"]) == ([-1, 32, 32, 1], np.float32)
    assert (logits["shape_signature"].tolist(), logits["dtype"]) == ([-1, 10], np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_the_one_in_readme(name: str, data: dict[str, np.ndarray]) -> None:
    logits = infer(name, data["image"])
    assert logits.shape == (300, 10)
    assert logits.dtype == np.float32
    accuracy = float((logits.argmax(axis=1) == data["labels"]).mean())
    # one image of 300: rounding may differ between processors, and int8 amplifies it
    assert accuracy == pytest.approx(read_readme()[name].accuracy, abs=1 / 300 + 1e-4)
    assert accuracy >= 0.975


def test_onnx_and_tflite_hold_the_same_weights(data: dict[str, np.ndarray]) -> None:
    image = data["image"][:32]
    np.testing.assert_allclose(
        infer("digits_fp32.onnx", image), infer("digits_fp32.tflite", image), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_batch_size_does_not_change_the_outputs(name: str, data: dict[str, np.ndarray]) -> None:
    image = data["image"][:8]
    one_by_one = np.concatenate([infer(name, image[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(infer(name, image), one_by_one, rtol=1e-4, atol=1e-4)
