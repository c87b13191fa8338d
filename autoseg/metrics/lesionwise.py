"""Detection of lesions, as the challenges count it. A lesion is one connected component.

Sources: ISLES'22, arXiv:2206.06694; ISLES'24 (panoptica), arXiv:2312.02608; ATLAS, doi:10.1038/s41597-022-01401-7;
WMH challenge, doi:10.1109/TMI.2019.2905770.
"""

from __future__ import annotations

import numpy as np

from autoseg.metrics.comparison import Comparison
from autoseg.metrics.declaration import metric
from autoseg.metrics.lesions import LesionPair


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="TP / (TP + (FP + FN) / 2) over 26-connected lesions, one shared voxel detects (ISLES'22); "
    "0 where one mask is empty",
)
def lesion_f1(comparison: Comparison) -> float | None:
    """F1 score of lesion detection: TP and FN count reference lesions, FP counts predicted lesions."""
    return _f1(comparison.lesions(26))


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="TP / (TP + (FP + FN) / 2) over 6-connected lesions, one shared voxel detects (ATLAS); "
    "0 where one mask is empty",
)
def lesion_f1_faces(comparison: Comparison) -> float | None:
    """F1 score of lesion detection, where lesions are 6-connected."""
    return _f1(comparison.lesions(6))


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="TP / (TP + (FP + FN) / 2) over 26-connected lesions matched one to one at IoU >= 0.2 (ISLES'24); "
    "0 where one mask is empty",
)
def lesion_f1_iou20(comparison: Comparison) -> float | None:
    """F1 score of lesion detection, where a match must overlap by a fifth."""
    lesions = comparison.lesions(26)
    return len(lesions.match(0.2)) / ((lesions.n_reference + lesions.n_predicted) / 2)


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="detected reference lesions / reference lesions, 26-connected, one shared voxel detects (WMH); "
    "1 where the reference is empty",
)
def lesion_recall(comparison: Comparison) -> float | None:
    """Share of the reference lesions that the prediction touches."""
    return _share(comparison.lesions(26).detected)


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="predicted lesions that touch the reference / predicted lesions, 26-connected (WMH); "
    "1 where the prediction is empty",
)
def lesion_precision(comparison: Comparison) -> float | None:
    """Share of the predicted lesions that touch the reference."""
    return _share(comparison.lesions(26).correct)


@metric(
    unit="",
    higher_is_better=True,
    both_empty=1.0,
    worst=0.0,
    convention="harmonic mean of lesion_recall and lesion_precision (WMH); 0 where one mask is empty",
)
def lesion_f1_wmh(comparison: Comparison) -> float | None:
    """F1 score of lesion detection, where recall counts reference lesions and precision predicted ones."""
    lesions = comparison.lesions(26)
    recall, precision = _share(lesions.detected), _share(lesions.correct)
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


@metric(
    unit="lesions",
    higher_is_better=False,
    both_empty=0.0,
    worst="empty",
    convention="|n_P - n_R| over 26-connected lesions (ISLES'22)",
)
def lesion_count_difference(comparison: Comparison) -> float | None:
    """Absolute difference of the numbers of lesions."""
    return _count_difference(comparison.lesions(26))


@metric(
    unit="lesions",
    higher_is_better=False,
    both_empty=0.0,
    worst="empty",
    convention="|n_P - n_R| over 6-connected lesions (ATLAS)",
)
def lesion_count_difference_faces(comparison: Comparison) -> float | None:
    """Absolute difference of the numbers of 6-connected lesions."""
    return _count_difference(comparison.lesions(6))


def _f1(lesions: LesionPair) -> float:
    detected, false_positives = np.count_nonzero(lesions.detected), np.count_nonzero(~lesions.correct)
    missed = lesions.n_reference - detected
    return float(detected / (detected + (false_positives + missed) / 2))


def _count_difference(lesions: LesionPair) -> float:
    return float(abs(lesions.n_predicted - lesions.n_reference))


def _share(is_matched: np.ndarray) -> float:
    """Share of matched lesions; 1 where there are none."""
    return float(is_matched.mean()) if len(is_matched) else 1.0
