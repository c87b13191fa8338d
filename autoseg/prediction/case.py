"""One case through one model: preprocess, predict, restore on the scan's own grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from autoseg.core.devices import choose_precision, missing_operation_as_error
from autoseg.core.errors import MemoryShortageError, is_memory_shortage
from autoseg.core.masks import stack_inputs
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Image, Label, Outputs, Placement, PreparedCase
from autoseg.model import Model
from autoseg.prediction.memory import MAX_FREE_SHARE, free_bytes
from autoseg.prediction.sliding import predict_rows
from autoseg.preprocessing import LogitRestorer, prepare_case, prepare_label

log = logging.getLogger(__name__)

FULL_SHARE = 0.9  # of non-zero voxels: air has noise, so nothing was set to zero around the brain
CERTAIN = 10.0  # logit of background outside the head, and minus that of all others: e^20 times as likely


def prepare_scan(model: Model, case_id: str, image: Image) -> tuple[PreparedCase, ...]:
    """Preprocess a scan for the model, and after that for each source of its cascade, the nearest first.

    Args:
        model: its configuration says how.
        case_id: for messages.
        image: (C,Z,Y,X) float32, scanner units.
    """
    case = prepare_case(case_id, image, None, model.configuration.preprocessing)
    return (case,) if model.source is None else (case, *prepare_scan(model.source, case_id, image))


def warn_of_skull(model: Model, case_id: str, image: Image) -> None:
    """Warn of a scan with air and skull where the model was trained on brains alone, with zero around them.

    Args:
        model: its channels are normalised inside the non-zero region where the skull was stripped.
        image: (C,Z,Y,X) float32, scanner units.
    """
    settings = model.configuration.preprocessing
    if settings.region == "head" or not any(channel.inside_mask for channel in settings.channels):
        return
    share = float((image.voxels != 0).any(axis=0).mean())
    if share > FULL_SHARE:
        log.warning(
            "case %s: %.0f %% of its voxels are not zero, but %s was trained on scans whose skull was removed, so the "
            "mask is unreliable; remove the skull first (docs/datasets.md)",
            case_id,
            100 * share,
            model.name,
        )


def add_prior(model: Model, prepared: tuple[PreparedCase, ...], device: torch.device) -> PreparedCase:
    """The first case of ``prepare_scan``, in a cascade with the mask that the source predicts.

    Raises:
        MemoryShortageError: as ``case_rows``.
    """
    case, *source_cases = prepared
    if model.source is None:
        return case
    mask = predict_mask(model.source, add_prior(model.source, tuple(source_cases), device), device)
    return replace(case, prior=prepare_label(mask, case.placement, model.configuration.preprocessing))


def predict_mask(model: Model, case: PreparedCase, device: torch.device, *, progress: Progress = no_progress) -> Label:
    """Mask of a preprocessed case on the scan's own grid.

    Args:
        model: on ``device``.
        case: preprocessed for the model; in a cascade with the prior.

    Raises:
        MemoryShortageError: as ``case_rows``.
    """
    restorer = mask_restorer(model, case.placement)
    for rows in case_rows(model, case, device, progress=progress):
        restorer.add(rows)
    return restorer.finish()


def predict_probabilities(model: Model, case: PreparedCase, device: torch.device) -> tuple[Label, np.ndarray]:
    """Mask as ``predict_mask``, and probabilities (K,Z,Y,X) float16, both on the scan's own grid.

    Raises:
        MemoryShortageError: as ``case_rows`` and ``mask_restorer``.
    """
    restorer = mask_restorer(model, case.placement, probabilities=True)
    for rows in case_rows(model, case, device):
        restorer.add(rows)
    mask = restorer.finish()
    assert restorer.probabilities is not None  # requested above
    return mask, restorer.probabilities


def case_rows(
    model: Model, case: PreparedCase, device: torch.device, *, progress: Progress = no_progress
) -> Iterator[np.ndarray]:
    """Mean logits of a preprocessed case, row by row as soon as they are final.

    Args:
        model, case: as for ``predict_mask``.

    Yields:
        (K,n,Y,X) float32, the next n rows of the first axis of the preprocessed grid.

    Raises:
        MemoryShortageError: too little free memory; the message names a remedy.
        UsageError: torch lacks an operation on the device.
    """
    tiling, outputs, gpu = model.configuration.tiling, model.plan.outputs, device.type == "cuda"
    inputs = stack_inputs(case.image, case.prior, model.mask_values, context_slices=model.configuration.context_slices)
    try:
        with missing_operation_as_error(device):
            yield from predict_rows(
                model.networks,
                inputs,
                tiling,
                outputs=len(outputs.values),
                device=device,
                # A CPU would be hundreds of times slower in the half precision of a training on a GPU.
                precision=choose_precision(model.configuration.training, device) if gpu else torch.float32,
                background=background_logits(outputs),
                progress=progress,
            )
    except RuntimeError as error:
        if not is_memory_shortage(error):
            raise
        tile = "x".join(map(str, tiling.tile_size))
        advice = "close other programs on it (see nvidia-smi), use --device cpu" if gpu else "close other programs"
        raise MemoryShortageError(
            f"case {case.id}: {device} has too little free memory for a tile of {tile} voxels with {model.name}; "
            f"{advice}, or use a configuration with smaller patches"
        ) from error


def mask_restorer(model: Model, placement: Placement, *, probabilities: bool = False) -> LogitRestorer:
    """Restorer of a case's mask from its logits; with ``probabilities`` it keeps those as float16, too.

    Raises:
        MemoryShortageError: the probabilities do not fit into the machine's memory.
    """
    outputs, half = model.plan.outputs, np.dtype(np.float16)
    needed = len(outputs.values) * math.prod(placement.grid.shape) * half.itemsize if probabilities else 0
    free = free_bytes(torch.device("cpu"))
    if needed > MAX_FREE_SHARE * free:
        raise MemoryShortageError(
            f"probabilities of {len(outputs.values)} classes or regions on the scan's grid need {needed / 1e9:.1f} GB "
            f"of memory, but {free / 1e9:.1f} GB are free; close other programs, or omit --probabilities and use "
            f"--no-postprocessing"
        )
    return LogitRestorer(
        placement,
        model.configuration.preprocessing,
        values=outputs.values,
        overlap=outputs.overlap,
        probabilities=half if probabilities else None,
    )


def background_logits(outputs: Outputs) -> tuple[float, ...]:
    """Logits of a voxel outside the head: certainly background."""
    return tuple(CERTAIN if value == 0 and not outputs.overlap else -CERTAIN for value in outputs.values)
