"""Which predictions a person should look at, from what the networks themselves are not sure of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import cc3d
import numpy as np

from autoseg.core.geometry import Box
from autoseg.core.records import Doubt, DoubtfulLesion, Grid

UNCERTAIN = (0.2, 0.8)  # between these, a voxel is undecided
UNSURE = 0.6  # mean probability below which a lesion is uncertain
LESIONS = 10  # that are told of a case, at most
WORTH_A_LOOK = 0.1  # share of the cases
AT_LEAST = 3
DISAGREEMENT = 0.3  # from which a case is worth a look wherever it ranks


def doubt_case(
    case_id: str,
    foreground: np.ndarray,
    mask: np.ndarray,
    others: Sequence[np.ndarray],
    *,
    grid: Grid,
    box: Box,
    target: float | None = None,
) -> Doubt:
    """What is uncertain about the mask of a case; ``rank_doubts`` gives the reasons.

    Args:
        case_id: the case.
        foreground: (z,y,x) float, probability of being anything but background, within a box.
        mask: (z,y,x) bool, the foreground of the finished mask in the same box.
        others: (z,y,x) bool each, the foreground of the masks that single networks give.
        grid: of the scan.
        box: (start, stop) per axis of the scan; outside, all agree that there is nothing.
        target: the case's score, where it has a reference.
    """
    low, high = UNCERTAIN
    lesions = _doubtful_lesions(foreground, mask, others, grid, box)
    sums = float(foreground.sum()) + int(np.count_nonzero(mask))
    return Doubt(
        case=case_id,
        disagreement=disagreement(others),
        uncertain_ml=int(np.count_nonzero((foreground > low) & (foreground < high))) * grid.voxel_volume_ml,
        uncertain_lesions=sum(lesion.probability < UNSURE for lesion in lesions),
        target=target,
        reason="",
        expected_dice=2 * float(foreground[mask].sum()) / sums if sums > 0 else None,
        lesions=tuple(lesions[:LESIONS]),
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


def rank_doubts(doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
    """The cases worth a look, most doubtful first, each with its reason.

    What counts is the Dice that is to be expected, less half of the disagreement. Told are a tenth of the cases, three
    at least, and every further case whose masks disagree by 0.3 or more.
    """
    ranked = sorted(doubts, key=_score)
    count = max(AT_LEAST, round(WORTH_A_LOOK * len(ranked)))
    kept = [d for number, d in enumerate(ranked) if number < count or (d.disagreement or 0) >= DISAGREEMENT]
    return tuple(doubt.model_copy(update={"reason": _say_why(doubt)}) for doubt in kept)


def _score(doubt: Doubt) -> tuple[float, str]:
    expected = 1.0 if doubt.expected_dice is None else doubt.expected_dice
    return expected - (doubt.disagreement or 0) / 2, doubt.case


def _say_why(doubt: Doubt) -> str:
    parts = []
    if doubt.expected_dice is not None:
        parts.append(f"by its probabilities a Dice of {doubt.expected_dice:.2f} is to be expected")
    if doubt.disagreement is not None:
        parts.append(f"the networks' own masks differ by {doubt.disagreement:.2f} (1 - Dice)")
    parts.append(f"{doubt.uncertain_ml:.3g} ml are undecided")
    if doubt.uncertain_lesions:
        found = "lesion has" if doubt.uncertain_lesions == 1 else "lesions have"
        parts.append(f"{doubt.uncertain_lesions} {found} a mean probability below {UNSURE}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _doubtful_lesions(
    foreground: np.ndarray, mask: np.ndarray, others: Sequence[np.ndarray], grid: Grid, box: Box
) -> list[DoubtfulLesion]:
    """Lesions that are uncertain or that not all masks touch, most doubtful first."""
    if not mask.any():
        return []
    lesions, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(lesions.ravel(), weights=foreground.ravel(), minlength=count + 1)[1:]
    centres = cc3d.statistics(lesions)["centroids"][1:]
    touching = np.zeros(count)
    for other in others:
        touched = np.unique(lesions[other & mask])
        touching[touched[touched > 0] - 1] += 1
    start = np.array([first for first, _ in box])
    found = []
    for number in range(count):
        agreement = float(touching[number] / len(others)) if len(others) > 1 else None
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
        found.append(lesion)
    return sorted(found, key=lambda lesion: lesion.probability * (1 if lesion.agreement is None else lesion.agreement))
