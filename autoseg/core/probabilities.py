"""Class probabilities of a scan, cropped to where anything but background is possible; in memory and on disk."""

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

NEGLIGIBLE = 1e-4  # a probability below it counts as 0, and one as far below 1 as 1


@dataclass(frozen=True, kw_only=True)
class ClassProbabilities:
    """Probabilities within a box of the scan; outside, background is certain.

    Attributes:
        voxels: (K,z,y,x) float16 or float32 within the box, in the scan's own axis order.
        box: (start, stop) per axis of the scan.
        shape: voxels (Z,Y,X) of the scan.
        outputs: the K classes or regions.
    """

    voxels: np.ndarray
    box: Box
    shape: tuple[int, ...]
    outputs: Outputs

    @classmethod
    def whole(cls, probabilities: np.ndarray, outputs: Outputs) -> Self:
        """Probabilities of the whole scan as they are.

        Args:
            probabilities: (K,Z,Y,X) float16 or float32.
            outputs: the K classes or regions.
        """
        shape = probabilities.shape[1:]
        return cls(voxels=probabilities, box=tuple((0, size) for size in shape), shape=shape, outputs=outputs)

    @classmethod
    def cropped(cls, probabilities: np.ndarray, outputs: Outputs) -> Self:
        """The smallest box that holds every probability that is not negligible.

        Args:
            probabilities: (K,Z,Y,X) float16 or float32 of the whole scan.
            outputs: the K classes or regions.
        """
        foreground = probabilities if outputs.overlap else probabilities[1:]
        possible: np.ndarray = np.any(foreground >= NEGLIGIBLE, axis=0)
        box: Box = bounding_box(possible) if possible.any() else ((0, 0), (0, 0), (0, 0))
        voxels = probabilities[(slice(None), *box_slices(box))].copy()
        voxels[voxels < NEGLIGIBLE] = 0
        return cls(voxels=voxels, box=box, shape=probabilities.shape[1:], outputs=outputs)

    def within(self, box: Box) -> np.ndarray:
        """(K,z,y,x) float32 of another box, which holds this one."""
        wider = np.zeros((len(self.voxels), *(stop - start for start, stop in box)), np.float32)
        if not self.outputs.overlap:
            wider[0] = 1
        if self.voxels.size:
            inside = tuple(
                slice(inner[0] - outer[0], inner[1] - outer[0]) for inner, outer in zip(self.box, box, strict=True)
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


def write_probabilities(path: Path, probabilities: ClassProbabilities) -> None:
    """Write one compressed ``.npz``, whole or not at all."""
    outputs = probabilities.outputs
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            probabilities=probabilities.voxels.astype(np.float16, copy=False),
            box=np.array(probabilities.box, np.int32),
            shape=np.array(probabilities.shape, np.int32),
            names=np.array(outputs.names),
            values=np.array(outputs.values),
        )


def read_probabilities(path: Path, *, advice: str) -> ClassProbabilities:
    """Read what ``write_probabilities`` wrote, or version 0.1, which wrote whole scans without their box.

    Raises:
        ModelError: the file is missing or damaged; the message ends with ``advice``.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            voxels = stored["probabilities"]
            outputs = Outputs(
                names=tuple(str(name) for name in stored["names"]),
                values=tuple(int(value) for value in stored["values"]),
                overlap=0 not in stored["values"],  # regions have no background
            )
            if "box" not in stored:
                return ClassProbabilities.whole(voxels, outputs)
            return ClassProbabilities(
                voxels=voxels,
                box=tuple((int(start), int(stop)) for start, stop in stored["box"]),
                shape=tuple(int(size) for size in stored["shape"]),
                outputs=outputs,
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); {advice}") from error
