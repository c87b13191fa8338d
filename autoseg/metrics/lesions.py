"""Lesions of two masks, numbered, and their overlaps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autoseg.core.masks import Connectivity, connected_components


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionPair:
    """Lesions of a prediction and of its reference; made by ``pair_lesions``.

    Attributes:
        predicted: (Z,Y,X) integer, lesion number from 1, 0 outside.
        reference: the same for the reference.
        predicted_sizes: (n,) int64, size of each predicted lesion.
        reference_sizes: (m,) int64, size of each reference lesion.
        overlaps: (k,3) int64, number of the reference lesion, of the predicted lesion, and the voxels they share; one
            row for every two that share any.
    """

    predicted: np.ndarray
    reference: np.ndarray
    predicted_sizes: np.ndarray
    reference_sizes: np.ndarray
    overlaps: np.ndarray

    @property
    def n_predicted(self) -> int:
        """Lesions in the prediction."""
        return len(self.predicted_sizes)

    @property
    def n_reference(self) -> int:
        """Lesions in the reference."""
        return len(self.reference_sizes)

    @cached_property
    def detected(self) -> np.ndarray:
        """(m,) bool, reference lesions that share at least one voxel with the prediction."""
        return np.isin(np.arange(1, self.n_reference + 1), self.overlaps[:, 0])

    @cached_property
    def correct(self) -> np.ndarray:
        """(n,) bool, predicted lesions that share at least one voxel with the reference."""
        return np.isin(np.arange(1, self.n_predicted + 1), self.overlaps[:, 1])

    def match(self, least_iou: float) -> np.ndarray:
        """(t,) float64, IoU of lesions matched one to one, best first, none below ``least_iou``.

        Source: panoptica, arXiv:2312.02608 (its threshold matching: pairs by falling IoU, each lesion once).
        """
        reference, predicted, shared = self.overlaps.T
        union = self.reference_sizes[reference - 1] + self.predicted_sizes[predicted - 1] - shared
        iou = shared / union
        matched_lesions: tuple[set[int], set[int]] = (set(), set())
        matched = []
        for row in np.argsort(-iou, kind="stable"):
            reference_lesion, predicted_lesion = int(reference[row]), int(predicted[row])
            if (
                iou[row] >= least_iou
                and reference_lesion not in matched_lesions[0]
                and predicted_lesion not in matched_lesions[1]
            ):
                matched_lesions[0].add(reference_lesion)
                matched_lesions[1].add(predicted_lesion)
                matched.append(float(iou[row]))
        return np.array(matched)


def pair_lesions(prediction: np.ndarray, reference: np.ndarray, connectivity: Connectivity) -> LesionPair:
    """Number the lesions of both masks.

    Args:
        prediction: (Z,Y,X) bool.
        reference: (Z,Y,X) bool.
        connectivity: 26: voxels that touch by a face, an edge or a corner are one lesion; 6: by a face alone.
    """
    predicted_lesions, n_predicted = connected_components(prediction, connectivity)
    reference_lesions, n_reference = connected_components(reference, connectivity)
    return LesionPair(
        predicted=predicted_lesions,
        reference=reference_lesions,
        predicted_sizes=np.bincount(predicted_lesions[prediction], minlength=n_predicted + 1)[1:],
        reference_sizes=np.bincount(reference_lesions[reference], minlength=n_reference + 1)[1:],
        overlaps=count_overlaps(reference_lesions, predicted_lesions, prediction & reference),
    )


def count_overlaps(first: np.ndarray, second: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """(k,3) int64, sorted: number in ``first``, number in ``second``, voxels that hold both.

    Args:
        first: (Z,Y,X) integer, numbers from 1 wherever ``shared``.
        second: (Z,Y,X) integer, the same.
        shared: (Z,Y,X) bool.
    """
    first_numbers, second_numbers = first[shared].astype(np.int64), second[shared].astype(np.int64)
    base = int(second_numbers.max(initial=0)) + 1
    codes, counts = np.unique(first_numbers * base + second_numbers, return_counts=True)
    return np.stack([codes // base, codes % base, counts], axis=1)
