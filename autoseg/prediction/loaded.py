"""A model in memory: arrays in, masks out, nothing on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from autoseg.core.devices import choose_device
from autoseg.core.errors import DataError
from autoseg.core.records import Grid, Image, Plan
from autoseg.prediction.adapting import adapt_model
from autoseg.prediction.case import add_prior, case_rows, mask_restorer, prepare_scan
from autoseg.prediction.ensembles import Ensemble, EnsembleAverager, load_ensemble

SCAN = "scan"  # name of the array in messages


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model, or the best of an experiment, with its networks on a device.

    Attributes:
        ensemble: networks, and what is done to their mask.
        device: where they are computed.
    """

    ensemble: Ensemble
    device: torch.device

    @property
    def plan(self) -> Plan:
        """Channels, labels and configurations."""
        return self.ensemble.plan

    def predict(self, image: np.ndarray, *, spacing: Sequence[float]) -> np.ndarray:
        """The mask of a scan, on the scan's own grid.

        Args:
            image: (C,Z,Y,X), scanner units, the channels of the plan in its order; (Z,Y,X) for one channel. The axes
                run towards superior, posterior and left, as SimpleITK gives the arrays of an unrotated scan.
            spacing: (z,y,x) mm.

        Returns:
            (Z,Y,X) integer, one value per label; 0 is background.

        Raises:
            DataError: the array does not fit the model's channels, or holds NaN or infinity.
        """
        return self._predict(image, spacing, keep=False)[0]

    def predict_probabilities(self, image: np.ndarray, *, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """As ``predict``, and beside the mask the class probabilities: (K,Z,Y,X) float16, named by ``plan.outputs``."""
        mask, probabilities = self._predict(image, spacing, keep=True)
        assert probabilities is not None  # kept
        return mask, probabilities

    def _predict(
        self, image: np.ndarray, spacing: Sequence[float], *, keep: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        scan = self._check(image, spacing)
        averager = EnsembleAverager(self.ensemble, scan.grid, keep=keep)
        with torch.inference_mode():
            for member in self.ensemble.members:
                case = add_prior(member, prepare_scan(member, SCAN, scan), self.device)
                probabilities = keep or self.ensemble.needs_probabilities
                restorer = mask_restorer(member, case.placement, probabilities=probabilities)
                for rows in case_rows(member, case, self.device):
                    restorer.add(rows)
                averager.add(restorer)
        mask, mean = averager.finish()
        return mask.voxels, mean

    def _check(self, image: np.ndarray, spacing: Sequence[float]) -> Image:
        """The scan as the model takes it.

        Raises:
            DataError: it does not fit.
        """
        voxels = np.asarray(image, np.float32)
        if voxels.ndim == 3:
            voxels = voxels[None]
        channels = self.plan.channels
        if voxels.ndim != 4 or len(voxels) != len(channels):
            raise DataError(
                f"the array has the shape {np.shape(image)}, but {self.ensemble.name} takes (C,Z,Y,X) with "
                f"{len(channels)} channels ({', '.join(channels)})"
            )
        if not np.isfinite(voxels).all():
            raise DataError("the array holds NaN or infinity; replace such voxels first")
        if len(spacing) != 3 or not all(0 < size < float("inf") for size in spacing):
            raise DataError(f"invalid spacing {tuple(spacing)}; give three positive numbers (z,y,x) in mm")
        z, y, x = map(float, spacing)
        return Image(voxels=voxels, grid=Grid(shape=voxels.shape[1:], spacing=(z, y, x)))


def open_model(
    folder: Path,
    folds: Sequence[str] | None,
    device: str,
    *,
    step: float | None = None,
    mirror: bool | None = None,
) -> LoadedModel:
    """Load a model folder, or that of the best of an experiment.

    Args:
        folder: below ``autoseg_results``, or a copy of it.
        folds: of every member; None for all that are trained.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        step, mirror: as for ``adapt_model``.

    Raises:
        ModelError: the folder holds no finished model.
        UsageError: torch does not see the device; mirroring is asked for, but the model was trained without.
    """
    target = choose_device(device)
    ensemble = load_ensemble(folder, folds, target)
    members = (adapt_model(member, target, step=step, mirror=mirror) for member in ensemble.members)
    return LoadedModel(ensemble=replace(ensemble, members=tuple(members)), device=target)
