"""The network's shape, once for training and both exports, and what it costs.

A MobileNet-like stack: a strided stem, depthwise-separable blocks with residuals where the shape allows,
global mean, one dense layer. No batch norm here: training folds it into the kernels, and both exports use
the same folded arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from digits.data import CLASSES, SIDE_PX

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """A depthwise 3x3 with `stride`, then a pointwise 1x1. Residual where shape in equals shape out."""

    name: str
    channels_in: int
    channels_out: int
    stride: int

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.channels_in == self.channels_out


STEM_CHANNELS = 16
STEM_STRIDE = 2
BLOCKS = (
    Block("block1", 16, 48, 1),
    Block("block2", 48, 96, 2),
    *(Block(f"block{i}", 96, 96, 1) for i in range(3, 9)),
    Block("block9", 96, 160, 2),
    Block("block10", 160, 160, 1),
)
HEAD_CHANNELS = BLOCKS[-1].channels_out


@dataclass(frozen=True)
class Folded:
    """A kernel with its batch norm folded in.

    `kernel`: (h, w, in, out) for a convolution, (h, w, channels, 1) for a depthwise one, (in, out) for
    the dense layer. `bias`: (out,).
    """

    kernel: FloatArray
    bias: FloatArray


Weights = dict[str, Folded]


def layer_names() -> tuple[str, ...]:
    """Return the name of every layer that has a kernel, in order."""
    blocks = tuple(f"{b.name}_{part}" for b in BLOCKS for part in ("depthwise", "pointwise"))
    return ("stem", *blocks, "dense")


def same_pads(side: int, stride: int) -> tuple[int, int]:
    """Return (before, after) padding of a 3-wide kernel under TensorFlow's SAME rule."""
    out = -(-side // stride)
    total = max((out - 1) * stride + 3 - side, 0)
    return total // 2, total - total // 2


def count_macs() -> int:
    """Return the multiply-accumulates of one image: convolutions and the dense layer, padding included.

    Biases, residual additions, activations and the mean are not counted.
    """
    side = SIDE_PX // STEM_STRIDE
    macs = side * side * 9 * STEM_CHANNELS
    for block in BLOCKS:
        side //= block.stride
        macs += side * side * block.channels_in * (9 + block.channels_out)
    return macs + HEAD_CHANNELS * CLASSES


def count_params(weights: Weights) -> int:
    """Return how many numbers the folded weights hold."""
    return sum(w.kernel.size + w.bias.size for w in weights.values())
