"""From probabilities to a mask that is finished: threshold, smallest lesion, holes; and the search for these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import cc3d
import fill_voids
import numpy as np

from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.masks import running_argmax
from autoseg.core.records import Outputs, PostProcessing
from autoseg.metrics import METRICS, EmptyScore, compare

THRESHOLDS = (None, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
SMALLEST_ML = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
AS_IT_IS = PostProcessing()

# Plainest first, so that of settings that are equally good the plainest is taken.
SETTINGS = tuple(
    PostProcessing(threshold=threshold, smallest_lesion_ml=smallest, fill_holes=fill)
    for threshold, smallest, fill in sorted(
        product(THRESHOLDS, SMALLEST_ML, (False, True)), key=lambda s: (abs((s[0] or 0.5) - 0.5), s[1], s[2])
    )
)


def finish_mask(
    probabilities: np.ndarray, outputs: Outputs, settings: Mapping[str, PostProcessing], *, voxel_volume_ml: float
) -> np.ndarray:
    """The mask that probabilities give, each label or region finished as its setting says.

    Of classes, a voxel goes to the most probable one of those that claim it: a class with a threshold claims what
    reaches it, any other class claims where it is the most probable of all. Regions are painted in order.

    Args:
        probabilities: (K,z,y,x) float, of the whole scan or of a box that holds all that is not background.
        outputs: of the plan.
        settings: label or region -> what is done to its mask; a name that is missing is left as it is.
        voxel_volume_ml: volume of one voxel in ml.

    Returns:
        (z,y,x) uint8 or int16, label values.
    """
    values = np.asarray(outputs.values, np.uint8 if max(outputs.values) < 256 else np.int16)
    if outputs.overlap:
        mask = np.zeros(probabilities.shape[1:], values.dtype)
        for name, value, shares in zip(outputs.names, values, probabilities, strict=True):
            wanted = settings.get(name, AS_IT_IS)
            own = _reaches(shares, wanted.threshold)
            mask[_fill(_remove_small(own, wanted, voxel_volume_ml), wanted)] = value
        return mask
    winner = _claim(probabilities, outputs, settings)
    wanted_of = [settings.get(name, AS_IT_IS) for name in outputs.names]
    for number in range(1, len(values)):
        if wanted_of[number].smallest_lesion_ml:
            own = winner == number
            winner[own & ~_remove_small(own, wanted_of[number], voxel_volume_ml)] = 0
    for number in range(1, len(values)):
        if wanted_of[number].fill_holes:
            winner[_fill(winner == number, wanted_of[number]) & (winner == 0)] = number
    return values[winner]


@dataclass(frozen=True, kw_only=True)
class SearchCase:
    """A held-out case, as far as its search needs it.

    Attributes:
        probabilities: (K,z,y,x) float32 within a box that holds all that is not background, and the reference.
        reference: (z,y,x) integer, label values.
        spacing: mm along (z,y,x).
        ignore_label: voxels of the reference that do not count.
        voxels: of the whole scan, less ignored ones.
    """

    probabilities: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float, float]
    ignore_label: int | None
    voxels: int

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(np.prod(self.spacing)) / 1000


def score_settings(
    case: SearchCase, outputs: Outputs, targets: Mapping[str, tuple[int, ...]], *, metric: str, empty_score: EmptyScore
) -> dict[str, np.ndarray]:
    """The target metric of every label with every setting, the other labels left as they are.

    Components are found once per threshold, and a mask that a setting does not change is not scored again.

    Args:
        case: one case.
        outputs: of the plan.
        targets: label or region -> the values it unites.
        metric: name in METRICS.
        empty_score: what overlap scores give where both masks are empty.

    Returns:
        Label -> (S,) float64, one score per entry of ``SETTINGS``, NaN where undefined.
    """
    counted = None if case.ignore_label is None else case.reference != case.ignore_label
    plain = finish_mask(case.probabilities, outputs, {}, voxel_volume_ml=case.voxel_volume_ml)
    found = {}
    for name, members in targets.items():
        number = outputs.names.index(name)
        reference = np.isin(case.reference, members)
        free, forced = _room(case.probabilities, outputs, plain, number, members)
        shares = case.probabilities[number]
        possible = shares >= min(threshold for threshold in THRESHOLDS if threshold)
        if not outputs.overlap:
            possible &= free
        touched = reference | forced | possible | np.isin(plain, members)
        box = box_slices(bounding_box(touched))
        judge = LabelScorer(
            reference=reference[box] if counted is None else reference[box] & counted[box],
            forced=forced[box],
            free=free[box],
            counted=None if counted is None else counted[box],
            case=case,
            metric=metric,
            empty_score=empty_score,
        )
        found[name] = _score_label(judge, shares[box], plain[box] == outputs.values[number], outputs.overlap)
    return found


def choose_settings(
    tables: Mapping[str, np.ndarray], folds: Sequence[str], *, higher_is_better: bool
) -> tuple[dict[str, PostProcessing], dict[str, dict[str, PostProcessing]]]:
    """The setting of each label that the cases speak for, and what they speak for without each fold.

    A label is changed only if settings chosen without a fold's cases are better on these, over all folds together. A
    setting that leaves any case without a score is not chosen.

    Args:
        tables: label -> (N,S) float, the score of each case with each of ``SETTINGS``, NaN where undefined.
        folds: the fold that held out each of the N cases.
        higher_is_better: direction of the scores.

    Returns:
        Label -> setting chosen on all cases; and fold -> label -> setting chosen on the cases of the others. Only of
        labels that are changed; of none where there is one fold.
    """
    final: dict[str, PostProcessing] = {}
    without: dict[str, dict[str, PostProcessing]] = {fold: {} for fold in dict.fromkeys(folds)}
    if len(without) < 2:
        return {}, without
    for name, table in tables.items():
        scores = _leave_out_lost(table if higher_is_better else -table)
        chosen = _pick(scores)
        honest = np.empty(len(scores))
        picks = {}
        for fold in without:
            held_out = np.array([other == fold for other in folds])
            picks[fold] = _pick(scores[~held_out])
            honest[held_out] = scores[held_out, picks[fold]]
        plain = scores[:, 0]
        scored = ~np.isnan(plain)
        if chosen == 0 or honest[scored].mean() <= plain[scored].mean():
            continue
        final[name] = SETTINGS[chosen]
        for fold, pick in picks.items():
            without[fold][name] = SETTINGS[pick]
    return final, without


def describe_setting(setting: PostProcessing) -> str:
    """What is done to a mask, in words."""
    parts = []
    if setting.threshold is not None:
        parts.append(f"a probability of {setting.threshold:g} or more")
    if setting.smallest_lesion_ml:
        parts.append(f"no lesion below {setting.smallest_lesion_ml:g} ml")
    if setting.fill_holes:
        parts.append("holes filled")
    return ", ".join(parts) or "as it is"


def _leave_out_lost(scores: np.ndarray) -> np.ndarray:
    """(N,S) without the settings that leave a case unscored: a mask that became empty must not pass for a good one."""
    lost = (np.isnan(scores) & ~np.isnan(scores[:, :1])).any(axis=0)
    return np.where(lost, -np.inf, scores)


def _pick(scores: np.ndarray) -> int:
    """The setting with the best mean over the cases that are scored without any; higher is better."""
    rows = scores[~np.isnan(scores[:, 0])]
    if not len(rows):
        return 0
    means = rows.mean(axis=0)
    return int(np.flatnonzero(means >= means.max() - 1e-12)[0])


def _reaches(shares: np.ndarray, threshold: float | None) -> np.ndarray:
    """Where a region is: without a threshold where its logit is positive."""
    return shares > 0.5 if threshold is None else shares >= threshold


def _claim(probabilities: np.ndarray, outputs: Outputs, settings: Mapping[str, PostProcessing]) -> np.ndarray:
    """(K,z,y,x) of classes -> (z,y,x) uint8, the number of the class that each voxel goes to."""
    likeliest, best = running_argmax(probabilities)
    thresholds = {n: s.threshold for n, s in settings.items() if s.threshold is not None}
    if not thresholds:
        return likeliest
    winner, highest = np.zeros_like(likeliest), np.zeros_like(best)
    for number, name in enumerate(outputs.names[1:], start=1):
        shares, threshold = probabilities[number], thresholds.get(name)
        claimed = likeliest == number if threshold is None else shares >= threshold
        wins = claimed & (shares > highest)
        winner[wins] = number
        np.copyto(highest, shares, where=wins)
    return winner


def _remove_small(own: np.ndarray, wanted: PostProcessing, voxel_volume_ml: float) -> np.ndarray:
    """(z,y,x) bool without lesions below the smallest volume."""
    if not wanted.smallest_lesion_ml or not own.any():
        return own
    lesions, count = cc3d.connected_components(own, connectivity=26, return_N=True)
    kept = _large_enough(np.bincount(lesions.ravel(), minlength=count + 1), wanted.smallest_lesion_ml, voxel_volume_ml)
    return kept[lesions]


def _large_enough(sizes: np.ndarray, smallest_ml: float, voxel_volume_ml: float) -> np.ndarray:
    """(L+1,) voxels of background and each lesion -> (L+1,) bool."""
    kept = sizes * voxel_volume_ml >= smallest_ml * (1 - 1e-9)  # so that rounding removes no lesion of that volume
    kept[0] = False
    return kept


def _fill(own: np.ndarray, wanted: PostProcessing) -> np.ndarray:
    if not wanted.fill_holes or not own.any():
        return own
    return fill_voids.fill(own).astype(bool)


def _room(
    probabilities: np.ndarray, outputs: Outputs, plain: np.ndarray, number: int, members: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels that a label or region can take or leave, and those it has through others, which stay as they are.

    Args:
        plain: (z,y,x), the mask without any setting.
        members: values that the label or region unites.
    """
    if not outputs.overlap:
        return (plain == 0) | (plain == outputs.values[number]), np.zeros(plain.shape, bool)
    over = np.zeros(plain.shape, bool)
    for shares in probabilities[number + 1 :]:
        over |= _reaches(shares, None)
    return ~over, over & np.isin(plain, members)


@dataclass(frozen=True, kw_only=True)
class LabelScorer:
    """Scores masks of one label in one case; arrays are (z,y,x) bool within a box."""

    reference: np.ndarray
    forced: np.ndarray
    free: np.ndarray
    counted: np.ndarray | None
    case: SearchCase
    metric: str
    empty_score: EmptyScore

    def score(self, own: np.ndarray) -> float:
        """NaN where undefined."""
        mask = self.forced | (own & self.free)
        if self.counted is not None:
            mask &= self.counted
        comparison = compare(mask, self.reference, self.case.spacing, voxels=self.case.voxels)
        found = METRICS[self.metric](comparison, empty_score=self.empty_score)
        return float("nan") if found is None else found


def _score_label(judge: LabelScorer, shares: np.ndarray, plain: np.ndarray, overlap: bool) -> np.ndarray:
    """(S,) the score of each setting.

    Args:
        shares: (z,y,x) float32, the probability of the label.
        plain: (z,y,x) bool, where it is painted without any setting.
        overlap: it is a region.
    """
    scores: dict[tuple[float | None, float, bool], float] = {}
    volume_ml = judge.case.voxel_volume_ml
    for threshold in THRESHOLDS:
        own = _reaches(shares, threshold) if threshold is not None or overlap else plain
        own = own if overlap else own & judge.free
        lesions, count = cc3d.connected_components(own, connectivity=26, return_N=True)
        sizes = np.bincount(lesions.ravel(), minlength=count + 1)
        known: dict[int, tuple[float, float]] = {}  # lesions kept -> score without and with holes filled
        for smallest in SMALLEST_ML:
            kept = _large_enough(sizes, smallest, volume_ml)
            left = int(kept.sum())
            if left not in known:
                mask = kept[lesions]
                filled = fill_voids.fill(mask).astype(bool) if left else mask
                open_score = judge.score(mask)
                known[left] = open_score, open_score if np.array_equal(mask, filled) else judge.score(filled)
            scores[threshold, smallest, False], scores[threshold, smallest, True] = known[left]
    return np.array([scores[s.threshold, s.smallest_lesion_ml, s.fill_holes] for s in SETTINGS])
