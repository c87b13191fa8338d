"""How a prediction is to be done, and what that makes of a model."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from autoseg.core.errors import UsageError
from autoseg.model import Model

log = logging.getLogger(__name__)


def adapt_model(model: Model, device: torch.device, *, step: float | None = None, mirror: bool | None = None) -> Model:
    """The model, and its source, with these tiles and mirror images.

    Args:
        model: as planned.
        device: that predicts.
        step: distance between tiles as a share of the tile; None as planned.
        mirror: average over mirror images; None as planned on a GPU, and on a CPU if the plan was made for one.

    Raises:
        UsageError: mirroring is asked for, but the network was trained without.
    """
    configuration = model.configuration
    tiling = configuration.tiling.model_copy(
        update={
            "mirror_axes": _choose_mirror_axes(model, mirror, device),
            "step": step or configuration.tiling.step,
        }
    )
    source = None if model.source is None else adapt_model(model.source, device, step=step, mirror=mirror)
    return replace(model, configuration=configuration.model_copy(update={"tiling": tiling}), source=source)


def _choose_mirror_axes(model: Model, mirror: bool | None, device: torch.device) -> tuple[int, ...]:
    planned, trained = model.configuration.tiling.mirror_axes, model.configuration.augmentation.mirror_axes
    if mirror is False:
        return ()
    if mirror:
        if not (planned or trained):
            raise UsageError(
                f"--mirror: {model.name} was trained without mirroring (augmentation.mirror_axes in its plan is "
                f"empty), so a mirrored scan means nothing to it; leave --mirror out"
            )
        return planned or trained
    if not planned or device.type != "cpu" or model.plan.preset == "pocket":
        return planned  # the preset for laptops mirrors only what a laptop can afford
    flips = 2 ** len(planned)
    log.info(
        "on a CPU tiles of %s are not mirrored: the mean of all %d mirror images, as planned, takes %d times as long "
        "for what is usually a small gain in accuracy; --mirror asks for it",
        model.name,
        flips,
        flips,
    )
    return ()
