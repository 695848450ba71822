#!/usr/bin/env python3
"""Makes tests/data/models/: tiny models, sound ones and bad ones, for tests of what a runtime refuses.

    make_broken_models.py

Needs `onnx`, and `tensorflow-cpu` for the TFLite schema (both in tools/models-requirements.txt); the files
are committed so that tests need neither. tests/data/models/README.md says what each one is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).parents[1] / "tests" / "data" / "models"
SEED = 11
OPSET = 17
IR_VERSION = 8
CHANNELS_IN, CHANNELS_OUT = 4, 3
HEAVY_ELEMENTS = 8192  # chosen: a call takes some twenty times as long as tiny.onnx's


def main() -> int:
    """Write every file and return 0."""
    OUT.mkdir(parents=True, exist_ok=True)
    files = {**make_onnx(), **make_tflite()}
    for name, data in files.items():
        (OUT / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes")
    return 0


def make_onnx() -> dict[str, bytes]:
    """Return the ONNX files by name."""
    tiny = dense_model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    text = b"This is not a model.\nversion https://git-lfs.github.com/spec/v1\nsize 461057\n"
    return {
        "tiny.onnx": tiny,
        "truncated.onnx": tiny[: len(tiny) * 2 // 3],
        "empty.onnx": b"",
        "not_a_model.onnx": text,
        "opset_99.onnx": dense_model([helper.make_node("MatMul", ["x", "w"], ["y"])], opset=99),
        "unsupported_op.onnx": dense_model([helper.make_node("NoSuchOp", ["x", "w"], ["y"], domain="acme")]),
        "fails_when_run.onnx": make_fails_when_run(),
        "nan_output.onnx": make_nan_output(),
        "dynamic_shape.onnx": make_dynamic_shape(),
        "two_inputs.onnx": make_two_inputs(),
        "int64_input.onnx": make_int64_input(),
        "fixed_batch.onnx": dense_model([helper.make_node("MatMul", ["x", "w"], ["y"])], batch=1),
        "heavy.onnx": make_heavy(),
    }


def make_tflite() -> dict[str, bytes]:
    """Return the TFLite files by name."""
    tiny = tflite_model(custom_op=None)
    noise = np.random.default_rng(SEED).bytes(1016)
    return {
        "tiny.tflite": tiny,
        "truncated.tflite": tiny[: len(tiny) * 2 // 3],
        "garbage.tflite": noise[:4] + b"TFL3" + noise[4:],
        "not_a_model.tflite": b"This is not a model.\n",
        "unsupported_op.tflite": tflite_model(custom_op="NoSuchOp"),
    }


def dense_model(nodes: Sequence[Any], *, opset: int = OPSET, batch: str | int = "batch") -> bytes:
    """Return a model from `x` float32 [batch, 4] to `y` float32 [batch, 3], weights in `w`."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, CHANNELS_IN])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CHANNELS_OUT])]
    return pack(nodes, inputs, outputs, [numpy_helper.from_array(seeded_weights(), "w")], opset=opset)


def make_heavy() -> bytes:
    """Return tiny.onnx with many times the work and the same outputs: what is added to them is always 0."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CHANNELS_IN])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CHANNELS_OUT])]
    shapes = {"row": [1, HEAVY_ELEMENTS], "column": [HEAVY_ELEMENTS, 1]}
    constants = [numpy_helper.from_array(np.array(n, dtype=np.int64), f"{name}_shape")
                 for name, n in shapes.items()]  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["plain"]),
        # zeros that the runtime makes itself when it loads the model keep the file small
        *(helper.make_node("ConstantOfShape", [f"{name}_shape"], [name]) for name in shapes),
        helper.make_node("ReduceSum", ["x", "last_axis"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "row"], ["spread"]),
        helper.make_node("Asinh", ["spread"], ["worked"]),
        helper.make_node("MatMul", ["worked", "column"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["y"]),
    ]
    constants += [
        numpy_helper.from_array(seeded_weights(), "w"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "last_axis"),
    ]
    return pack(nodes, inputs, outputs, constants)


def make_fails_when_run() -> bytes:
    """Return a model that loads, and whose only op can't work on the shape that its signature promises."""
    shape = numpy_helper.from_array(np.array([7, 7], dtype=np.int64), "shape")
    return pack(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CHANNELS_IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
        [shape],
    )


def make_nan_output() -> bytes:
    """Return a model whose outputs are all NaN: the root of a negative number."""
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("Add", ["size", "one"], ["positive"]),
        helper.make_node("Neg", ["positive"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["y"]),
    ]
    return pack(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CHANNELS_IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CHANNELS_IN])],
        [numpy_helper.from_array(np.array([1.0], dtype=np.float32), "one")],
    )


def make_dynamic_shape() -> bytes:
    """Return a model that leaves its batch and two more dimensions open: the mean over an image."""
    return pack(
        [helper.make_node("GlobalAveragePool", ["image"], ["mean"])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3, 1, 1])],
        [],
    )


def make_two_inputs() -> bytes:
    """Return a model that adds `left` and `right`."""
    shape = ["batch", CHANNELS_IN]
    return pack(
        [helper.make_node("Add", ["left", "right"], ["total"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("left", "right")],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, shape)],
        [],
    )


def make_int64_input() -> bytes:
    """Return an embedding: `tokens` int64 [batch, 5] pick rows of a table of 16."""
    table = np.random.default_rng(SEED).normal(size=(16, CHANNELS_OUT)).astype(np.float32)
    return pack(
        [helper.make_node("Gather", ["table", "tokens"], ["vectors"])],
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", 5])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", 5, CHANNELS_OUT])],
        [numpy_helper.from_array(table, "table")],
    )


def pack(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializers: Sequence[Any],
    *,
    opset: int = OPSET,
) -> bytes:
    """Return a ModelProto's bytes, unchecked: some of these are wrong on purpose."""
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted({n.domain for n in nodes} - {""})]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tests")
    return bytes(model.SerializeToString(deterministic=True))


def seeded_weights() -> np.ndarray:
    """Return the (4, 3) float32 weights that tiny.onnx and tiny.tflite share."""
    return np.random.default_rng(SEED).normal(size=(CHANNELS_IN, CHANNELS_OUT)).astype(np.float32)


def tflite_model(*, custom_op: str | None) -> bytes:
    """Return a flatbuffer from `x` float32 [batch, 4] to `y` float32 [batch, 3], without a signature.

    One FULLY_CONNECTED, or the custom op of that name in its place.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    code = schema.OperatorCodeT()
    builtin = schema.BuiltinOperator.CUSTOM if custom_op else schema.BuiltinOperator.FULLY_CONNECTED
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.customCode = custom_op
    code.version = 1

    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    if custom_op is None:
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()

    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor(schema, "x", (1, CHANNELS_IN), 0, (-1, CHANNELS_IN)),
        _tensor(schema, "w", (CHANNELS_OUT, CHANNELS_IN), 1),
        _tensor(schema, "y", (1, CHANNELS_OUT), 0, (-1, CHANNELS_OUT)),
    ]
    graph.inputs, graph.outputs, graph.operators, graph.name = [0], [2], [operator], "main"

    weights = schema.BufferT()
    weights.data = np.frombuffer(np.ascontiguousarray(seeded_weights().T).tobytes(), dtype=np.uint8)
    model = schema.ModelT()
    model.version, model.description = 3, "tests"
    model.operatorCodes, model.subgraphs, model.buffers = [code], [graph], [schema.BufferT(), weights]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(schema: Any, name: str, shape: Iterable[int], buffer: int, signature: Iterable[int] = ()) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
    tensor.type = schema.TensorType.FLOAT32
    if signature := list(signature):
        tensor.shapeSignature = signature
    return tensor


if __name__ == "__main__":
    sys.exit(main())
