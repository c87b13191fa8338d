"""Probabilities of held-out cases on disk: only where anything but background is possible, so that they stay small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np

from autoseg.core.errors import ModelError
from autoseg.core.geometry import Box, bounding_box, box_slices
from autoseg.core.records import Outputs
from autoseg.core.store import replacing

NEGLIGIBLE = 1e-4  # a probability below it counts as 0: far below any threshold, and zeros compress


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
        kept = (foreground >= NEGLIGIBLE).any(axis=0)
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


def write_probabilities(path: Path, found: BoxedProbabilities, outputs: Outputs) -> None:
    """One compressed ``.npz``, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            probabilities=found.voxels.astype(np.float16, copy=False),
            box=np.array(found.box, np.int32),
            shape=np.array(found.shape, np.int32),
            names=np.array(outputs.names),
            values=np.array(outputs.values),
        )


def read_probabilities(path: Path, outputs: Outputs, *, remedy: str) -> BoxedProbabilities:
    """What ``write_probabilities`` wrote.

    Raises:
        ModelError: missing, damaged, or of other labels; the message ends with ``remedy``.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = tuple(int(value) for value in stored["values"])
            found = BoxedProbabilities(
                voxels=stored["probabilities"],
                box=tuple((int(start), int(stop)) for start, stop in stored["box"]),
                shape=tuple(int(size) for size in stored["shape"]),
                overlap=outputs.overlap,
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); {remedy}") from error
    if values != outputs.values:
        raise ModelError(f"{path} holds probabilities of other labels ({values}) than the plan has; {remedy}")
    return found
