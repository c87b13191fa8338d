"""One preprocessed case through a model, and back onto the scan's own grid."""

from __future__ import annotations

import numpy as np
import torch

from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Label, PreparedCase
from autoseg.model import Model
from autoseg.prediction.sliding import predict_logits
from autoseg.preprocessing import restore_logits


def predict_case(
    model: Model, case: PreparedCase, device: torch.device, *, progress: Progress = no_progress
) -> tuple[Label, np.ndarray]:
    """The mask of a case and the logits it came from.

    Args:
        model: on ``device``.
        case: preprocessed as the model's configuration says.

    Returns:
        The mask on the scan's own grid, and (K,Z,Y,X) float32 mean logits on the preprocessed grid.
    """
    configuration, outputs = model.configuration, model.plan.outputs
    logits = predict_logits(
        model.networks,
        case.image,
        configuration.tiling,
        outputs=len(outputs.values),
        device=device,
        progress=progress,
    )
    mask = restore_logits(
        logits, case.placement, configuration.preprocessing, values=outputs.values, overlap=outputs.overlap
    )
    return mask, logits
