"""Small ONNX networks whose work differs in kind and amount: convolutions, depthwise ones, dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

# per network: layers of (kind, output channels), on an image of 3 × SIZE × SIZE
SHAPES: dict[str, tuple[tuple[str, int], ...]] = {
    "convolutions": (("conv", 16), ("conv", 16), ("conv", 32)),
    "depthwise": (("conv", 16), ("depthwise", 16), ("conv", 8), ("depthwise", 8)),
    "dense": (("dense", 128), ("dense", 128), ("dense", 10)),
}
SIZE = 16


def make_networks(folder: Path) -> list[Path]:
    """Write each network of SHAPES into `folder`, with seeded weights; return their files."""
    files = []
    for seed, (name, layers) in enumerate(SHAPES.items()):
        files.append(folder / f"{name}.onnx")
        save(_make(layers, np.random.default_rng(seed)), files[-1])
    return files


def _make(layers: Sequence[tuple[str, int]], rng: np.random.Generator) -> ModelProto:
    nodes, weights = [], []
    inputs, name = 3, "x"
    for number, (kind, outputs) in enumerate(layers):
        if kind == "dense" and number == 0:
            nodes.append(helper.make_node("Flatten", [name], ["flat"]))
            inputs, name = inputs * SIZE * SIZE, "flat"
        groups = inputs if kind == "depthwise" else 1
        shape = (inputs, outputs) if kind == "dense" else (outputs, inputs // groups, 3, 3)
        values = rng.normal(0, (2 / np.prod(shape[:-1] if kind == "dense" else shape[1:])) ** 0.5, shape)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{number}"))
        op = "MatMul" if kind == "dense" else "Conv"
        more = {} if kind == "dense" else {"pads": [1, 1, 1, 1], "group": groups}
        nodes.append(helper.make_node(op, [name, f"w{number}"], [f"h{number}"], **more))
        nodes.append(helper.make_node("Relu", [f"h{number}"], [f"y{number}"]))
        inputs, name = outputs, f"y{number}"
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "network", [image], [result], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
