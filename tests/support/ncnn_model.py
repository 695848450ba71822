"""A small network in ncnn's own format, written from a seed, and what numpy makes of it.

Convolution 3×3 with ReLU → maximum over 2×2 → fully connected. ncnn's wiki, "param and model file structure":
in a .bin each layer's weights begin with a flag of four bytes, 0 for float32; biases have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CHANNELS, SIZE, KERNELS, CLASSES = 3, 8, 4, 5
Floats = npt.NDArray[np.float32]

_PARAM = f"""7767517
4 4
Input data 0 1 data {{sizes}}
Convolution conv 1 1 data conv 0={KERNELS} 1=3 4=1 5=1 6={KERNELS * CHANNELS * 9} 9=1
Pooling pool 1 1 conv pool 0=0 1=2 2=2
InnerProduct scores 1 1 pool scores 0={CLASSES} 1=1 2={CLASSES * KERNELS * SIZE * SIZE // 4}
"""


@dataclass(frozen=True)
class SmallNetwork:
    """The network's files and weights. It takes `data` (3, 8, 8) and gives `scores` (5,)."""

    param: Path
    kernels: Floats
    kernel_bias: Floats
    matrix: Floats
    bias: Floats

    @property
    def bin(self) -> Path:
        return self.param.with_suffix(".bin")

    def expected(self, data: Floats) -> npt.NDArray[Any]:
        """Return the scores of one sample, in float64."""
        padded = np.pad(data.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        convolved = np.einsum("chwyx,kcyx->khw", windows, self.kernels) + self.kernel_bias[:, None, None]
        halves = np.maximum(convolved, 0).reshape(KERNELS, SIZE // 2, 2, SIZE // 2, 2)
        scores: npt.NDArray[Any] = self.matrix @ halves.max(axis=(2, 4)).ravel() + self.bias
        return scores


def write_network(
    folder: Path, name: str = "small", *, seed: int = 7, open_shape: bool = False
) -> SmallNetwork:
    """Write `name`.param and `name`.bin; with `open_shape` the file doesn't say how large its input is."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Floats:
        return (rng.random(shape) - 0.5).astype(np.float32)

    network = SmallNetwork(
        folder / f"{name}.param",
        draw(KERNELS, CHANNELS, 3, 3),
        draw(KERNELS),
        draw(CLASSES, KERNELS * SIZE * SIZE // 4),
        draw(CLASSES),
    )
    sizes = "" if open_shape else f"0={SIZE} 1={SIZE} 2={CHANNELS}"
    network.param.write_text(_PARAM.format(sizes=sizes), encoding="ascii")
    flag = bytes(4)
    parts = (flag, network.kernels, network.kernel_bias, flag, network.matrix, network.bias)
    network.bin.write_bytes(b"".join(p if isinstance(p, bytes) else p.tobytes() for p in parts))
    return network
