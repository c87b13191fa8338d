"""Cases for review: where probabilities are uncertain or the networks disagree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from autoseg.core.geometry import Box
from autoseg.core.masks import connected_components, measure_components
from autoseg.core.records import Doubt, DoubtfulLesion, Grid

UNCERTAIN = (0.2, 0.8)  # between these probabilities a voxel is uncertain
UNSURE = 0.6  # mean probability below which a lesion is uncertain
MAX_LESIONS = 10  # listed for a case
REVIEW_SHARE = 0.1  # of the cases
MIN_CASES = 3
DISAGREEMENT = 0.3  # from which a case is for review whatever its rank


def doubt_case(
    case_id: str,
    foreground: np.ndarray,
    mask: np.ndarray,
    network_masks: Sequence[np.ndarray],
    *,
    grid: Grid,
    box: Box,
    target: float | None = None,
) -> Doubt:
    """Measure the uncertainty of the mask of a case; ``rank_doubts`` adds the reasons.

    Args:
        case_id: the case.
        foreground: (z,y,x) float, probability of anything but background, within a box.
        mask: (z,y,x) bool, the foreground of the post-processed mask in the same box.
        network_masks: (z,y,x) bool each, the foreground of the masks of single networks.
        grid: of the scan.
        box: (start, stop) per axis of the scan; outside, all masks are background.
        target: the case's score, where it has a reference.
    """
    low, high = UNCERTAIN
    lesions = _doubtful_lesions(foreground, mask, network_masks, grid, box)
    sums = float(foreground.sum()) + int(np.count_nonzero(mask))
    return Doubt(
        case=case_id,
        disagreement=disagreement(network_masks),
        uncertain_ml=int(np.count_nonzero((foreground > low) & (foreground < high))) * grid.voxel_volume_ml,
        uncertain_lesions=sum(lesion.probability < UNSURE for lesion in lesions),
        target=target,
        reason="",
        expected_dice=2 * float(foreground[mask].sum()) / sums if sums > 0 else None,
        lesions=tuple(lesions[:MAX_LESIONS]),
    )


def disagreement(masks: Sequence[np.ndarray]) -> float | None:
    """1 - mean Dice over all pairs of masks; None with fewer than two. Two empty masks agree.

    Args:
        masks: (z,y,x) bool each.
    """
    if len(masks) < 2:
        return None
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    dices = [
        2 * int(np.count_nonzero(masks[a] & masks[b])) / (sizes[a] + sizes[b]) if sizes[a] + sizes[b] else 1.0
        for a, b in combinations(range(len(masks)), 2)
    ]
    return 1 - float(np.mean(dices))


def without_expectation(doubts: Sequence[Doubt]) -> list[Doubt]:
    """The doubts without an expected Dice, for probabilities that calibration could not make honest."""
    return [doubt.model_copy(update={"expected_dice": None}) for doubt in doubts]


def rank_doubts(doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
    """Cases for review, most doubtful first, each with its reason.

    Cases are ranked by the expected Dice minus half of the disagreement. The first tenth, at least three, are for
    review, and every further case whose masks disagree by 0.3 or more.
    """
    ranked = sorted(doubts, key=_score)
    count = max(MIN_CASES, round(REVIEW_SHARE * len(ranked)))
    chosen = [d for number, d in enumerate(ranked) if number < count or (d.disagreement or 0) >= DISAGREEMENT]
    return tuple(doubt.model_copy(update={"reason": _explain_doubt(doubt)}) for doubt in chosen)


def _score(doubt: Doubt) -> tuple[float, str]:
    expected = 1.0 if doubt.expected_dice is None else doubt.expected_dice
    return expected - (doubt.disagreement or 0) / 2, doubt.case


def _explain_doubt(doubt: Doubt) -> str:
    parts = []
    if doubt.expected_dice is not None:
        parts.append(f"expected Dice {doubt.expected_dice:.2f} from its probabilities")
    if doubt.disagreement is not None:
        parts.append(f"the networks disagree (1 - Dice {doubt.disagreement:.2f})")
    parts.append(f"{doubt.uncertain_ml:.3g} ml are uncertain")
    if doubt.uncertain_lesions:
        lesions = "lesion has" if doubt.uncertain_lesions == 1 else "lesions have"
        parts.append(f"{doubt.uncertain_lesions} {lesions} a mean probability below {UNSURE}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _doubtful_lesions(
    foreground: np.ndarray, mask: np.ndarray, network_masks: Sequence[np.ndarray], grid: Grid, box: Box
) -> list[DoubtfulLesion]:
    """Lesions that are uncertain or that not all masks touch, most doubtful first."""
    if not mask.any():
        return []
    lesions, count = connected_components(mask)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(lesions.ravel(), weights=foreground.ravel(), minlength=count + 1)[1:]
    centres = measure_components(lesions)["centroids"][1:]
    touching = np.zeros(count)
    for network_mask in network_masks:
        touched = np.unique(lesions[network_mask & mask])
        touching[touched[touched > 0] - 1] += 1
    start = np.array([first for first, _ in box])
    doubtful = []
    for number in range(count):
        agreement = float(touching[number] / len(network_masks)) if len(network_masks) > 1 else None
        probability = float(sums[number] / sizes[number])
        if probability >= UNSURE and (agreement is None or agreement == 1):
            continue
        x, y, z = grid.to_world(centres[number] + start)
        lesion = DoubtfulLesion(
            centre=(round(float(x), 2), round(float(y), 2), round(float(z), 2)),
            volume_ml=float(sizes[number]) * grid.voxel_volume_ml,
            probability=round(probability, 4),
            agreement=agreement,
        )
        doubtful.append(lesion)
    return sorted(
        doubtful, key=lambda lesion: lesion.probability * (1 if lesion.agreement is None else lesion.agreement)
    )
