"""Every metric once more, from its definition: lesion by lesion and point by point, on whole grids, as slow as plain.

Nothing here is shared with autoseg. Where a mask is empty the entries are left out; the tests hold what happens then.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist

FACES = ndimage.generate_binary_structure(3, 1)
EDGES = ndimage.generate_binary_structure(3, 2)
CORNERS = ndimage.generate_binary_structure(3, 3)
IN_PLANE = FACES & (np.arange(3) == 1)[:, None, None]
PENALTY = 374.0


def score_pair(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """Metric name -> value, for two masks that are not empty.

    Args:
        prediction: (Z,Y,X) bool.
        reference: (Z,Y,X) bool.
        spacing: mm along (z,y,x).
    """
    return {
        **_overlap(prediction, reference, spacing),
        **_surfaces(prediction, reference, spacing),
        **_detection(prediction, reference, spacing),
        **_panoptic(prediction, reference),
        **_cells(prediction, reference, spacing),
        **_brats("", prediction, reference, spacing, 3, 50),
        **_brats("_meningioma", prediction, reference, spacing, 1, 50),
        **_brats("_metastases", prediction, reference, spacing, 1, 2),
    }


def _overlap(p: np.ndarray, r: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    tp, fp, fn, tn = (p & r).sum(), (p & ~r).sum(), (~p & r).sum(), (~p & ~r).sum()
    ml = np.prod(spacing) / 1000
    found = {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "iou": tp / (tp + fp + fn),
        "precision": tp / (tp + fp),
        "sensitivity": tp / (tp + fn),
        "accuracy": (tp + tn) / p.size,
        "volume_difference_ml": abs(p.sum() * ml - r.sum() * ml),
        "volume_difference_percent": 100 * abs(int(p.sum()) - int(r.sum())) / r.sum(),
        "volume_difference_voxels": abs(int(p.sum()) - int(r.sum())),
    }
    return found | ({"specificity": tn / (tn + fp)} if tn + fp else {})


def _directed(p: np.ndarray, r: np.ndarray, spacing: tuple[float, ...], cross: np.ndarray) -> list[np.ndarray]:
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask, cross)) * np.array(spacing) for mask in (p, r)]
    pairs = cdist(*points)
    return [pairs.min(axis=1), pairs.min(axis=0)]


def _surfaces(p: np.ndarray, r: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    both = _directed(p, r, spacing, FACES)
    pooled = np.concatenate(both)
    outlines = _directed(p, r, spacing, IN_PLANE)
    return {
        "hd95": max(np.percentile(one, 95) for one in both),
        "hd95_pooled": np.percentile(pooled, 95),
        "hd95_in_plane": max(np.percentile(one, 95) for one in outlines),
        "assd": pooled.mean(),
        "nsd_1mm": (pooled <= 1 + 1e-6).mean(),
        "nsd_2mm": (pooled <= 2 + 1e-6).mean(),
    }


def _lesions(mask: np.ndarray, structure: np.ndarray) -> list[np.ndarray]:
    labelled, count = ndimage.label(mask, structure)
    return [labelled == number for number in range(1, count + 1)]


def _detection(p: np.ndarray, r: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    found = {}
    for suffix, structure in (("", CORNERS), ("_faces", FACES)):
        ours, theirs = _lesions(p, structure), _lesions(r, structure)
        hit = sum((lesion & p).any() for lesion in theirs)
        missed = len(theirs) - hit
        invented = sum(not (lesion & r).any() for lesion in ours)
        found[f"lesion_f1{suffix}"] = 2 * hit / (2 * hit + missed + invented)
        found[f"lesion_count_difference{suffix}"] = abs(len(ours) - len(theirs))
    ours, theirs = _lesions(p, CORNERS), _lesions(r, CORNERS)
    recall = np.mean([(lesion & p).any() for lesion in theirs])
    precision = np.mean([(lesion & r).any() for lesion in ours])
    found |= {"lesion_recall": recall, "lesion_precision": precision}
    found["lesion_f1_wmh"] = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    bounds = {"tiny": (0, 0.1), "small": (0.1, 1), "medium": (1, 10), "large": (10, np.inf)}
    for name, (low, high) in bounds.items():
        sized = [lesion for lesion in theirs if low <= round(lesion.sum() * np.prod(spacing) / 1000, 9) < high]
        if sized:
            found[f"lesion_recall_{name}"] = np.mean([(lesion & p).any() for lesion in sized])
    return found


def _panoptic(p: np.ndarray, r: np.ndarray) -> dict[str, float]:
    ours, theirs = _lesions(p, CORNERS), _lesions(r, CORNERS)
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in ours] for a in theirs])
    found = {}
    for least, name in ((0.2, "lesion_f1_iou20"), (0.5, "recognition_quality")):
        left, matched = iou.copy(), []
        while left.max(initial=0) >= least:
            row, column = np.unravel_index(left.argmax(), left.shape)
            matched.append(left[row, column])
            left[row], left[:, column] = 0, 0
        found[name] = 2 * len(matched) / (len(ours) + len(theirs))
    found["panoptic_quality"] = found["recognition_quality"] * (np.mean(matched) if matched else 0)
    return found | ({"segmentation_quality": np.mean(matched)} if matched else {})


def _cells(p: np.ndarray, r: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    lesions = _lesions(r, CORNERS)
    away = np.stack([ndimage.distance_transform_edt(~lesion, sampling=spacing) for lesion in lesions])
    nearest = np.round(away, 9).argmin(axis=0)  # the first of equals
    dices = []
    for number, lesion in enumerate(lesions):
        inside = p & (nearest == number)
        dices.append(2 * (inside & lesion).sum() / (inside.sum() + lesion.sum()))
    return {"cc_dice": float(np.mean(dices))}


def _brats(
    suffix: str, p: np.ndarray, r: np.ndarray, spacing: tuple[float, ...], iterations: int, dropped_mm3: float
) -> dict[str, float]:
    """The rule of BraTS 2023, as the text of the challenge states it."""
    around = _lesions(ndimage.binary_dilation(r, EDGES, iterations), CORNERS)
    ours = _lesions(p, CORNERS)
    used = [any((lesion & region).any() for region in around) for lesion in ours]
    dices, distances = [], []
    for region in around:
        lesion = region & r
        if lesion.sum() * np.prod(spacing) <= dropped_mm3:
            continue
        own = np.zeros_like(p)
        for candidate in ours:
            own |= candidate if (candidate & region).any() else False
        dices.append(2 * (own & lesion).sum() / (own.sum() + lesion.sum()))
        away = _directed(own, lesion, spacing, FACES) if own.any() else None
        distances.append(PENALTY if away is None else max(np.percentile(one, 95) for one in away))
    invented = len(ours) - sum(used)
    count = len(dices) + invented
    return {
        f"lesionwise_dice{suffix}": sum(dices) / count if count else 1.0,
        f"lesionwise_hd95{suffix}": (sum(distances) + PENALTY * invented) / count if count else 0.0,
    }
