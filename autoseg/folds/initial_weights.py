"""Initial weights of a fresh network: of a pre-trained encoder, or of another model."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import nn

from autoseg.core.errors import ModelError
from autoseg.core.records import Plan
from autoseg.core.store import sha256
from autoseg.model import read_weights
from autoseg.networks import load_initial_weights
from autoseg.planning.recipes import describe_stand_in

log = logging.getLogger(__name__)


def load_initial_weights_into(network: nn.Module, plan: Plan, configuration_name: str, folder: Path) -> None:
    """Load the planned initial weights into a fresh network, in place, if the configuration has any.

    First those of the network's option ``weights``, then those of ``transfer``. Tensors that the files lack keep their
    random values.

    Args:
        network: initialised from the plan's seed.
        plan: with the configuration.
        configuration_name: in the plan.
        folder: of the files of initial weights.

    Raises:
        ModelError: the file is missing, is not the planned one, or does not fit the network.
    """
    name = configuration_name
    try:
        loaded = load_initial_weights(network, plan.configurations[name].network)
    except ModelError as error:
        if name not in plan.recipes:
            raise
        raise ModelError(f"{error}, or {describe_stand_in(plan, name)}") from error
    if loaded is not None:
        log.info("%s: %s", name, loaded)
    settings = plan.configurations[name].transfer
    if settings is None or settings.weights is None:
        return
    path = folder / settings.weights
    advice = f"make it again with: autoseg_plan -d {plan.dataset} --pretrained {settings.source}"
    if not path.exists():
        raise ModelError(f"{name} starts from the weights of {settings.source}, but {path} is missing; {advice}")
    if sha256(path) != settings.digest:
        raise ModelError(f"{path} is not the file that '{name}' was planned to start from; {advice}")
    weights, current = read_weights(path), network.state_dict()
    for tensor, values in weights.items():
        if tensor not in current or current[tensor].shape != values.shape:
            raise ModelError(
                f"{path} holds {tensor} of shape {tuple(values.shape)}, which the network of '{name}' lacks; "
                f"the plan was edited since: {advice}"
            )
    network.load_state_dict(weights, strict=False)
    sizes = {tensor: weight.numel() for tensor, weight in network.named_parameters()}
    share = sum(sizes[tensor] for tensor in weights if tensor in sizes) / sum(sizes.values())
    if share < settings.least_share:
        raise ModelError(
            f"'{name}' begins with {share:.1%} of its parameters from {settings.source}, and its plan asks for "
            f"{settings.least_share:.0%} at least; lower transfer.least_share, or start from another model"
        )
    log.info("%s starts from the weights of %s (%.1f %% of its parameters)", name, settings.source, 100 * share)
