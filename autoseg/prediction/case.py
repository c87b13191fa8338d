"""One case through a model, and back onto the scan's own grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from autoseg.core.masks import stack_inputs
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Image, Label, PreparedCase
from autoseg.model import Model
from autoseg.prediction.sliding import predict_logits
from autoseg.preprocessing import prepare_case, prepare_label, restore_logits


def predict_scan(model: Model, case_id: str, image: Image, device: torch.device) -> Label:
    """The mask of a scan; in a cascade its source's mask comes first, and is brought to the cascade's grid.

    Args:
        model: on ``device``.
        case_id: the case.
        image: (C,Z,Y,X) float32 on the scan's own grid, the channels of the model's plan.

    Returns:
        On the scan's own grid.
    """
    settings = model.configuration.preprocessing
    prior = None if model.source is None else predict_scan(model.source, case_id, image, device)
    case = prepare_case(case_id, image, None, settings)
    if prior is not None:
        case = replace(case, prior=prepare_label(prior, case.placement, settings))
    mask, _ = predict_case(model, case, device)
    return mask


def predict_case(
    model: Model, case: PreparedCase, device: torch.device, *, progress: Progress = no_progress
) -> tuple[Label, np.ndarray]:
    """The mask of a preprocessed case and the logits it came from.

    Args:
        model: on ``device``.
        case: preprocessed as the model's configuration says; with a prior when it is a cascade.

    Returns:
        The mask on the scan's own grid, and (K,Z,Y,X) float32 mean logits on the preprocessed grid.
    """
    configuration, outputs = model.configuration, model.plan.outputs
    logits = predict_logits(
        model.networks,
        stack_inputs(case.image, case.prior, model.mask_values),
        configuration.tiling,
        outputs=len(outputs.values),
        device=device,
        progress=progress,
    )
    mask = restore_logits(
        logits, case.placement, configuration.preprocessing, values=outputs.values, overlap=outputs.overlap
    )
    return mask, logits
