"""Lesions of two masks, numbered, and which of them share voxels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cc3d
import numpy as np

Connectivity = Literal[6, 26]


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionPair:
    """The lesions of a prediction beside those of its reference; made by ``pair_lesions``.

    Attributes:
        predicted: (Z,Y,X) integer, lesion number from 1, 0 outside.
        referenced: the same for the reference.
        predicted_voxels: (n,) int64, size of each predicted lesion.
        referenced_voxels: (m,) int64, size of each reference lesion.
        overlaps: (k,3) int64, number of the reference lesion, of the predicted lesion, and the voxels they share; one
            row for every two that share any.
    """

    predicted: np.ndarray
    referenced: np.ndarray
    predicted_voxels: np.ndarray
    referenced_voxels: np.ndarray
    overlaps: np.ndarray

    @property
    def n_predicted(self) -> int:
        """Lesions in the prediction."""
        return len(self.predicted_voxels)

    @property
    def n_referenced(self) -> int:
        """Lesions in the reference."""
        return len(self.referenced_voxels)

    @cached_property
    def found(self) -> np.ndarray:
        """(m,) bool, reference lesions that the prediction touches in at least one voxel."""
        return np.isin(np.arange(1, self.n_referenced + 1), self.overlaps[:, 0])

    @cached_property
    def right(self) -> np.ndarray:
        """(n,) bool, predicted lesions that touch the reference in at least one voxel."""
        return np.isin(np.arange(1, self.n_predicted + 1), self.overlaps[:, 1])

    def match(self, least_iou: float) -> np.ndarray:
        """(t,) float64, IoU of lesions matched one to one, best first, none below ``least_iou``.

        Source: panoptica, arXiv:2312.02608 (its threshold matching: pairs by falling IoU, each lesion once).
        """
        referenced, predicted, shared = self.overlaps.T
        union = self.referenced_voxels[referenced - 1] + self.predicted_voxels[predicted - 1] - shared
        iou = shared / union
        taken: tuple[set[int], set[int]] = (set(), set())
        matched = []
        for row in np.argsort(-iou, kind="stable"):
            ours, theirs = int(referenced[row]), int(predicted[row])
            if iou[row] >= least_iou and ours not in taken[0] and theirs not in taken[1]:
                taken[0].add(ours)
                taken[1].add(theirs)
                matched.append(float(iou[row]))
        return np.array(matched)


def pair_lesions(prediction: np.ndarray, reference: np.ndarray, connectivity: Connectivity) -> LesionPair:
    """Number the lesions of both masks.

    Args:
        prediction: (Z,Y,X) bool.
        reference: (Z,Y,X) bool.
        connectivity: 26: voxels that touch by a face, an edge or a corner are one lesion; 6: by a face alone.
    """
    predicted, n_predicted = number_lesions(prediction, connectivity)
    referenced, n_referenced = number_lesions(reference, connectivity)
    return LesionPair(
        predicted=predicted,
        referenced=referenced,
        predicted_voxels=np.bincount(predicted[prediction], minlength=n_predicted + 1)[1:],
        referenced_voxels=np.bincount(referenced[reference], minlength=n_referenced + 1)[1:],
        overlaps=count_overlaps(referenced, predicted, prediction & reference),
    )


def number_lesions(mask: np.ndarray, connectivity: Connectivity) -> tuple[np.ndarray, int]:
    """(Z,Y,X) integer, lesion number from 1, 0 outside the mask; and how many lesions."""
    return cc3d.connected_components(mask, connectivity=connectivity, return_N=True)


def count_overlaps(first: np.ndarray, second: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """(k,3) int64, sorted: number in ``first``, number in ``second``, voxels that hold both.

    Args:
        first: (Z,Y,X) integer, numbers from 1 wherever ``shared``.
        second: (Z,Y,X) integer, the same.
        shared: (Z,Y,X) bool.
    """
    ours, theirs = first[shared].astype(np.int64), second[shared].astype(np.int64)
    base = int(theirs.max(initial=0)) + 1
    codes, counts = np.unique(ours * base + theirs, return_counts=True)
    return np.stack([codes // base, codes % base, counts], axis=1)
