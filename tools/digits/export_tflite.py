"""Writes folded weights as TFLite: fp32, and int8 inside with float32 input and output.

Both have the signature `serving_default` with input `image` float32 [batch, 32, 32, 1] and output `logits`
float32 [batch, 10]; the tensors themselves bear the converter's names. The batch can be resized.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from digits.data import SIDE_PX, FloatArray
from digits.net import BLOCKS, STEM_STRIDE, Weights


def build_fp32(weights: Weights) -> bytes:
    """Return the fp32 flatbuffer."""
    return _convert(weights, None)


def build_int8(weights: Weights, calibration: FloatArray) -> bytes:
    """Return the flatbuffer with per-channel int8 weights and int8 activations."""
    return _convert(weights, calibration)


def _convert(weights: Weights, calibration: FloatArray | None) -> bytes:
    import tensorflow as tf

    module = _module(weights)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if calibration is not None:

            def samples() -> Iterator[dict[str, FloatArray]]:
                for one in calibration:
                    yield {"image": one[np.newaxis]}

            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = samples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return bytes(converter.convert())


def _module(weights: Weights) -> Any:
    import tensorflow as tf

    class Digits(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, SIDE_PX, SIDE_PX, 1], tf.float32, "image")])
        def serve(self, image: Any) -> dict[str, Any]:
            return {"logits": _forward(image, weights)}

    return Digits()


def _forward(image: Any, weights: Weights) -> Any:
    import tensorflow as tf

    def conv(x: Any, name: str, stride: int = 1) -> Any:
        layer = weights[name]
        step = [1, stride, stride, 1]
        if name.endswith("_depthwise"):
            x = tf.nn.depthwise_conv2d(x, layer.kernel, step, "SAME")
        else:
            x = tf.nn.conv2d(x, layer.kernel, step, "SAME")
        return tf.nn.bias_add(x, layer.bias)

    x = tf.nn.relu(conv(image, "stem", STEM_STRIDE))
    for block in BLOCKS:
        y = tf.nn.relu(conv(x, f"{block.name}_depthwise", block.stride))
        y = conv(y, f"{block.name}_pointwise")
        x = tf.nn.relu(x + y if block.residual else y)
    x = tf.reduce_mean(x, axis=[1, 2])
    dense = weights["dense"]
    return tf.nn.bias_add(tf.matmul(x, dense.kernel), dense.bias)
