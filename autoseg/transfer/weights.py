"""Map the weights of an nnU-Net checkpoint to a network of autoseg by name: each tensor used once, none left over."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from autoseg.core.errors import ModelError
from autoseg.core.text import join_names

# nnU-Net's networks hold some modules under several names: the encoder also inside the decoder, and each layer of a
# block both alone and in the list that is called. Networks here hold each once.
_ALIASES = (
    ("decoder.encoder.", "encoder."),
    (".conv.", ".all_modules.0."),
    (".norm.", ".all_modules.1."),
)


def fit_weights(weights: Mapping[str, torch.Tensor], network: nn.Module, where: str) -> dict[str, torch.Tensor]:
    """The weights under the names of autoseg's network.

    Args:
        weights: parameter name -> tensor of any float type.
        network: planned for them.
        where: the file they came from, for messages.

    Returns:
        Parameter name -> tensor, float32, exactly those that the network has.

    Raises:
        ModelError: a tensor is missing, left over, of another shape, or not finite.
    """
    current = network.state_dict()
    left_over = sorted(set(weights) - set(current))
    foreign = [name for name in left_over if not _is_alias(name, weights)]
    missing = sorted(set(current) - set(weights))
    for problem, names in (("lacks", missing), ("has, beyond the network in its plans,", foreign)):
        if names:
            raise ModelError(
                f"{where} {problem} {len(names)} tensors ({join_names(names, limit=1)}), so its trainer "
                f"changed the network of its plans; it cannot be imported"
            )
    for name, tensor in current.items():
        values = weights[name]
        if values.shape != tensor.shape:
            raise ModelError(
                f"{where} has {name} of shape {tuple(values.shape)}, but its plans and labels make it "
                f"{tuple(tensor.shape)}; copy the whole model again"
            )
        if not bool(torch.isfinite(values).all()):
            raise ModelError(f"{where} has values in {name} that are NaN or infinite; use another model")
    return {name: weights[name].to(torch.float32) for name in current}


def _is_alias(name: str, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether the tensor is another name of one that the network has."""
    canonical = name
    for theirs, ours in _ALIASES:
        canonical = canonical.replace(theirs, ours)
    return canonical != name and canonical in weights and torch.equal(weights[canonical], weights[name])
