"""Ensembles: several models' probabilities averaged, then calibrated and post-processed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from autoseg.core.errors import ModelError
from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.probabilities import ClassProbabilities
from autoseg.core.records import BestModel, Grid, Label, ModelPostProcessing, Plan, PostProcessing
from autoseg.core.store import read_record
from autoseg.evaluation.calibration import is_reliable, temper
from autoseg.evaluation.postprocessing import clean_classes, finish_mask, needs_probabilities
from autoseg.model import POSTPROCESSING, Model, have_same_channels, load_model, load_plan
from autoseg.preprocessing import LogitRestorer

BEST_RECORD = "best.json"
SLAB = 16  # rows averaged at once


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """One model or several, with the post-processing of their mask.

    Attributes:
        name: for messages, ``<dataset>/<configuration>`` or ``<dataset>/best``.
        members: models with the same channels and outputs.
        postprocessing: label or region -> its setting.
        temperature: by which the logits of the mean probabilities are divided.
        reliable: whether a Dice can be expected from its probabilities.
    """

    name: str
    members: tuple[Model, ...]
    postprocessing: Mapping[str, PostProcessing] = field(default_factory=dict)
    temperature: float = 1.0
    reliable: bool = True

    @classmethod
    def of(cls, model: Model) -> Self:
        """A single model without post-processing."""
        return cls(name=model.name, members=(model,))

    @property
    def plan(self) -> Plan:
        """Channels, labels and regions, which all members share."""
        return self.members[0].plan

    @property
    def needs_probabilities(self) -> bool:
        """Whether the mask is made from probabilities; a single model's is made from its logits where possible."""
        return len(self.members) > 1 or needs_probabilities(self.plan.outputs, self.postprocessing)


def load_ensemble(
    folder: Path, folds: Sequence[str] | None, device: torch.device, *, postprocessing: bool = True
) -> Ensemble:
    """Open a model folder, or the folder of the best model of an experiment.

    Args:
        folder: ``autoseg_results/<dataset>/<configuration>``, or one that holds ``best.json``.
        folds: of every member; None for all trained ones.
        device: of the networks.
        postprocessing: apply what improved held-out cases, if anything did.

    Raises:
        ModelError: as ``load_model``; or members are missing, or differ in channels or labels.
    """
    if not (folder / BEST_RECORD).exists():
        ensemble = Ensemble.of(load_model(folder, folds, device))
        path = folder / POSTPROCESSING
        if not postprocessing or not path.exists():
            return ensemble
        again = "copy the whole model folder again, or delete the file to predict without"
        settings = read_record(ModelPostProcessing, path, advice=again).settings
        _check_labels(settings, ensemble.plan, path, again)
        return replace(ensemble, postprocessing=settings)
    again = "copy the whole folder again, or delete it and run autoseg_run again"
    best = read_record(BestModel, folder / BEST_RECORD, advice=again)
    missing = [name for name in best.members if not (folder / name).is_dir()]
    if missing or not best.members:
        raise ModelError(f"{folder} lacks the model '{(missing or ['?'])[0]}', a member of the ensemble; {again}")
    members = tuple(
        replace(load_model(folder / name, folds, device), name=f"{best.dataset}/{name}") for name in best.members
    )
    for other in members[1:]:
        if not have_same_channels(members[0].plan, other.plan):
            raise ModelError(f"members of {folder} differ in channels, labels or regions; {again}")
    _check_labels(best.postprocessing, members[0].plan, folder / BEST_RECORD, again)
    return Ensemble(
        name=f"{best.dataset}/best",
        members=members,
        postprocessing=best.postprocessing if postprocessing else {},
        temperature=best.temperature,
        reliable=best.reliable and is_reliable(best.temperature),
    )


def _check_labels(settings: Mapping[str, PostProcessing], plan: Plan, path: Path, advice: str) -> None:
    """Refuse settings of a label or region that the model does not have.

    Raises:
        ModelError: one is unknown.
    """
    unknown = [name for name in settings if name not in plan.outputs.names]
    if unknown:
        raise ModelError(f"{path} post-processes '{unknown[0]}', which is not a label of its model; {advice}")


def load_ensemble_plan(folder: Path) -> Plan:
    """Plan of a model folder, or of the first member of the best model of an experiment.

    Raises:
        ModelError: as ``load_ensemble``.
    """
    if (folder / BEST_RECORD).exists():
        best = read_record(BestModel, folder / BEST_RECORD, advice="copy the whole folder again")
        folder = folder / next(iter(best.members), "")
    return load_plan(folder)


def name_ensemble(folder: Path) -> str:
    """Name of a model folder, or of that of the best model of an experiment, for people."""
    return f"{folder.name}/best" if (folder / BEST_RECORD).exists() else f"{folder.parent.name}/{folder.name}"


class EnsembleAverager:
    """Running mean of the members' probabilities of one scan, and the mask that follows from it.

    No more than two members' probabilities are in memory at once.

    Args:
        ensemble: its members are added in any order.
        grid: of the scan.
        keep_probabilities: return them beside the mask.

    Attributes:
        network_masks: (Z,Y,X) bool each, the foreground that each single network predicts, as far as they were added.
    """

    def __init__(self, ensemble: Ensemble, grid: Grid, *, keep_probabilities: bool) -> None:
        self.ensemble, self.grid, self.keep_probabilities = ensemble, grid, keep_probabilities
        self.mask: Label | None = None
        self.mean: np.ndarray | None = None
        self.count = 0
        self.network_masks: list[np.ndarray] = []

    @property
    def needs_probabilities(self) -> bool:
        """Whether a member's probabilities are used beside its mask."""
        return self.keep_probabilities or self.ensemble.needs_probabilities

    def add_single_network(self, restorer: LogitRestorer) -> None:
        """Add the foreground of one network's own mask to ``network_masks``; ``restorer`` has all its rows."""
        self.network_masks.append(restorer.finish().voxels > 0)

    def add(self, restorer: LogitRestorer) -> None:
        """Add a member; ``restorer`` has all its rows, and its probabilities if ``needs_probabilities``."""
        self.count += 1
        mask, probabilities = restorer.finish(), restorer.probabilities
        restorer.probabilities = None
        if not self.ensemble.needs_probabilities:
            self.mask = mask
        if self.mean is None or probabilities is None:
            self.mean = probabilities
            return
        for start in range(0, self.grid.shape[0], SLAB):
            rows = (slice(None), slice(start, start + SLAB))
            mean = self.mean[rows].astype(np.float32)
            mean += (probabilities[rows] - mean) / self.count
            self.mean[rows] = mean

    def finish(self) -> tuple[Label, np.ndarray | None]:
        """The mask on the scan's own grid, and (K,Z,Y,X) float16 calibrated probabilities if they are kept."""
        assert self.count == len(self.ensemble.members)  # all members have been added
        mask = self._postprocessed_mask() if self.mask is None else self._cleaned(self.mask)
        if not self.keep_probabilities or self.mean is None:
            return mask, None
        if self.ensemble.temperature != 1:
            for start in range(0, self.grid.shape[0], SLAB):
                rows = (slice(None), slice(start, start + SLAB))
                self.mean[rows] = self._temper(self.mean[rows])
        return mask, self.mean

    def _cleaned(self, mask: Label) -> Label:
        """The mask of a single member with its post-processing, none of which needs probabilities."""
        settings, marked = self.ensemble.postprocessing, mask.voxels != 0
        if not settings or not marked.any():
            return mask
        voxels = mask.voxels.copy()
        inside = voxels[box_slices(bounding_box(marked))]  # a view
        clean_classes(inside, self.ensemble.plan.outputs, settings, voxel_volume_ml=self.grid.voxel_volume_ml)
        return Label(voxels=voxels, grid=mask.grid)

    def _postprocessed_mask(self) -> Label:
        assert self.mean is not None  # without probabilities the mask is the single member's
        outputs = self.ensemble.plan.outputs
        cropped = ClassProbabilities.cropped(self.mean, outputs)
        voxels = np.zeros(self.grid.shape, np.uint8 if max(outputs.values) < 256 else np.int16)
        if cropped.voxels.size:
            voxels[box_slices(cropped.box)] = finish_mask(
                self._temper(cropped.voxels),
                outputs,
                self.ensemble.postprocessing,
                voxel_volume_ml=self.grid.voxel_volume_ml,
            )
        return Label(voxels=voxels, grid=self.grid)

    def _temper(self, probabilities: np.ndarray) -> np.ndarray:
        return temper(probabilities, self.ensemble.temperature, overlap=self.ensemble.plan.outputs.overlap)
