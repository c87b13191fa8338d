"""Probabilities of a scan only where anything but background is possible, so that they stay small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from autoseg.core.geometry import Box, bounding_box, box_slices

NEGLIGIBLE = 1e-4  # a probability below it counts as 0, and one as far below 1 as 1


@dataclass(frozen=True, kw_only=True)
class BoxedProbabilities:
    """Probabilities within a box of the scan; outside, background is certain.

    Attributes:
        voxels: (K,z,y,x) float16 or float32 within the box, in the scan's own axis order.
        box: (start, stop) per axis of the scan.
        shape: voxels (Z,Y,X) of the scan.
        overlap: the K channels are regions; else classes that exclude each other, background first.
    """

    voxels: np.ndarray
    box: Box
    shape: tuple[int, ...]
    overlap: bool

    @classmethod
    def of(cls, probabilities: np.ndarray, *, overlap: bool) -> Self:
        """The smallest box that holds every probability worth keeping.

        Args:
            probabilities: (K,Z,Y,X) float16 of the whole scan.
        """
        foreground = probabilities if overlap else probabilities[1:]
        kept: np.ndarray = np.any(foreground >= NEGLIGIBLE, axis=0)
        box: Box = bounding_box(kept) if kept.any() else ((0, 0), (0, 0), (0, 0))
        voxels = probabilities[(slice(None), *box_slices(box))].copy()
        voxels[voxels < NEGLIGIBLE] = 0
        return cls(voxels=voxels, box=box, shape=probabilities.shape[1:], overlap=overlap)

    def within(self, box: Box) -> np.ndarray:
        """(K,z,y,x) float32 of another box, which holds this one."""
        wider = np.zeros((len(self.voxels), *(stop - start for start, stop in box)), np.float32)
        if not self.overlap:
            wider[0] = 1
        if self.voxels.size:
            inside = tuple(
                slice(own[0] - other[0], own[1] - other[0]) for own, other in zip(self.box, box, strict=True)
            )
            wider[(slice(None), *inside)] = self.voxels
        return wider


def join_boxes(boxes: Sequence[Box], shape: Sequence[int], *, margin: int = 0) -> Box:
    """The smallest box that holds all that are not empty, and a margin of voxels; one voxel where all are empty."""
    full = [box for box in boxes if all(stop > start for start, stop in box)]
    if not full:
        return tuple((0, 1) for _ in shape)
    return tuple(
        (max(0, min(box[axis][0] for box in full) - margin), min(size, max(box[axis][1] for box in full) + margin))
        for axis, size in enumerate(shape)
    )
