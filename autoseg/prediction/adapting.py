"""Tiles and mirror images of a prediction: as planned, or as requested."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from autoseg.core.errors import UsageError
from autoseg.model import Model
from autoseg.planning.presets import find_preset
from autoseg.prediction.ensembles import Ensemble

log = logging.getLogger(__name__)


def adapt_ensemble(
    ensemble: Ensemble, device: torch.device, *, step: float | None = None, mirror: bool | None = None
) -> Ensemble:
    """The ensemble with the requested tiles and mirror images.

    Args:
        ensemble: as it was trained.
        device: where it will predict.
        step: distance between tiles as a fraction of the tile; None as planned.
        mirror: average over mirror images; None as planned on a GPU, and on a CPU if the plan was made for one.

    Raises:
        UsageError: mirroring is requested, but a network was trained without.
    """
    members = tuple(adapt_model(member, device, step=step, mirror=mirror) for member in ensemble.members)
    return replace(ensemble, members=members)


def adapt_model(model: Model, device: torch.device, *, step: float | None = None, mirror: bool | None = None) -> Model:
    """``adapt_ensemble`` for one model and the source of its cascade."""
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
                f"empty); omit --mirror"
            )
        return planned or trained
    if not planned or device.type != "cpu" or not find_preset(model.plan.preset).for_gpu:
        return planned  # a preset for a CPU mirrors only what a CPU can afford
    flips = 2 ** len(planned)
    log.info(
        "no mirroring of %s on a CPU: the planned mean of %d mirror images takes %d times as long, usually for a small "
        "gain; use --mirror to get it",
        model.name,
        flips,
        flips,
    )
    return ()
