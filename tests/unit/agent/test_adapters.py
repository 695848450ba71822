"""The runtimes' adapters against real runtimes where the host has them, and quantisation by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.agent.adapters.base import ModelError, OptionError, UnsupportedError

TINY = Path(__file__).parents[2] / "data" / "models"


@pytest.fixture
def ort() -> Any:
    from harness.agent.adapters import onnxruntime

    return onnxruntime


@pytest.fixture
def litert() -> Any:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not on this host")
    from harness.agent.adapters import litert

    return litert


@pytest.fixture
def tflite() -> Any:
    from harness.agent.adapters import tflite

    return tflite


def test_onnxruntime_runs(ort: Any) -> None:
    session = ort.load(str(TINY / "tiny.onnx"), 1, {"graph_optimization_level": "basic"})
    assert session.inputs == [{"name": "x", "shape": [None, 4], "dtype": "float32"}]
    assert session.outputs == [{"name": "y", "shape": [None, 3], "dtype": "float32"}]
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    session.prepare({"x": x})()
    both = session.read_outputs()["y"]
    session.prepare({"x": x[1:]})()
    assert np.array_equal(session.read_outputs()["y"], both[1:])


@pytest.mark.parametrize("name", ["truncated", "empty", "not_a_model", "opset_99", "unsupported_op"])
def test_onnxruntime_refuses_in_its_own_words(ort: Any, name: str) -> None:
    with pytest.raises(ModelError, match="ONNXRuntimeError") as caught:
        ort.load(str(TINY / f"{name}.onnx"), 1, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"execution_provider": []}, OptionError, "did you mean `execution_providers`"),
        ({"graph_optimization_level": "most"}, OptionError, "valid: disable, basic"),
        ({"execution_providers": ["NoSuchProvider"]}, UnsupportedError, "it has .*CPUExecutionProvider"),
    ],
)
def test_onnxruntime_options(ort: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ort.load(str(TINY / "tiny.onnx"), 1, options)


def test_litert_runs_and_resizes(litert: Any) -> None:
    session = litert.load(str(TINY / "tiny.tflite"), 1, {})
    (spec,) = session.inputs
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    session.prepare({spec["name"]: x})()
    (both,) = session.read_outputs().values()
    assert both.shape == (2, 3)
    session.prepare({spec["name"]: x[1:]})()
    (one,) = session.read_outputs().values()
    assert np.allclose(one, both[1:])


def test_litert_names_follow_the_signature(litert: Any) -> None:
    model = Path(__file__).parents[3] / "models" / "digits_fp32.tflite"
    session = litert.load(str(model), 1, {})
    assert session.inputs[0]["name"] == "image"
    assert session.inputs[0]["aliases"] == ["serving_default_image:0"]
    assert session.inputs[0]["shape"] == [None, 32, 32, 1]
    assert session.outputs[0]["name"] == "logits"


@pytest.mark.parametrize("name", ["truncated", "garbage", "not_a_model", "unsupported_op"])
def test_litert_refuses_in_its_own_words(litert: Any, name: str) -> None:
    with pytest.raises(ModelError, match=r"\w+ \w+"):
        litert.load(str(TINY / f"{name}.tflite"), 1, {})


class FakeInterpreter:
    """One int8 tensor that goes through unchanged; a batch above `most` can't be allocated."""

    most = 4

    def __init__(self, model_path: str, num_threads: int) -> None:
        self.shape: tuple[int, ...] = (1, 3)
        self.value: Any = None

    def allocate_tensors(self) -> None:
        if self.shape[0] > self.most:
            raise RuntimeError("tensor has too many rows\nNode number 3 failed to prepare")

    def get_signature_list(self) -> dict[str, Any]:
        return {}

    def details(self, index: int, name: str) -> list[dict[str, Any]]:
        return [
            {
                "index": index,
                "name": name,
                "dtype": np.int8,
                "shape": np.array(self.shape, np.int32),
                "shape_signature": np.array(self.shape, np.int32),
                "quantization": (0.5, -10),
            }
        ]

    def get_input_details(self) -> list[dict[str, Any]]:
        return self.details(0, "in")

    def get_output_details(self) -> list[dict[str, Any]]:
        return self.details(1, "out")

    def resize_tensor_input(self, index: int, shape: list[int]) -> None:
        self.shape = tuple(shape)

    def set_tensor(self, index: int, value: Any) -> None:
        assert value.dtype == np.int8
        assert value.shape == self.shape
        self.value = value

    def get_tensor(self, index: int) -> Any:
        return self.value

    def invoke(self) -> None:
        pass


def test_quantised_tensors_speak_real_units(tflite: Any) -> None:
    session = tflite.load_session(FakeInterpreter, "m", 1, {})
    assert session.inputs[0]["accepts"] == ["int8", "float32"]
    assert session.inputs[0]["quantization"] == {"scale": 0.5, "zero_point": -10}
    session.prepare({"in": np.array([[0.0, 1.2, 1000.0]], np.float32)})()
    # real = scale × (q − zero_point): 0 → −10, 1.2 → 2.4 steps → −8, 1000 saturates at 127
    assert session._interpreter.value.tolist() == [[-10, -8, 127]]
    assert session.read_outputs()["out"].tolist() == [[0.0, 1.0, 68.5]]


def test_quantised_inputs_may_come_as_they_are(tflite: Any) -> None:
    session = tflite.load_session(FakeInterpreter, "m", 1, {})
    session.prepare({"in": np.array([[1, 2, 3]], np.int8)})()
    assert session._interpreter.value.tolist() == [[1, 2, 3]]


def test_a_refused_resize_is_unsupported(tflite: Any) -> None:
    session = tflite.load_session(FakeInterpreter, "m", 1, {})
    session.prepare({"in": np.zeros((4, 3), np.float32)})
    with pytest.raises(UnsupportedError, match=r"in 5x3: tensor has too many rows$"):
        session.prepare({"in": np.zeros((5, 3), np.float32)})
