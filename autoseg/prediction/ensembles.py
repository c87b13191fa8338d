"""Models whose probabilities are averaged, and what becomes of their mean: a calibrated, finished mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from autoseg.core.cropped_probabilities import BoxedProbabilities
from autoseg.core.errors import ModelError
from autoseg.core.geometry import box_slices
from autoseg.core.records import BestModel, Grid, Label, Plan, PostProcessing
from autoseg.core.store import read_record
from autoseg.evaluation.calibration import temper
from autoseg.evaluation.postprocessing import finish_mask
from autoseg.model import Model, have_same_channels, load_model
from autoseg.preprocessing import LogitRestorer

BEST_RECORD = "best.json"
SLAB = 16  # rows that are averaged at once


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """One model, or several, with what is done to their mask.

    Attributes:
        name: for people, ``<dataset>/<configuration>`` or ``<dataset>/best``.
        members: models; they agree on channels and outputs.
        postprocessing: label or region -> what is done to its mask.
        temperature: of the mean probabilities.
    """

    name: str
    members: tuple[Model, ...]
    postprocessing: Mapping[str, PostProcessing] = field(default_factory=dict)
    temperature: float = 1.0

    @classmethod
    def of(cls, model: Model) -> Self:
        """A single model, whose mask stays as it is."""
        return cls(name=model.name, members=(model,))

    @property
    def plan(self) -> Plan:
        """Channels, labels and regions, which all members share."""
        return self.members[0].plan

    @property
    def needs_probabilities(self) -> bool:
        """Whether the mask is made from probabilities; that of a model by itself is made from logits."""
        return len(self.members) > 1 or bool(self.postprocessing)


def load_ensemble(folder: Path, folds: Sequence[str] | None, device: torch.device) -> Ensemble:
    """Open a model folder, or the folder of the best model of an experiment.

    Args:
        folder: ``autoseg_results/<dataset>/<configuration>``, or one that holds ``best.json``.
        folds: of every member; None for all that are trained.
        device: where networks are computed.

    Raises:
        ModelError: as ``load_model``; or members are missing, or differ in channels or labels.
    """
    if not (folder / BEST_RECORD).exists():
        return Ensemble.of(load_model(folder, folds, device))
    again = "copy the whole folder again, or delete it and run autoseg_run again"
    best = read_record(BestModel, folder / BEST_RECORD, advice=again)
    missing = [name for name in best.members if not (folder / name).is_dir()]
    if missing or not best.members:
        raise ModelError(f"{folder} holds no model '{(missing or ['?'])[0]}', a member of the best; {again}")
    members = tuple(
        replace(load_model(folder / name, folds, device), name=f"{best.dataset}/{name}") for name in best.members
    )
    for other in members[1:]:
        if not have_same_channels(members[0].plan, other.plan):
            raise ModelError(f"members of {folder} differ in channels, labels or regions; {again}")
    unknown = [name for name in best.postprocessing if name not in members[0].plan.outputs.names]
    if unknown:
        raise ModelError(f"{folder / BEST_RECORD} finishes '{unknown[0]}', which is no label of its model; {again}")
    return Ensemble(
        name=f"{best.dataset}/best",
        members=members,
        postprocessing=best.postprocessing,
        temperature=best.temperature,
    )


class EnsembleAverager:
    """Takes what each member makes of a scan, one after the other, and gives the mask.

    No more than two members' probabilities are in memory at once.

    Args:
        ensemble: whose members come.
        grid: of the scan.
        keep: give the probabilities, too.

    Attributes:
        voices: (Z,Y,X) bool each, the foreground of the masks of single networks, if they are heard.
    """

    def __init__(self, ensemble: Ensemble, grid: Grid, *, keep: bool) -> None:
        self.ensemble, self.grid, self.keep = ensemble, grid, keep
        self.mask: Label | None = None
        self.mean: np.ndarray | None = None
        self.count = 0
        self.voices: list[np.ndarray] = []

    def hear(self, restorer: LogitRestorer) -> None:
        """A single network's logits, all rows given: the foreground of its own mask is kept in ``voices``."""
        self.voices.append(restorer.finish().voxels > 0)

    def add(self, restorer: LogitRestorer) -> None:
        """A member's logits, all rows given; it has probabilities if those are needed or kept."""
        self.count += 1
        mask, shares = restorer.finish(), restorer.probabilities
        restorer.probabilities = None
        if not self.ensemble.needs_probabilities:
            self.mask = mask
        if self.mean is None or shares is None:
            self.mean = shares
            return
        for start in range(0, self.grid.shape[0], SLAB):
            rows = (slice(None), slice(start, start + SLAB))
            mean = self.mean[rows].astype(np.float32)
            mean += (shares[rows] - mean) / self.count
            self.mean[rows] = mean

    def finish(self) -> tuple[Label, np.ndarray | None]:
        """The mask on the scan's own grid, and (K,Z,Y,X) float16 calibrated probabilities if they are kept."""
        assert self.count == len(self.ensemble.members)  # whoever gives members gives all of them
        mask = self.mask or self._finish_mask()
        if not self.keep or self.mean is None:
            return mask, None
        if self.ensemble.temperature != 1:
            for start in range(0, self.grid.shape[0], SLAB):
                rows = (slice(None), slice(start, start + SLAB))
                self.mean[rows] = self._temper(self.mean[rows])
        return mask, self.mean

    def _finish_mask(self) -> Label:
        assert self.mean is not None  # without probabilities the mask is the member's own
        outputs = self.ensemble.plan.outputs
        boxed = BoxedProbabilities.of(self.mean, overlap=outputs.overlap)
        voxels = np.zeros(self.grid.shape, np.uint8 if max(outputs.values) < 256 else np.int16)
        if boxed.voxels.size:
            voxels[box_slices(boxed.box)] = finish_mask(
                self._temper(boxed.voxels),
                outputs,
                self.ensemble.postprocessing,
                voxel_volume_ml=self.grid.voxel_volume_ml,
            )
        return Label(voxels=voxels, grid=self.grid)

    def _temper(self, shares: np.ndarray) -> np.ndarray:
        return temper(shares, self.ensemble.temperature, overlap=self.ensemble.plan.outputs.overlap)
