"""Writes folded weights as ONNX: fp32, and int8 by static QDQ quantisation.

Input `image` float32 [batch, 32, 32, 1] (the TFLite files' layout, so that one .npz fits all), output
`logits` float32 [batch, 10]. Opset 17 and IR version 8: what onnxruntime 1.12 and later load.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from digits.data import CLASSES, SIDE_PX, FloatArray
from digits.net import BLOCKS, STEM_STRIDE, Folded, Weights, same_pads

OPSET = 17
IR_VERSION = 8


class _Graph:
    """Collects nodes and initialisers of one ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: FloatArray) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def conv(self, x: str, name: str, layer: Folded, side: int, stride: int, groups: int = 1) -> str:
        """Add a convolution; (h, w, in, out) becomes ONNX's (out, in, h, w), a depthwise one likewise."""
        order = (2, 3, 0, 1) if groups > 1 else (3, 2, 0, 1)
        wide = layer.kernel.shape[0] == 3
        before, after = same_pads(side, stride) if wide else (0, 0)
        kernel = self.constant(f"{name}.kernel", layer.kernel.transpose(order))
        bias = self.constant(f"{name}.bias", layer.bias)
        return self.add(
            "Conv",
            [x, kernel, bias],
            name,
            kernel_shape=list(layer.kernel.shape[:2]),
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )


def build_fp32(weights: Weights) -> Any:
    """Return the checked ModelProto."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    x = graph.add("Transpose", ["image"], "image_nchw", perm=[0, 3, 1, 2])
    x = graph.conv(x, "stem", weights["stem"], SIDE_PX, STEM_STRIDE)
    x = graph.add("Relu", [x], "stem_relu")
    side = SIDE_PX // STEM_STRIDE
    for block in BLOCKS:
        name = f"{block.name}_depthwise"
        y = graph.conv(x, name, weights[name], side, block.stride, groups=block.channels_in)
        y = graph.add("Relu", [y], f"{name}_relu")
        side //= block.stride
        name = f"{block.name}_pointwise"
        y = graph.conv(y, name, weights[name], side, 1)
        if block.residual:
            y = graph.add("Add", [x, y], f"{block.name}_add")
        x = graph.add("Relu", [y], f"{block.name}_relu")
    x = graph.add("GlobalAveragePool", [x], "mean")
    x = graph.add("Flatten", [x], "features", axis=1)
    kernel = graph.constant("dense.kernel", weights["dense"].kernel)
    bias = graph.constant("dense.bias", weights["dense"].bias)
    graph.add("Gemm", [x, kernel, bias], "logits")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "digits",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", SIDE_PX, SIDE_PX, 1])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tools/make_models.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def build_int8(fp32: Any, calibration: FloatArray) -> Any:
    """Return the int8 QDQ ModelProto: per-channel int8 weights, uint8 activations, min-max ranges.

    uint8 activations with int8 weights fuse whole on x86-64 and on Arm; int8 activations left 9 of the 21
    convolutions in float on x86-64 (onnxruntime 1.31.1). Weights keep to 7 bits, because 8-bit ones overflow
    the 16-bit sums of x86-64 without VNNI, and host and device would then disagree
    (onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter({"image": one[np.newaxis]} for one in calibration)

        def get_next(self) -> dict[str, FloatArray] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / n for n in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(fp32, source)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        model = onnx.load(target)
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)  # the optimiser lists every domain it knows
    onnx.checker.check_model(model)
    if model.ir_version > IR_VERSION or any(o.version > OPSET for o in model.opset_import if not o.domain):
        raise ValueError(f"quantised to IR {model.ir_version}, {model.opset_import}: newer than asked for")
    return model
