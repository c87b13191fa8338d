"""One held-out case at a time: what every candidate scores, and what is made of the winner's probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from autoseg.core.cropped_probabilities import join_boxes
from autoseg.core.errors import DataError
from autoseg.core.geometry import Box, bounding_box, box_slices
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.probabilities import read_probabilities
from autoseg.core.records import Case, CaseScores, Dataset, Doubt, Label, Outputs, PostProcessing
from autoseg.datasets import read_label
from autoseg.evaluation import score_case
from autoseg.evaluation.calibration import draw_voxels, temper
from autoseg.evaluation.cases import name_targets
from autoseg.evaluation.postprocessing import SearchCase, finish_mask, score_settings
from autoseg.evaluation.review import doubt_case
from autoseg.evaluation.summary import mean_over_labels
from autoseg.metrics import EmptyScore

MARGIN = 4  # voxels around all that is not background, of which some are drawn to calibrate with
Members = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HeldOutCase:
    """A held-out case, and what each configuration made of it without having seen it.

    Attributes:
        dataset: without its cases.
        case: the case.
        fold: that held it out.
        outputs: of the plan.
        masks, probabilities: configuration -> file.
        advice: what to do when a file is damaged.
    """

    dataset: Dataset
    case: Case
    fold: str
    outputs: Outputs
    masks: Mapping[str, Path]
    probabilities: Mapping[str, Path]
    advice: str

    def label(self) -> Label:
        """The reference, on the scan's own grid."""
        return read_label(self.dataset, self.case)

    def mask(self, configuration: str, label: Label) -> np.ndarray:
        """(Z,Y,X) integer, the mask that a configuration wrote.

        Raises:
            DataError: it does not lie on the label's grid.
        """
        voxels, grid = read_voxels(self.masks[configuration])
        if not grid.matches(label.grid):
            raise DataError(
                f"case {self.case.id}: {self.masks[configuration]} lies on another grid ({grid.describe()}) than the "
                f"label ({label.grid.describe()}); delete it and run the same command again"
            )
        return voxels


def compare_candidates(
    task: tuple[HeldOutCase, Mapping[str, Members], tuple[str, ...], EmptyScore],
) -> dict[str, CaseScores]:
    """Candidate -> its scores of the case, on the scan's own grid.

    Args:
        task: the case; candidate -> members; metrics; what overlap scores give where both masks are empty.
    """
    held, candidates, metrics, empty_score = task
    label = held.label()
    opened = CaseRegion(held, label, sorted({name for members in candidates.values() for name in members}))
    found = {}
    for name, members in candidates.items():
        mask = held.mask(members[0], label) if len(members) == 1 else opened.place(opened.plain_mask(members))
        found[name] = _score(held, label, mask, metrics, empty_score)
    return found


def draw_case(task: tuple[HeldOutCase, Members, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(n,K) float32 probabilities and (n,K) bool truth of some voxels around all that is not background.

    Args:
        task: the case, members of the winner, how many voxels at most, and the seed.
    """
    held, members, count, seed = task
    opened = CaseRegion(held, held.label(), members, margin=MARGIN)
    ignored = held.dataset.ignore_label
    return draw_voxels(
        opened.mean(members),
        opened.truth,
        None if ignored is None else opened.reference != ignored,
        count=count,
        generator=np.random.default_rng(seed),
    )


def search_case(task: tuple[HeldOutCase, Members, float, str, EmptyScore]) -> dict[str, np.ndarray]:
    """Label -> (S,) the target metric with each of ``SETTINGS``.

    Args:
        task: the case, members of the winner, its temperature, the target metric, what two empty masks score.
    """
    held, members, temperature, metric, empty_score = task
    label = held.label()
    opened = CaseRegion(held, label, members)
    ignored = held.dataset.ignore_label
    case = SearchCase(
        probabilities=temper(opened.mean(members), temperature, overlap=held.outputs.overlap),
        reference=opened.reference,
        spacing=label.grid.spacing,
        ignore_label=ignored,
        voxels=label.voxels.size - (0 if ignored is None else int(np.count_nonzero(label.voxels == ignored))),
    )
    return score_settings(case, held.outputs, targets_of(held.dataset), metric=metric, empty_score=empty_score)


@dataclass(frozen=True, kw_only=True)
class FinishingSettings:
    """How the winner's mask of a case is finished and judged.

    Attributes:
        members: of the winner.
        configurations: whose own masks tell what is doubtful.
        temperature: of the winner's probabilities.
        settings: label or region -> what is done to its mask, chosen without the case's fold.
        metrics, empty_score: of the scores.
        target: the metric that decides.
        output: the file that gets the mask.
    """

    members: Members
    configurations: Members
    temperature: float
    settings: Mapping[str, PostProcessing]
    metrics: tuple[str, ...]
    empty_score: EmptyScore
    target: str
    output: Path


def finish_case(task: tuple[HeldOutCase, FinishingSettings]) -> tuple[CaseScores, Doubt]:
    """Write the winner's finished mask of the case, score it, and say what is doubtful about it."""
    held, how = task
    label = held.label()
    opened = CaseRegion(held, label, sorted({*how.members, *how.configurations}))
    shares = temper(opened.mean(how.members), how.temperature, overlap=held.outputs.overlap)
    if how.settings or len(how.members) > 1:
        inside = finish_mask(shares, held.outputs, how.settings, voxel_volume_ml=label.grid.voxel_volume_ml)
        mask = opened.place(inside)
    else:
        mask = held.mask(how.members[0], label)
        inside = mask[box_slices(opened.box)]
    write_voxels(how.output, mask, label.grid, like=held.case.channels[0].path)
    scores = _score(held, label, mask, how.metrics, how.empty_score)
    doubt = doubt_case(
        held.case.id,
        shares.max(axis=0) if held.outputs.overlap else 1 - shares[0],
        inside > 0,
        [opened.plain_mask((name,)) > 0 for name in how.configurations],
        grid=label.grid,
        box=opened.box,
        target=mean_over_labels(scores, list(scores.scores), how.target),
    )
    return scores, doubt


def targets_of(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Label or region that is scored -> the values it unites."""
    return name_targets(dataset.labels, dataset.regions, dataset.ignore_label)


class CaseRegion:
    """Probabilities of some configurations within one box that also holds the reference."""

    def __init__(self, held: HeldOutCase, label: Label, configurations: Sequence[str], *, margin: int = 0) -> None:
        self.held, self.label = held, label
        self.found = {
            name: read_probabilities(held.probabilities[name], held.outputs, advice=held.advice)
            for name in configurations
        }
        for name, found in self.found.items():
            if found.shape != label.voxels.shape:
                raise DataError(
                    f"case {held.case.id}: {held.probabilities[name]} has the shape {found.shape} and the label "
                    f"{label.voxels.shape}; {held.advice}"
                )
        there = label.voxels != 0
        own: list[Box] = [bounding_box(there)] if there.any() else []
        self.box = join_boxes([*own, *(found.box for found in self.found.values())], there.shape, margin=margin)

    @cached_property
    def reference(self) -> np.ndarray:
        """(z,y,x) integer within the box."""
        return self.label.voxels[box_slices(self.box)]

    @cached_property
    def truth(self) -> np.ndarray:
        """(K,z,y,x) bool within the box, what each voxel belongs to."""
        outputs, regions = self.held.outputs, self.held.dataset.regions
        members = list(regions.values()) if outputs.overlap else [(value,) for value in outputs.values]
        return np.stack([np.isin(self.reference, values) for values in members])

    def mean(self, members: Members) -> np.ndarray:
        """(K,z,y,x) float32, the mean of the members' probabilities."""
        total = self.found[members[0]].within(self.box)
        for name in members[1:]:
            total += self.found[name].within(self.box)
        total /= len(members)
        return total

    def plain_mask(self, members: Members) -> np.ndarray:
        """(z,y,x) integer within the box, nothing done to it."""
        volume_ml = self.label.grid.voxel_volume_ml
        return finish_mask(self.mean(members), self.held.outputs, {}, voxel_volume_ml=volume_ml)

    def place(self, inside: np.ndarray) -> np.ndarray:
        """(z,y,x) within the box -> (Z,Y,X) on the scan's grid, background outside."""
        mask = np.zeros(self.label.voxels.shape, inside.dtype)
        mask[box_slices(self.box)] = inside
        return mask


def _score(
    held: HeldOutCase, label: Label, mask: np.ndarray, metrics: tuple[str, ...], empty_score: EmptyScore
) -> CaseScores:
    scores = score_case(
        held.case.id,
        mask,
        label.voxels,
        spacing=label.grid.spacing,
        labels=held.dataset.labels,
        regions=held.dataset.regions,
        ignore_label=held.dataset.ignore_label,
        metrics=metrics,
        empty_score=empty_score,
    )
    return scores.model_copy(update={"group": held.case.group})
