"""A scan that is in memory: array in, mask out, nothing on disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import ValidationError

from autoseg.core.errors import DataError
from autoseg.core.records import Grid, Image, Label
from autoseg.model import Model
from autoseg.prediction.case import add_prior, case_rows, mask_restorer, prepare_scan
from autoseg.prediction.ensembles import Ensemble, EnsembleAverager


def predict_array(
    ensemble: Ensemble | Model,
    image: np.ndarray,
    spacing: Sequence[float],
    *,
    device: torch.device,
    direction: Sequence[Sequence[float]] | None = None,
) -> np.ndarray:
    """Mask of a scan that is in memory: the mask that ``autoseg_predict`` writes for the same voxels in a file.

    Args:
        ensemble: on ``device``; ``adapt_ensemble`` chooses its tiles and mirror images as the command does.
        image: (C,Z,Y,X) float or integer, scanner units, the channels of the model's plan.
        spacing: mm along (z,y,x).
        device: where the networks are.
        direction: 3x3, one row per world axis (x,y,z; LPS), one column per array axis (z,y,x), as in ``Grid``. None:
            z runs to the head, y to the back, x to the patient's left.

    Returns:
        (Z,Y,X) integer, one label value per voxel: uint8 where all values fit, else int16.

    Raises:
        DataError: another number of axes or channels, a voxel that is not finite, a channel of one value, or a
            geometry that is none.
        MemoryShortageError: as ``case_rows``.
    """
    scan = as_scan(image, spacing, ensemble.plan.channels, direction)
    return predict_scan(ensemble, "array", scan, device).voxels


def as_scan(
    image: np.ndarray,
    spacing: Sequence[float],
    channels: Sequence[str],
    direction: Sequence[Sequence[float]] | None = None,
) -> Image:
    """An array as a scan, after the checks that a file goes through.

    Args:
        image: (C,Z,Y,X) float or integer, scanner units.
        spacing: mm along (z,y,x).
        channels: names of the expected channels.
        direction: as for ``predict_array``.

    Raises:
        DataError: as ``predict_array``.
    """
    voxels = np.asarray(image)
    if voxels.ndim != 4 or len(voxels) != len(channels) or voxels.dtype.kind not in "fiub":
        raise DataError(
            f"expected an array (C,Z,Y,X) of numbers with {len(channels)} channels ({', '.join(channels)}), got "
            f"{voxels.dtype} of shape {voxels.shape}"
        )
    voxels = np.ascontiguousarray(voxels, np.float32)
    if not np.isfinite(voxels).all():
        raise DataError("the image has voxels that are NaN or infinite; replace them (0 outside the head)")
    for name, channel in zip(channels, voxels, strict=True):
        if channel.min() == channel.max():
            raise DataError(f"all voxels of channel {name} are equal ({channel.flat[0]:g}); pass the scan's own voxels")
    geometry = {} if direction is None else {"direction": np.asarray(direction, float).tolist()}
    try:
        grid = Grid.model_validate({"shape": voxels.shape[1:], "spacing": tuple(map(float, spacing)), **geometry})
    except ValidationError as error:
        raise DataError(
            f"spacing {tuple(spacing)} with direction {direction} is not a geometry; pass mm along (z,y,x), all "
            f"positive, and a 3x3 direction"
        ) from error
    return Image(voxels=voxels, grid=grid)


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
    averager = EnsembleAverager(ensemble, image.grid, keep_probabilities=False)
    for member in ensemble.members:
        case = add_prior(member, prepare_scan(member, case_id, image), device)
        restorer = mask_restorer(member, case.placement, probabilities=averager.needs_probabilities)
        for rows in case_rows(member, case, device):
            restorer.add(rows)
        averager.add(restorer)
    mask, _ = averager.finish()
    return mask
