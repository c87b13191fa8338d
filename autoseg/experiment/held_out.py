"""One held-out case at a time: scores of every candidate, and post-processing of the winner's probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from autoseg.core.errors import DataError, ModelError
from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.probabilities import ClassProbabilities, join_boxes, read_probabilities
from autoseg.core.records import Case, CaseScores, Dataset, Doubt, Label, Outputs, PostProcessing
from autoseg.datasets import read_label
from autoseg.evaluation import Convention, score_case
from autoseg.evaluation.calibration import draw_voxels, temper
from autoseg.evaluation.cases import name_targets
from autoseg.evaluation.postprocessing import SearchCase, finish_mask, score_settings
from autoseg.evaluation.review import doubt_case
from autoseg.evaluation.summary import mean_over_labels
from autoseg.metrics import EmptyScore

MARGIN = 4  # voxels around everything but background, from which voxels are sampled for calibration
Members = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HeldOutCase:
    """A held-out case with the out-of-fold predictions of each configuration.

    Attributes:
        dataset: without its cases.
        case: the case.
        fold: the one that held it out.
        outputs: of the plan.
        masks, probabilities: configuration -> file.
        advice: for messages about a damaged file.
    """

    dataset: Dataset
    case: Case
    fold: str
    outputs: Outputs
    masks: Mapping[str, Path]
    probabilities: Mapping[str, Path]
    advice: str

    def label(self) -> Label:
        """Read the reference, on the scan's own grid."""
        return read_label(self.dataset, self.case)

    def mask(self, configuration: str, label: Label) -> np.ndarray:
        """(Z,Y,X) integer, the mask that a configuration predicted.

        Raises:
            DataError: its grid is not the label's.
        """
        voxels, grid = read_voxels(self.masks[configuration])
        if not grid.matches(label.grid):
            raise DataError(
                f"case {self.case.id}: {self.masks[configuration]} has another grid ({grid.describe()}) than the "
                f"label ({label.grid.describe()}); delete it and run the same command again"
            )
        return voxels


def compare_candidates(
    task: tuple[HeldOutCase, Mapping[str, Members], Convention],
) -> dict[str, CaseScores]:
    """Candidate -> its scores of the case, on the scan's own grid.

    Args:
        task: the case; candidate -> members; the convention of the scores.
    """
    held_out, candidates, convention = task
    label = held_out.label()
    region = CaseRegion(held_out, label, sorted({name for members in candidates.values() for name in members}))
    scores = {}
    for name, members in candidates.items():
        mask = held_out.mask(members[0], label) if len(members) == 1 else region.place(region.plain_mask(members))
        scores[name] = _score(held_out, label, mask, convention)
    return scores


def sample_case(task: tuple[HeldOutCase, Members, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(n,K) float32 probabilities and (n,K) bool truth of a sample of voxels around everything but background.

    Args:
        task: the case, members of the winner, the largest number of voxels, and the seed.
    """
    held_out, members, count, seed = task
    region = CaseRegion(held_out, held_out.label(), members, margin=MARGIN)
    ignored = held_out.dataset.ignore_label
    return draw_voxels(
        region.mean(members),
        region.truth,
        None if ignored is None else region.reference != ignored,
        count=count,
        generator=np.random.default_rng(seed),
    )


def search_case(task: tuple[HeldOutCase, Members, float, str, EmptyScore]) -> dict[str, np.ndarray]:
    """Label -> (S,) the target metric with each of ``SETTINGS``.

    Args:
        task: the case, members of the winner, their temperature, the target metric, the score of two empty masks.
    """
    held_out, members, temperature, metric, empty_score = task
    label = held_out.label()
    region = CaseRegion(held_out, label, members)
    probabilities = temper(region.mean(members), temperature, overlap=held_out.outputs.overlap)
    case = SearchCase.of(probabilities, region.box, label, held_out.dataset.ignore_label)
    targets = name_targets(held_out.dataset)
    return score_settings(case, held_out.outputs, targets, metric=metric, empty_score=empty_score)


@dataclass(frozen=True, kw_only=True)
class FinishingSettings:
    """Settings for post-processing, scoring and reviewing the winner's mask of a case.

    Attributes:
        members: of the winner.
        configurations: whose masks are compared to find doubtful cases.
        temperature: of the winner's probabilities, fitted without the case's fold.
        settings: label or region -> its post-processing, chosen without the case.
        convention: of the scores.
        target: the metric that decides.
        output: file for the mask.
    """

    members: Members
    configurations: Members
    temperature: float
    settings: Mapping[str, PostProcessing]
    convention: Convention
    target: str
    output: Path


def finish_case(task: tuple[HeldOutCase, FinishingSettings]) -> tuple[CaseScores, Doubt]:
    """Write the winner's post-processed mask of the case, score it, and measure its doubt."""
    held_out, finishing = task
    label = held_out.label()
    members = finishing.members
    region = CaseRegion(held_out, label, sorted({*members, *finishing.configurations}))
    probabilities = temper(region.mean(members), finishing.temperature, overlap=held_out.outputs.overlap)
    if finishing.settings or len(members) > 1:
        volume_ml = label.grid.voxel_volume_ml
        inside = finish_mask(probabilities, held_out.outputs, finishing.settings, voxel_volume_ml=volume_ml)
        mask = region.place(inside)
    else:
        mask = held_out.mask(members[0], label)
        inside = mask[box_slices(region.box)]
    write_voxels(finishing.output, mask, label.grid, like=held_out.case.channels[0].path)
    scores = _score(held_out, label, mask, finishing.convention)
    doubt = doubt_case(
        held_out.case.id,
        probabilities.max(axis=0) if held_out.outputs.overlap else 1 - probabilities[0],
        inside > 0,
        [region.plain_mask((name,)) > 0 for name in finishing.configurations],
        grid=label.grid,
        box=region.box,
        target=mean_over_labels(scores, list(scores.scores), finishing.target),
    )
    return scores, doubt


class CaseRegion:
    """Probabilities of some configurations within one box that also holds the reference."""

    def __init__(self, held_out: HeldOutCase, label: Label, configurations: Sequence[str], *, margin: int = 0) -> None:
        self.held_out, self.label = held_out, label
        self.probabilities = {name: _read_probabilities(held_out, label, name) for name in configurations}
        marked = label.voxels != 0
        boxes = [stored.box for stored in self.probabilities.values()]
        if marked.any():
            boxes.append(bounding_box(marked))
        self.box = join_boxes(boxes, marked.shape, margin=margin)

    @cached_property
    def reference(self) -> np.ndarray:
        """(z,y,x) integer within the box."""
        return self.label.voxels[box_slices(self.box)]

    @cached_property
    def truth(self) -> np.ndarray:
        """(K,z,y,x) bool within the box, the classes or regions of each voxel."""
        outputs, regions = self.held_out.outputs, self.held_out.dataset.regions
        members = list(regions.values()) if outputs.overlap else [(value,) for value in outputs.values]
        return np.stack([np.isin(self.reference, values) for values in members])

    def mean(self, members: Members) -> np.ndarray:
        """(K,z,y,x) float32, the mean of the members' probabilities."""
        total = self.probabilities[members[0]].within(self.box)
        for name in members[1:]:
            total += self.probabilities[name].within(self.box)
        total /= len(members)
        return total

    def plain_mask(self, members: Members) -> np.ndarray:
        """(z,y,x) integer within the box, without post-processing."""
        volume_ml = self.label.grid.voxel_volume_ml
        return finish_mask(self.mean(members), self.held_out.outputs, {}, voxel_volume_ml=volume_ml)

    def place(self, inside: np.ndarray) -> np.ndarray:
        """(z,y,x) within the box -> (Z,Y,X) on the scan's grid, background outside."""
        mask = np.zeros(self.label.voxels.shape, inside.dtype)
        mask[box_slices(self.box)] = inside
        return mask


def _read_probabilities(held_out: HeldOutCase, label: Label, configuration: str) -> ClassProbabilities:
    path = held_out.probabilities[configuration]
    stored = read_probabilities(path, advice=held_out.advice)
    if stored.outputs.values != held_out.outputs.values:
        raise ModelError(f"{path} holds other labels ({stored.outputs.values}) than the plan; {held_out.advice}")
    if stored.shape != label.voxels.shape:
        raise DataError(
            f"case {held_out.case.id}: {path} has the shape {stored.shape} and the label {label.voxels.shape}; "
            f"{held_out.advice}"
        )
    return stored


def _score(held_out: HeldOutCase, label: Label, mask: np.ndarray, convention: Convention) -> CaseScores:
    scores = score_case(
        held_out.case.id,
        mask,
        label.voxels,
        spacing=label.grid.spacing,
        dataset=held_out.dataset,
        convention=convention,
    )
    return scores.model_copy(update={"group": held_out.case.group})
