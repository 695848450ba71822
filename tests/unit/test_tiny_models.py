"""The tiny models of tests/data/models do what their README says, so that other tests may rely on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

TINY = Path(__file__).parents[1] / "data" / "models"
REFUSED = ("truncated", "empty", "not_a_model", "opset_99", "unsupported_op")


def load_onnx(name: str) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime.InferenceSession(TINY / f"{name}.onnx", providers=["CPUExecutionProvider"])


def load_tflite(name: str) -> Any:
    module = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not on this host")
    interpreter = module.Interpreter(str(TINY / f"{name}.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def test_readme_names_every_file() -> None:
    text = (TINY / "README.md").read_text(encoding="utf-8")
    files = {p.name for p in TINY.iterdir() if p.name != "README.md"}
    assert {f for f in files if f"`{f}`" not in text and f"`{Path(f).stem}.*`" not in text} == set()
    assert max(p.stat().st_size for p in TINY.iterdir()) < 4096


@pytest.mark.parametrize("name", REFUSED)
def test_onnxruntime_refuses(name: str) -> None:
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        load_onnx(name)


@pytest.mark.parametrize("name", ["truncated", "garbage", "not_a_model", "unsupported_op"])
def test_litert_refuses(name: str) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        load_tflite(name)


@pytest.mark.parametrize(
    ("name", "feeds", "shape"),
    [
        ("tiny", {"x": np.ones((2, 4), np.float32)}, (2, 3)),
        ("fixed_batch", {"x": np.ones((1, 4), np.float32)}, (1, 3)),
        ("two_inputs", {n: np.ones((2, 4), np.float32) for n in ("left", "right")}, (2, 4)),
        ("int64_input", {"tokens": np.arange(10, dtype=np.int64).reshape(2, 5)}, (2, 5, 3)),
        ("dynamic_shape", {"image": np.ones((2, 3, 6, 8), np.float32)}, (2, 3, 1, 1)),
    ],
)
def test_onnxruntime_runs(name: str, feeds: dict[str, np.ndarray], shape: tuple[int, ...]) -> None:
    (output,) = load_onnx(name).run(None, feeds)
    assert output.shape == shape
    assert np.isfinite(output).all()


def test_onnx_and_tflite_share_weights() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    interpreter = load_tflite("tiny")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, load_onnx("tiny").run(None, {"x": x})[0], rtol=1e-5)
    assert interpreter.get_signature_list() == {}


def test_the_heavy_one_answers_as_the_tiny_one() -> None:
    x = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    tiny, heavy = (load_onnx(name).run(None, {"x": x})[0] for name in ("tiny", "heavy"))
    np.testing.assert_array_equal(tiny, heavy)


def test_nan_output_is_nan() -> None:
    (output,) = load_onnx("nan_output").run(None, {"x": np.ones((1, 4), np.float32)})
    assert np.isnan(output).all()


def test_fails_when_run_loads_and_then_fails() -> None:
    session = load_onnx("fails_when_run")
    with pytest.raises(Exception, match="Reshape"):
        session.run(None, {"x": np.ones((2, 4), np.float32)})
