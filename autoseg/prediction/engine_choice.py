"""The first scan tells how networks are computed fastest on this CPU."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from autoseg.core.masks import stack_inputs
from autoseg.core.records import PreparedCase
from autoseg.model import Model
from autoseg.prediction.engines import Engine, choose_engine
from autoseg.prediction.sliding import count_calls, middle_tile

log = logging.getLogger(__name__)


def tune_model(
    model: Model, prepared: tuple[PreparedCase, ...], engine: Engine, device: torch.device, *, cases: int
) -> Model:
    """The model, and its source, computed in the fastest way; on a GPU as it is.

    Args:
        prepared: of a scan, as ``prepare_scan`` gives it.
        engine: what was asked for.
        cases: that are still to be predicted.
    """
    if device.type != "cpu":
        return model
    own, *others = prepared
    source = model.source and tune_model(model.source, tuple(others), engine, device, cases=cases)
    tiling = model.configuration.tiling
    # Of a cascade's mask nothing is known yet; that there is none will do for a trial.
    prior = np.zeros(own.image.shape[1:], np.uint8)
    tile = middle_tile(stack_inputs(own.image, prior, model.mask_values), tiling)
    calls = cases * count_calls(own.image.shape[1:], tiling, networks=len(model.networks))
    choice = choose_engine(model.networks, torch.from_numpy(tile)[None], engine=engine, calls=calls)
    log.info("%s is computed by %s", model.name, choice.reason)
    return replace(model, networks=choice.networks, source=source)
