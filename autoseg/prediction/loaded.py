"""A model in memory: arrays in, masks out, nothing on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autoseg.core.devices import choose_device
from autoseg.core.errors import DataError
from autoseg.core.records import Grid, Image, Label, Plan
from autoseg.model import Model
from autoseg.prediction.adapting import adapt_ensemble
from autoseg.prediction.case import add_prior, case_rows, mask_restorer, prepare_scan
from autoseg.prediction.ensembles import Ensemble, EnsembleAverager, load_ensemble

SCAN = "scan"  # name of the array in messages


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model, or the best of an experiment, with its networks on a device.

    Attributes:
        ensemble: its networks and post-processing.
        device: of the networks.
    """

    ensemble: Ensemble
    device: torch.device

    @property
    def plan(self) -> Plan:
        """Channels, labels and configurations."""
        return self.ensemble.plan

    def predict(
        self, image: np.ndarray, *, spacing: Sequence[float], direction: Sequence[Sequence[float]] | None = None
    ) -> np.ndarray:
        """The mask that ``autoseg_predict`` writes for the same voxels in a file, post-processing included.

        Args:
            image: (C,Z,Y,X) numbers, scanner units, the channels of the plan in its order; (Z,Y,X) for one channel.
            spacing: (z,y,x) mm.
            direction: 3x3, one row per world axis (x,y,z; LPS), one column per array axis (z,y,x), as in ``Grid``.
                None: z runs to the head, y to the back, x to the patient's left, as SimpleITK gives the array of an
                unrotated scan.

        Returns:
            (Z,Y,X) integer, one value per label; 0 is background.

        Raises:
            DataError: the array does not fit the model's channels, or a file with these voxels would be refused.
            MemoryShortageError: as ``case_rows``.
        """
        scan = self._as_scan(image, spacing, direction)
        return predict_scan(self.ensemble, SCAN, scan, self.device).voxels

    def predict_probabilities(
        self, image: np.ndarray, *, spacing: Sequence[float], direction: Sequence[Sequence[float]] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As ``predict``, and beside the mask the class probabilities: (K,Z,Y,X) float16, named by ``plan.outputs``."""
        scan = self._as_scan(image, spacing, direction)
        mask, probabilities = _average(self.ensemble, SCAN, scan, self.device, keep_probabilities=True).finish()
        assert probabilities is not None  # kept
        return mask.voxels, probabilities

    def _as_scan(
        self, image: np.ndarray, spacing: Sequence[float], direction: Sequence[Sequence[float]] | None
    ) -> Image:
        """The array as a scan, after the checks that a file goes through.

        Raises:
            DataError: it does not fit.
        """
        voxels = np.asarray(image)
        if voxels.ndim == 3:
            voxels = voxels[None]
        channels = self.plan.channels
        if voxels.ndim != 4 or len(voxels) != len(channels) or voxels.dtype.kind not in "fiub":
            raise DataError(
                f"the array has the shape {np.shape(image)} ({voxels.dtype}), but {self.ensemble.name} takes numbers "
                f"(C,Z,Y,X) with {len(channels)} channels ({', '.join(channels)})"
            )
        voxels = np.ascontiguousarray(voxels, np.float32)
        if not np.isfinite(voxels).all():
            raise DataError("the array holds NaN or infinity; replace such voxels first")
        for name, channel in zip(channels, voxels, strict=True):
            if channel.min() == channel.max():
                raise DataError(f"all voxels of channel {name} are equal ({channel.flat[0]:g}); pass the scan's voxels")
        if len(spacing) != 3 or not all(0 < size < float("inf") for size in spacing):
            raise DataError(f"invalid spacing {tuple(spacing)}; give three positive numbers (z,y,x) in mm")
        if direction is not None and np.shape(direction) != (3, 3):
            raise DataError(f"invalid direction of shape {np.shape(direction)}; give 3x3 numbers")
        geometry = {} if direction is None else {"direction": np.asarray(direction, float).tolist()}
        grid = {"shape": voxels.shape[1:], "spacing": tuple(map(float, spacing)), **geometry}
        return Image(voxels=voxels, grid=Grid.model_validate(grid))


def predict_scan(ensemble: Ensemble | Model, case_id: str, image: Image, device: torch.device) -> Label:
    """The post-processed mask of a scan on its own grid; ``predict_cases`` gives the same for many, overlapped.

    Args:
        ensemble: on ``device``.
        case_id: for messages.
        image: (C,Z,Y,X) float32, scanner units, the channels of the model's plan.

    Raises:
        MemoryShortageError: as ``case_rows``.
    """
    ensemble = ensemble if isinstance(ensemble, Ensemble) else Ensemble.of(ensemble)
    mask, _ = _average(ensemble, case_id, image, device, keep_probabilities=False).finish()
    return mask


def _average(
    ensemble: Ensemble, case_id: str, image: Image, device: torch.device, *, keep_probabilities: bool
) -> EnsembleAverager:
    averager = EnsembleAverager(ensemble, image.grid, keep_probabilities=keep_probabilities)
    for member in ensemble.members:
        case = add_prior(member, prepare_scan(member, case_id, image), device)
        restorer = mask_restorer(member, case.placement, probabilities=averager.needs_probabilities)
        for rows in case_rows(member, case, device):
            restorer.add(rows)
        averager.add(restorer)
    return averager


def open_model(
    folder: Path,
    folds: Sequence[str] | None,
    device: str,
    *,
    step: float | None = None,
    mirror: bool | None = None,
    postprocessing: bool = True,
) -> LoadedModel:
    """Load a model folder, or that of the best of an experiment.

    Args:
        folder: below ``autoseg_results``, or a copy of it.
        folds: of every member; None for all that are trained.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        step, mirror: as for ``adapt_ensemble``.
        postprocessing: as for ``load_ensemble``.

    Raises:
        ModelError: the folder holds no finished model.
        UsageError: torch does not see the device; mirroring is requested, but the model was trained without.
    """
    target = choose_device(device)
    ensemble = load_ensemble(folder, folds, target, postprocessing=postprocessing)
    return LoadedModel(ensemble=adapt_ensemble(ensemble, target, step=step, mirror=mirror), device=target)
