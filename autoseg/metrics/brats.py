"""Dice and HD95 lesion by lesion, as BraTS scores since 2023.

The reference is dilated, and lesions whose dilations touch are one. A lesion is compared with all predicted lesions
that its dilation touches. Small reference lesions are dropped, together with what was predicted for them; any other
predicted lesion that belongs to none is a false positive, whatever its size.

Source: Moawad et al., arXiv:2306.00838; github.com/rachitsaluja/BraTS-2023-Metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from autoseg.core.masks import connected_components
from autoseg.metrics.comparison import Comparison, compare
from autoseg.metrics.declaration import Metric
from autoseg.metrics.lesions import count_overlaps
from autoseg.metrics.surface import directed_percentile

PENALTY_MM = 374.0  # the diagonal of the challenge's 240 x 240 x 155 mm


@dataclass(frozen=True, kw_only=True)
class LesionRule:
    """Conventions of one challenge of the family.

    Attributes:
        iterations: how often the reference is dilated by its 18 neighbours.
        dropped_mm3: reference lesions up to this volume do not count.
    """

    iterations: int
    dropped_mm3: float


@dataclass(frozen=True, kw_only=True)
class LesionScores:
    """Lesions of one case that count.

    Attributes:
        dice: of each lesion that counts; 0 where nothing was predicted for it.
        hd95_mm: of each lesion; the penalty where nothing was predicted for it.
        false_positives: predicted lesions that belong to no reference lesion.
    """

    dice: tuple[float, ...]
    hd95_mm: tuple[float, ...]
    false_positives: int

    @property
    def count(self) -> int:
        """Lesions that the mean is taken over."""
        return len(self.dice) + self.false_positives


GLIOMA = LesionRule(iterations=3, dropped_mm3=50.0)  # also the African and the paediatric part
MENINGIOMA = LesionRule(iterations=1, dropped_mm3=50.0)
METASTASES = LesionRule(iterations=1, dropped_mm3=2.0)


def score_lesions(comparison: Comparison, rule: LesionRule) -> LesionScores:
    """Score every lesion once, for all metrics of a rule."""
    return comparison.once(rule, lambda: _score_lesions(comparison, rule))


def dilate(mask: np.ndarray, iterations: int) -> np.ndarray:
    """Dilate by the 18 neighbours that share a face or an edge.

    They and the centre are three 3 x 3 plates, one along each pair of axes, and a plate is one line after another.

    Args:
        mask: (Z,Y,X) bool.
    """
    for _ in range(iterations):
        z, y = _widen(mask, 0), _widen(mask, 1)
        mask = _widen(z, 1) | _widen(z, 2) | _widen(y, 2)
    return mask


def _widen(mask: np.ndarray, axis: int) -> np.ndarray:
    """Dilate by the two neighbours along an axis."""
    wide = mask.copy()
    along, result = np.moveaxis(mask, axis, 0), np.moveaxis(wide, axis, 0)
    result[1:] |= along[:-1]
    result[:-1] |= along[1:]
    return wide


def _score_lesions(comparison: Comparison, rule: LesionRule) -> LesionScores:
    predicted = comparison.lesions(26).predicted
    n_predicted = comparison.lesions(26).n_predicted
    around, count = connected_components(dilate(np.pad(comparison.reference, rule.iterations), rule.iterations))
    around = around[tuple(slice(rule.iterations, -rule.iterations) for _ in range(around.ndim))]
    touching = count_overlaps(around, predicted, (around > 0) & comparison.prediction)[:, :2]
    merged = np.where(comparison.reference, around, 0)
    boxes = ndimage.find_objects(merged, count), ndimage.find_objects(predicted, n_predicted)

    first = np.searchsorted(touching[:, 0], np.arange(1, count + 2))  # rows are sorted by lesion

    dice, hd95_mm = [], []
    for lesion in range(1, count + 1):
        matches = touching[first[lesion - 1] : first[lesion], 1]
        box = _unite([boxes[0][lesion - 1], *(boxes[1][number - 1] for number in matches)])
        pair = compare(np.isin(predicted[box], matches), merged[box] == lesion, comparison.spacing)
        if pair.reference_voxels * comparison.voxel_volume_ml * 1000 <= rule.dropped_mm3:
            continue
        dice.append(2 * pair.true_positives / (pair.predicted_voxels + pair.reference_voxels))
        hd95_mm.append(PENALTY_MM if pair.exactly_one_empty else directed_percentile(pair.distances, 95))
    false_positives = n_predicted - len(np.unique(touching[:, 1]))
    return LesionScores(dice=tuple(dice), hd95_mm=tuple(hd95_mm), false_positives=false_positives)


def _unite(boxes: list[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box around all boxes."""
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)


def _lesionwise_dice(name: str, rule: LesionRule, where: str) -> Metric:
    def compute(comparison: Comparison) -> float | None:
        scores = score_lesions(comparison, rule)
        return sum(scores.dice) / scores.count if scores.count else 1.0

    return Metric(
        name=name,
        unit="",
        higher_is_better=True,
        both_empty=1.0,
        worst=0.0,
        convention=f"sum of Dice over lesions / (lesions + FP) ({where}); {_describe(rule)}; 0 where one mask is empty",
        compute=compute,
    )


def _lesionwise_hd95(name: str, rule: LesionRule, where: str) -> Metric:
    def compute(comparison: Comparison) -> float | None:
        scores = score_lesions(comparison, rule)
        return (sum(scores.hd95_mm) + PENALTY_MM * scores.false_positives) / scores.count if scores.count else 0.0

    return Metric(
        name=name,
        unit="mm",
        higher_is_better=False,
        both_empty=0.0,
        worst=PENALTY_MM,
        convention=f"(sum of HD95 over lesions + 374 FP) / (lesions + FP) ({where}), 374 mm for a lesion that is not "
        f"found; {_describe(rule)}",
        compute=compute,
    )


def _describe(rule: LesionRule) -> str:
    # Conventions are compared before scores are: other words would make scores of older versions incomparable.
    return (
        f"reference dilated {rule.iterations} time{'s' if rule.iterations > 1 else ''} by 18 neighbours, lesions up to "
        f"{rule.dropped_mm3:g} mm3 dropped, best score where none is left and nothing is invented"
    )


lesionwise_dice = _lesionwise_dice("lesionwise_dice", GLIOMA, "BraTS 2023, glioma")
lesionwise_hd95 = _lesionwise_hd95("lesionwise_hd95", GLIOMA, "BraTS 2023, glioma")
lesionwise_dice_meningioma = _lesionwise_dice("lesionwise_dice_meningioma", MENINGIOMA, "BraTS 2023, meningioma")
lesionwise_hd95_meningioma = _lesionwise_hd95("lesionwise_hd95_meningioma", MENINGIOMA, "BraTS 2023, meningioma")
lesionwise_dice_metastases = _lesionwise_dice("lesionwise_dice_metastases", METASTASES, "BraTS 2023, metastases")
lesionwise_hd95_metastases = _lesionwise_hd95("lesionwise_hd95_metastases", METASTASES, "BraTS 2023, metastases")
