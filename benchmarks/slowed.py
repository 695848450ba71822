"""The demo model with extra work in its graph, so that it is slower by a known share; same outputs.

Every file has the same nodes behind the logits: MatMul → Add → three Asinh → MatMul → Add, over a vector
whose length is the amount of work. The last MatMul's weights are 0, so nothing is added to the logits; the
runtime doesn't know that and does the work. The file that isn't slowed has the nodes too, over
BASE_ELEMENTS: files differ in their amount of work and in nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

# The slowest needs less than twice as much: a buffer in another bin of the runtime's arena (powers of two)
# costs 0.6% at once, where both sizes are used in one process (onnxruntime 1.31, BFC arena)
BASE_ELEMENTS = 1030
LENGTH_INPUTS = ("work", "nothing")  # (1, n) and (n, 1), where the length is left open


def compute_key(source: Path) -> str:
    """Return what names the slowed files of `source`, as they are made here."""
    return hashlib.sha256(source.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:10]


def write_slowed(source: Path, target: Path, elements: int | None) -> Path:
    """Write `source` with work over `elements`; None: as many as its two further inputs have. Return it.

    `source` has one output, (batch, classes). Raises ValueError for another, or fewer than one element.
    """
    import onnx

    model = onnx.load(source)
    _add_work(model.graph, elements)
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return target


def _add_work(graph: Any, elements: int | None) -> None:
    from onnx import TensorProto, helper, numpy_helper

    if len(graph.output) != 1 or len(graph.output[0].type.tensor_type.shape.dim) != 2:
        raise ValueError("expected a model with one output of two axes")
    logits = graph.output[0].name
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    for node in graph.node:
        node.output[:] = ["plain_logits" if name == logits else name for name in node.output]

    def constant(name: str, *shape: int) -> None:
        graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))

    work, nothing = LENGTH_INPUTS
    if elements is None:
        for name, axes in ((work, [1, "n"]), (nothing, ["n", 1])):
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))
    elif elements < 1:
        raise ValueError(f"expected work over at least one element, got {elements}")
    else:
        constant(work, 1, elements)
        constant(nothing, elements, 1)
    constant("no_class", classes, 1)
    for op, inputs, output in (
        ("MatMul", ["plain_logits", "no_class"], "seed"),
        ("Add", ["seed", work], "spread"),
        ("Asinh", ["spread"], "worked_1"),
        ("Asinh", ["worked_1"], "worked_2"),
        ("Asinh", ["worked_2"], "worked"),
        ("MatMul", ["worked", nothing], "no_change"),
        ("Add", ["plain_logits", "no_change"], logits),
    ):
        graph.node.append(helper.make_node(op, inputs, [output], name=f"work_{output}"))
