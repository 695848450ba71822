"""A model that is larger than the demo's: eight 3×3 convolutions over 64 channels, seeded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LAYERS, CHANNELS, SIDE_PX = 8, 64, 28  # 0.46 GFLOP
SEED = 7


def write_heavy(target: Path) -> Path:
    """Write the model, input `image` (batch, 64, 28, 28) float32, as ONNX; return its file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(SEED)
    nodes: list[Any] = []
    weights: list[Any] = []
    shape: list[Any] = ["batch", CHANNELS, SIDE_PX, SIDE_PX]
    x = "image"
    for i in range(LAYERS):
        kernel = rng.normal(0, 0.04, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{i}"))
        nodes.append(helper.make_node("Conv", [x, f"kernel{i}"], [f"conv{i}"], pads=[1, 1, 1, 1]))
        x = "features" if i == LAYERS - 1 else f"relu{i}"
        nodes.append(helper.make_node("Relu", [f"conv{i}"], [x]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "features")]
    graph = helper.make_graph(nodes, "heavy", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return target
