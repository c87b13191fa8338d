"""Foreign weights into a network of ours, by name, each tensor used once and none left over."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from autoseg.core.errors import ModelError
from autoseg.core.text import join_names

# nnU-Net's networks hold some modules under several names: the encoder again inside the decoder, and each layer of a
# block both alone and in the list that is called. Ours hold each once.
_TWINS = (
    ("decoder.encoder.", "encoder."),
    (".conv.", ".all_modules.0."),
    (".norm.", ".all_modules.1."),
)


def fit_weights(weights: Mapping[str, torch.Tensor], network: nn.Module, where: str) -> dict[str, torch.Tensor]:
    """The weights under the names of our network.

    Args:
        weights: parameter name -> tensor of any float type.
        network: planned for them.
        where: the file they came from, for messages.

    Returns:
        Parameter name -> tensor, float32, exactly those that the network has.

    Raises:
        ModelError: a tensor is missing, left over, of another shape, or not finite.
    """
    wanted = network.state_dict()
    left_over = sorted(set(weights) - set(wanted))
    foreign = [name for name in left_over if not _is_twin(name, weights)]
    missing = sorted(set(wanted) - set(weights))
    for problem, names in (("lacks", missing), ("has, beyond the network in its plans,", foreign)):
        if names:
            raise ModelError(
                f"{where} {problem} {len(names)} tensors ({join_names(names, limit=1)}), so its trainer "
                f"made another network than its plans say; it cannot be imported"
            )
    for name, tensor in wanted.items():
        found = weights[name]
        if found.shape != tensor.shape:
            raise ModelError(
                f"{where} has {name} of shape {tuple(found.shape)}, but its plans and labels make it "
                f"{tuple(tensor.shape)}; they do not belong together"
            )
        if not bool(torch.isfinite(found).all()):
            raise ModelError(f"{where} has values in {name} that are NaN or infinite; its training had failed")
    return {name: weights[name].to(torch.float32) for name in wanted}


def _is_twin(name: str, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether the tensor is only another name of one that the network has."""
    own = name
    for theirs, ours in _TWINS:
        own = own.replace(theirs, ours)
    return own != name and own in weights and torch.equal(weights[own], weights[name])
