"""Post-processing: threshold, lesions by size and hole filling of each label, and the search for these settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Self

import fill_voids
import numpy as np

from autoseg.core.geometry import Box, bounding_box, box_slices
from autoseg.core.masks import connected_components, measure_components, running_argmax
from autoseg.core.probabilities import join_boxes
from autoseg.core.records import Label, Outputs, PostProcessing
from autoseg.evaluation.statistics import standard_error
from autoseg.metrics import METRICS, EmptyScore, compare

THRESHOLDS = (None, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
SMALLEST_ML = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LARGEST_LESIONS = (None, 3, 2, 1)
UNCHANGED = PostProcessing()

GROUPS = 10  # of patients, at most, for cross-fitting
MIN_PATIENTS = 5
MIN_STANDARD_ERRORS = 0.5

# Simplest first, so that the simplest of equally good settings is chosen: a number of lesions, which would also delete
# lesions of a patient with more of them, comes after every smallest volume.
SETTINGS = tuple(
    PostProcessing(threshold=threshold, smallest_lesion_ml=smallest, largest_lesions=largest, fill_holes=fill)
    for threshold, largest, smallest, fill in sorted(
        product(THRESHOLDS, LARGEST_LESIONS, SMALLEST_ML, (False, True)),
        key=lambda s: (abs((s[0] or 0.5) - 0.5), LARGEST_LESIONS.index(s[1]), s[2], s[3]),
    )
)


def finish_mask(
    probabilities: np.ndarray, outputs: Outputs, settings: Mapping[str, PostProcessing], *, voxel_volume_ml: float
) -> np.ndarray:
    """The mask of class probabilities, each label or region with its post-processing.

    Of classes, a voxel goes to the most probable one of those that claim it: a class with a threshold claims what
    reaches it, any other class claims where it is the most probable of all. Regions are painted in order.

    Args:
        probabilities: (K,z,y,x) float, of the whole scan or of a box that holds everything but background.
        outputs: of the plan.
        settings: label or region -> its post-processing; a missing one is unchanged.
        voxel_volume_ml: volume of one voxel in ml.

    Returns:
        (z,y,x) uint8 or int16, label values.
    """
    values = np.asarray(outputs.values, np.uint8 if max(outputs.values) < 256 else np.int16)
    if outputs.overlap:
        mask = np.zeros(probabilities.shape[1:], values.dtype)
        for name, value, channel in zip(outputs.names, values, probabilities, strict=True):
            setting = settings.get(name, UNCHANGED)
            region = _above_threshold(channel, setting.threshold)
            mask[_fill(_select_lesions(region, setting, voxel_volume_ml), setting)] = value
        return mask
    mask = values[_assign_classes(probabilities, outputs, settings)]
    clean_classes(mask, outputs, settings, voxel_volume_ml=voxel_volume_ml)
    return mask


def needs_probabilities(outputs: Outputs, settings: Mapping[str, PostProcessing]) -> bool:
    """Whether the settings change a mask by more than ``clean_classes`` does: a threshold, or regions that overlap."""
    changed = [setting for setting in settings.values() if setting != UNCHANGED]
    return bool(changed) and (outputs.overlap or any(setting.threshold is not None for setting in changed))


def clean_classes(
    mask: np.ndarray, outputs: Outputs, settings: Mapping[str, PostProcessing], *, voxel_volume_ml: float
) -> None:
    """Remove lesions and fill holes of a mask of classes, in place; thresholds have been applied before.

    Args:
        mask: (z,y,x) integer, label values, of the whole scan or of a box that holds everything but background.
        outputs, settings, voxel_volume_ml: as for ``finish_mask``.
    """
    of_class = [
        (value, settings[name])
        for name, value in zip(outputs.names, outputs.values, strict=True)
        if value and name in settings
    ]
    for value, setting in of_class:
        if setting.smallest_lesion_ml or setting.largest_lesions:
            region = mask == value
            mask[region & ~_select_lesions(region, setting, voxel_volume_ml)] = 0
    for value, setting in of_class:
        if setting.fill_holes:
            mask[_fill(mask == value, setting) & (mask == 0)] = value


@dataclass(frozen=True, kw_only=True)
class SearchCase:
    """A held-out case for the search.

    Attributes:
        probabilities: (K,z,y,x) float32 within a box that holds everything but background, and the reference.
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

    @classmethod
    def of(cls, probabilities: np.ndarray, box: Box, label: Label, ignore_label: int | None) -> Self:
        """From the probabilities within a box, and the reference of the whole scan."""
        ignored = 0 if ignore_label is None else int(np.count_nonzero(label.voxels == ignore_label))
        return cls(
            probabilities=probabilities,
            reference=label.voxels[box_slices(box)],
            spacing=label.grid.spacing,
            ignore_label=ignore_label,
            voxels=label.voxels.size - ignored,
        )

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(np.prod(self.spacing)) / 1000


def score_settings(
    case: SearchCase, outputs: Outputs, targets: Mapping[str, tuple[int, ...]], *, metric: str, empty_score: EmptyScore
) -> dict[str, np.ndarray]:
    """The target metric of every label with every setting, the other labels unchanged.

    Components are labelled once per threshold, and a mask that a setting does not change is not scored again.

    Args:
        case: one case.
        outputs: of the plan.
        targets: label or region -> the values it unites.
        metric: name in METRICS.
        empty_score: overlap scores where both masks are empty.

    Returns:
        Label -> (S,) float64, one score per entry of ``SETTINGS``, NaN where undefined.
    """
    counted = None if case.ignore_label is None else case.reference != case.ignore_label
    plain = finish_mask(case.probabilities, outputs, {}, voxel_volume_ml=case.voxel_volume_ml)
    scores = {}
    for name, members in targets.items():
        number = outputs.names.index(name)
        reference = np.isin(case.reference, members)
        editable, fixed = _editable_region(case.probabilities, outputs, plain, number, members)
        probabilities = case.probabilities[number]
        possible = probabilities >= min(threshold for threshold in THRESHOLDS if threshold)
        if not outputs.overlap:
            possible &= editable
        touched = reference | fixed | possible | np.isin(plain, members)
        box = box_slices(bounding_box(touched))
        scorer = LabelScorer(
            reference=reference[box] if counted is None else reference[box] & counted[box],
            fixed=fixed[box],
            editable=editable[box],
            counted=None if counted is None else counted[box],
            case=case,
            metric=metric,
            empty_score=empty_score,
        )
        is_plain = plain[box] == outputs.values[number]
        scores[name] = _score_label(scorer, probabilities[box], is_plain, outputs.overlap)
    return scores


def group_patients(patients: Sequence[str]) -> list[str]:
    """The group of each case for cross-fitting: patients in turn to ten groups, or each alone where there are fewer."""
    numbers = {patient: number for number, patient in enumerate(sorted(set(patients)))}
    return [str(numbers[patient] % GROUPS) for patient in patients]


def choose_settings(
    tables: Mapping[str, np.ndarray], groups: Sequence[str], patients: Sequence[str], *, higher_is_better: bool
) -> tuple[dict[str, PostProcessing], dict[str, dict[str, PostProcessing]]]:
    """The best setting of each label on all cases, and on all cases but those of each group.

    A label is changed only if, over all groups together, settings chosen on the other groups improve a group's cases
    by more than noise: by half a standard error (over patients) at least. A setting that leaves any case without a
    score is not chosen. In a simulation (benchmarks/accuracy/README.md) this rule saves a third of what a choice costs
    where nothing helps, and keeps nine tenths of the gain where something does (20 cases).

    Args:
        tables: label -> (N,S) float, the score of each case with each of ``SETTINGS``, NaN where undefined.
        groups: of each of the N cases: the fold that held it out, or ``group_patients``.
        patients: of each case.
        higher_is_better: direction of the scores.

    Returns:
        Label -> setting chosen on all cases; and group -> label -> setting chosen on the other groups. Only labels that
        are changed; none where there is one group.
    """
    final: dict[str, PostProcessing] = {}
    of_group: dict[str, dict[str, PostProcessing]] = {group: {} for group in dict.fromkeys(groups)}
    if len(of_group) < 2:
        return {}, of_group
    for name, table in tables.items():
        scores = _exclude_unscored(table if higher_is_better else -table)
        chosen = _best_setting(scores)
        out_of_group = np.empty(len(scores))
        chosen_without = {}
        for group in of_group:
            held_out = np.array([patient_group == group for patient_group in groups])
            chosen_without[group] = _best_setting(scores[~held_out])
            out_of_group[held_out] = scores[held_out, chosen_without[group]]
        scored = ~np.isnan(scores[:, 0])
        gains = (out_of_group - scores[:, 0])[scored]
        of_scored = [patient for patient, is_scored in zip(patients, scored, strict=True) if is_scored]
        if chosen == 0 or not _exceed_noise(gains, of_scored):
            continue
        final[name] = SETTINGS[chosen]
        for group, number in chosen_without.items():
            of_group[group][name] = SETTINGS[number]
    return final, of_group


def _exceed_noise(gains: np.ndarray, patients: Sequence[str]) -> bool:
    """Whether the mean gain of the cases is positive, and half a standard error at least."""
    gain = float(gains.mean())
    return gain > 0 and gain >= MIN_STANDARD_ERRORS * standard_error(gains, patients)


def mean_targets(
    tables: Mapping[str, np.ndarray], groups: Sequence[str], of_group: Mapping[str, Mapping[str, PostProcessing]]
) -> tuple[float | None, float | None]:
    """The mean over cases of the mean over labels, as predicted and with the settings chosen on the other groups.

    Args:
        tables, groups: as for ``choose_settings``.
        of_group: what it returned.
    """
    rows, after = np.arange(len(groups)), []
    for name, table in tables.items():
        numbers = {group: SETTINGS.index(settings.get(name, UNCHANGED)) for group, settings in of_group.items()}
        after.append(table[rows, [numbers[group] for group in groups]])
    return _mean_of_cases(np.array([table[:, 0] for table in tables.values()])), _mean_of_cases(np.array(after))


def _mean_of_cases(scores: np.ndarray) -> float | None:
    """(L,N) scores of labels in cases -> the mean over cases of the mean over the labels that are defined."""
    defined = ~np.isnan(scores).all(axis=0)
    return float(np.nanmean(scores[:, defined], axis=0).mean()) if defined.any() else None


def describe_setting(setting: PostProcessing) -> str:
    """The post-processing of a mask in words."""
    parts = []
    if setting.threshold is not None:
        parts.append(f"a probability of {setting.threshold:g} or more")
    if setting.smallest_lesion_ml:
        parts.append(f"no lesion below {setting.smallest_lesion_ml:g} ml")
    if setting.largest_lesions:
        number = setting.largest_lesions
        parts.append("only the largest lesion" if number == 1 else f"only the {number} largest lesions")
    if setting.fill_holes:
        parts.append("holes filled")
    return ", ".join(parts) or "unchanged"


def _exclude_unscored(scores: np.ndarray) -> np.ndarray:
    """(N,S) with -inf for settings that leave a case unscored: a mask that became empty must not count as good."""
    unscored = (np.isnan(scores) & ~np.isnan(scores[:, :1])).any(axis=0)
    return np.where(unscored, -np.inf, scores)


def _best_setting(scores: np.ndarray) -> int:
    """Number of the setting with the best mean over the cases that are scored without any; higher is better."""
    rows = scores[~np.isnan(scores[:, 0])]
    if not len(rows):
        return 0
    means = rows.mean(axis=0)
    return int(np.flatnonzero(means >= means.max() - 1e-12)[0])


def _above_threshold(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """Voxels of a region; without a threshold those with a positive logit."""
    return probabilities > 0.5 if threshold is None else probabilities >= threshold


def _assign_classes(probabilities: np.ndarray, outputs: Outputs, settings: Mapping[str, PostProcessing]) -> np.ndarray:
    """(K,z,y,x) of classes -> (z,y,x) uint8, the number of the class that each voxel goes to."""
    likeliest, highest = running_argmax(probabilities)
    thresholds = {name: setting.threshold for name, setting in settings.items() if setting.threshold is not None}
    if not thresholds:
        return likeliest

    def claims() -> Iterator[np.ndarray]:
        yield np.zeros_like(highest)
        for number, name in enumerate(outputs.names[1:], start=1):
            channel, threshold = probabilities[number], thresholds.get(name)
            yield np.where(likeliest == number if threshold is None else channel >= threshold, channel, 0)

    return running_argmax(claims())[0]


def _select_lesions(mask: np.ndarray, setting: PostProcessing, voxel_volume_ml: float) -> np.ndarray:
    """(z,y,x) bool without lesions below the smallest volume, and without all but the largest ones."""
    if not (setting.smallest_lesion_ml or setting.largest_lesions) or not mask.any():
        return mask
    lesions, sizes = _number_lesions(mask)
    return _selected(sizes, setting.smallest_lesion_ml, setting.largest_lesions, voxel_volume_ml)[lesions]


def _number_lesions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(z,y,x) number of each voxel's lesion (26-connected), and (L+1,) voxels of background and of each lesion."""
    lesions, count = connected_components(mask)
    return lesions, np.bincount(lesions.ravel(), minlength=count + 1)


def _selected(sizes: np.ndarray, smallest_ml: float, largest: int | None, voxel_volume_ml: float) -> np.ndarray:
    """(L+1,) voxels of background and each lesion -> (L+1,) bool; of equally large lesions the first ones."""
    stays = sizes * voxel_volume_ml >= smallest_ml * (1 - 1e-9)  # so that rounding removes no lesion of that volume
    stays[0] = False
    if largest is not None:
        stays[1 + np.argsort(-sizes[1:], kind="stable")[largest:]] = False
    return stays


def _fill(mask: np.ndarray, setting: PostProcessing) -> np.ndarray:
    if not setting.fill_holes or not mask.any():
        return mask
    return fill_voids.fill(mask).astype(bool)


def _editable_region(
    probabilities: np.ndarray, outputs: Outputs, plain: np.ndarray, number: int, members: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels whose membership of a label or region its setting can change, and those that others fix as members.

    Args:
        plain: (z,y,x), the mask without post-processing.
        members: values that the label or region unites.
    """
    if not outputs.overlap:
        return (plain == 0) | (plain == outputs.values[number]), np.zeros(plain.shape, bool)
    overpainted = np.zeros(plain.shape, bool)
    for channel in probabilities[number + 1 :]:
        overpainted |= _above_threshold(channel, None)
    return ~overpainted, overpainted & np.isin(plain, members)


@dataclass(frozen=True, kw_only=True)
class LabelScorer:
    """Scores masks of one label in one case; arrays are (z,y,x) bool within a box."""

    reference: np.ndarray
    fixed: np.ndarray
    editable: np.ndarray
    counted: np.ndarray | None
    case: SearchCase
    metric: str
    empty_score: EmptyScore

    @cached_property
    def needed(self) -> list[Box]:
        """A box that holds the reference and what is fixed, unless both are empty."""
        marked = self.reference | self.fixed
        return [bounding_box(marked)] if marked.any() else []

    def score(self, proposed: np.ndarray, box: Box) -> float:
        """Score of a mask within a box that holds all of it and ``needed``; NaN where undefined."""
        inside = box_slices(box)
        mask = self.fixed[inside] | (proposed & self.editable[inside])
        if self.counted is not None:
            mask &= self.counted[inside]
        comparison = compare(mask, self.reference[inside], self.case.spacing, voxels=self.case.voxels)
        score = METRICS[self.metric](comparison, empty_score=self.empty_score)
        return float("nan") if score is None else score


def _score_label(scorer: LabelScorer, probabilities: np.ndarray, plain: np.ndarray, overlap: bool) -> np.ndarray:
    """(S,) float64, the score of each setting.

    Args:
        probabilities: (z,y,x) float32, of the label.
        plain: (z,y,x) bool, its mask without post-processing.
        overlap: it is a region.
    """
    scores: dict[tuple[float | None, float, int | None, bool], float] = {}
    for threshold in THRESHOLDS:
        mask = _above_threshold(probabilities, threshold) if threshold is not None or overlap else plain
        mask = mask if overlap else mask & scorer.editable
        lesions, sizes = _number_lesions(mask)
        boxes = measure_components(lesions)["bounding_boxes"]
        computed: dict[int, tuple[float, float]] = {}  # number of remaining lesions -> score without and with filling
        for smallest, largest in product(SMALLEST_ML, LARGEST_LESIONS):
            stays = _selected(sizes, smallest, largest, scorer.case.voxel_volume_ml)
            remaining = int(stays.sum())  # always the largest ones, so their number tells which
            if remaining not in computed:
                of_lesions = [tuple((part.start, part.stop) for part in boxes[i]) for i in np.flatnonzero(stays)]
                box = join_boxes([*scorer.needed, *of_lesions], mask.shape)
                computed[remaining] = _score_and_fill(scorer, stays[lesions[box_slices(box)]], box)
            for fill in (False, True):
                scores[threshold, smallest, largest, fill] = computed[remaining][fill]
    return np.array([scores[s.threshold, s.smallest_lesion_ml, s.largest_lesions, s.fill_holes] for s in SETTINGS])


def _score_and_fill(scorer: LabelScorer, mask: np.ndarray, box: Box) -> tuple[float, float]:
    """Scores of a mask within a box as it is, and with its holes filled."""
    score, voxels = scorer.score(mask, box), np.count_nonzero(mask)
    filled = fill_voids.fill(mask).astype(bool) if voxels else mask
    return score, score if np.count_nonzero(filled) == voxels else scorer.score(filled, box)
