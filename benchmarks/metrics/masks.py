"""Pairs of masks to score: random ones, and those that break metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SHAPE = (14, 22, 26)
ISOTROPIC = (1.0, 1.0, 1.0)
ANISOTROPIC = (3.0, 0.9, 1.1)


@dataclass(frozen=True, kw_only=True)
class MaskPair:
    """A prediction and its reference.

    Attributes:
        name: of the pair.
        prediction: (Z,Y,X) bool.
        reference: (Z,Y,X) bool.
        spacing: mm along (z,y,x).
    """

    name: str
    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float, float]


def make_pairs(count: int, seed: int = 0) -> Iterator[MaskPair]:
    """``count`` random pairs, then every adversarial one; each on an isotropic and on an anisotropic grid."""
    generator = np.random.default_rng(seed)
    pairs = [(f"random {number}", *_random_pair(generator)) for number in range(count)]
    for name, prediction, reference in [*pairs, *_adversarial_pairs(generator)]:
        for kind, spacing in (("isotropic", ISOTROPIC), ("anisotropic", ANISOTROPIC)):
            yield MaskPair(name=f"{name}, {kind}", prediction=prediction, reference=reference, spacing=spacing)


def _random_pair(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blobs of many sizes; the prediction is the reference moved, with blobs of its own."""
    reference = _blobs(generator, generator.uniform(0.85, 0.99))
    moved = np.roll(reference, generator.integers(-1, 2, 3), axis=(0, 1, 2))
    own = _blobs(generator, generator.uniform(0.93, 0.995))
    forgotten = ndimage.binary_dilation(_blobs(generator, 0.97), iterations=2)
    return (moved & ~forgotten) | own, reference


def _blobs(generator: np.random.Generator, share: float) -> np.ndarray:
    field = ndimage.gaussian_filter(generator.normal(size=SHAPE), generator.uniform(0.6, 1.6))
    return field > np.quantile(field, share)


def _adversarial_pairs(generator: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    empty, full = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    lesion, voxel, far = empty.copy(), empty.copy(), empty.copy()
    lesion[4:9, 6:13, 8:15] = True
    voxel[5, 5, 5] = far[13, 21, 25] = True
    corners = empty.copy()
    corners[:: SHAPE[0] - 1, :: SHAPE[1] - 1, :: SHAPE[2] - 1] = True
    border = empty.copy()
    border[0, 3:12, 4:11] = border[7:, 0, 5:20] = True
    shell = lesion & ~ndimage.binary_erosion(lesion)
    checkers = np.indices(SHAPE).sum(axis=0) % 2 == 0
    noise = generator.random(SHAPE) > 0.95
    stairs = empty.copy()
    for step in range(13):
        stairs[step, step, step] = True
    halves = empty.copy()
    halves[:, :, :12] = True
    bridge = lesion.copy()
    bridge[6, 9, 15:] = True
    yield "both empty", empty, empty
    yield "prediction empty", empty, lesion
    yield "reference empty", lesion, empty
    yield "both full", full, full
    yield "prediction full", full, lesion
    yield "reference full", lesion, full
    yield "equal", lesion, lesion
    yield "single voxels, same", voxel, voxel
    yield "single voxels, apart", far, voxel
    yield "single voxel in a lesion", voxel, lesion | voxel
    yield "eight corners", corners, corners | voxel
    yield "corners against a lesion", corners, lesion
    yield "touching the border", border, np.roll(border, 1, axis=1)
    yield "hollow against solid", shell, lesion
    yield "solid against hollow", lesion, shell
    yield "checkers against full", checkers, full
    yield "noise against noise", generator.random(SHAPE) > 0.95, noise
    yield "noise against a lesion", noise | lesion, lesion
    yield "voxels joined by corners", stairs, stairs | voxel
    yield "half the grid", halves, np.roll(halves, 3, axis=2)
    yield "two lesions joined", bridge | border, lesion | border
