"""The handwritten digits as 32x32 images: seeded split, and augmentation for training only.

Source: scikit-learn's `load_digits`, the test part of UCI "Optical Recognition of Handwritten Digits"
(Alpaydin and Kaynak, 1998, doi:10.24432/C50P49, CC BY 4.0). Writers are not named in it, so the split is
by image: a writer may appear in more than one part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

SIDE_PX = 32
CLASSES = 10
TEST_SAMPLES = 300  # at about 40 ms each on the emulated board: 12 s
VALIDATION_SAMPLES = 240
SCALE_MAX = 16.0  # load_digits counts 0 to 16 set pixels in each cell


@dataclass(frozen=True)
class Part:
    """`image`: (n, 32, 32, 1) in 0 to 1; `labels`: (n,)."""

    image: FloatArray
    labels: IntArray


@dataclass(frozen=True)
class Digits:
    train: Part
    validation: Part
    test: Part


def read_digits(seed: int) -> Digits:
    """Return the three parts: stratified by class, disjoint, no image in two of them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    cells, first = np.unique(bunch.images, axis=0, return_index=True)
    labels = bunch.target[first].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    cells, labels = cells[order], labels[order]
    image = upscale(cells)
    test, rest = take_stratified(labels, np.arange(len(labels)), TEST_SAMPLES)
    validation, train = take_stratified(labels, rest, VALIDATION_SAMPLES)
    return Digits(*(Part(image[i], labels[i]) for i in (train, validation, test)))


def take_stratified(labels: IntArray, candidates: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Return (taken, left): `count / CLASSES` candidates of each class, and the others, in order."""
    per_class = count // CLASSES
    taken = np.concatenate([candidates[labels[candidates] == c][:per_class] for c in range(CLASSES)])
    taken = np.sort(taken)
    return taken, np.setdiff1d(candidates, taken)


def upscale(cells: npt.NDArray[np.float64]) -> FloatArray:
    """Return (n, 8, 8) cell counts as (n, 32, 32, 1) images in 0 to 1, by linear interpolation."""
    factor = SIDE_PX // cells.shape[1]
    zoomed = ndimage.zoom(cells / SCALE_MAX, (1, factor, factor), order=1, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(zoomed[..., np.newaxis], dtype=np.float32)


def augment(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the images turned, scaled, sheared, shifted and made noisy, each by its own draw."""
    out = np.empty_like(image)
    centre = np.full(2, (SIDE_PX - 1) / 2)
    for i, one in enumerate(image[..., 0]):
        angle_rad = rng.normal(0.0, 0.14)
        cos, sin = np.cos(angle_rad), np.sin(angle_rad)
        shear = np.array([[1.0, rng.normal(0.0, 0.08)], [0.0, 1.0]])
        matrix = np.array([[cos, -sin], [sin, cos]]) @ shear * rng.uniform(0.88, 1.14)
        offset = centre - matrix @ centre + rng.uniform(-2.5, 2.5, 2)
        out[i, ..., 0] = ndimage.affine_transform(one, matrix, offset, order=1)
    out += rng.normal(0.0, 0.04, out.shape).astype(np.float32)
    return np.clip(out, 0.0, 1.0)
