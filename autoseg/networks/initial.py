"""Initial weights from a file: read without running code, loaded by name, and reported."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autoseg.core.errors import ModelError

Tensors = dict[str, Tensor]
_NESTS = ("state_dict", "model", "model_state_dict", "network_weights")  # keys under which checkpoints hold weights


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Report of the weights loaded into a network.

    Attributes:
        loaded, total: numbers in weights and biases.
        where: their source, for the log.
    """

    loaded: int
    total: int
    where: str

    def describe(self) -> str:
        """One clause for the log."""
        if self.loaded == self.total:
            return f"all {self.total} weights loaded from {self.where}"
        share = 100 * self.loaded / self.total
        loaded = f"{share:.1f} %" if share < 99.95 else "nearly all"
        return f"{loaded} of {self.total} weights loaded from {self.where}, the others are random"


def read_tensors(path: Path) -> Tensors:
    """The named tensors of a safetensors or torch file, opened without running code; a checkpoint's are taken out.

    Raises:
        ModelError: the file is missing, cannot be read so, or holds no tensors.
    """
    advice = "give a file of named tensors as network.options.weights: safetensors, or a torch state_dict"
    if not path.is_file():
        raise ModelError(f"the weights {path} do not exist; {advice}")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path, device="cpu")
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        # torch's own message advises to run the code.
        damaged = not isinstance(error, pickle.UnpicklingError)
        cause = str(error).splitlines()[0] if damaged and str(error) else "it is damaged or holds more than tensors"
        raise ModelError(f"the weights {path} cannot be opened without running code ({cause}); {advice}") from error
    nest = next((key for key in _NESTS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)), None)
    content = content if nest is None else content[nest]
    tensors = (
        {str(name): value for name, value in dict(content).items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ModelError(f"the weights {path} hold no named tensors; {advice}")
    return tensors


def adapt_input(kernel: Tensor, channels: int) -> Tensor:
    """Convert a first convolution to another number of channels: each gets the mean kernel, scaled to the same sum.

    Args:
        kernel: (out,in,*size) float.
        channels: input channels of the result.

    Source: Carreira & Zisserman 2017, arXiv:1705.07750, whose inflation keeps the response to a constant.
    """
    before = kernel.shape[1]
    if before == channels:
        return kernel
    mean = kernel.mean(1, keepdim=True) * (before / channels)
    return mean.expand(-1, channels, *kernel.shape[2:]).clone()


def cover(network: nn.Module, weights: Mapping[str, Tensor], *, optional: Sequence[str] = (), where: str) -> Coverage:
    """Load weights by name into a network, in place; all that is not optional must be there and fit.

    Args:
        network: fresh.
        weights: name -> tensor; others than its own are ignored.
        optional: beginnings of names that may keep their random values.
        where: the weights come from, for messages.

    Raises:
        ModelError: a tensor is missing, of another shape, or not finite.
    """
    current = network.state_dict()
    needed = [name for name in current if not name.startswith(tuple(optional)) and current[name].is_floating_point()]
    missing = [name for name in needed if name not in weights]
    if missing:
        raise ModelError(
            f"{where} lacks {len(missing)} of {len(needed)} tensors that the network needs ({missing[0]}); it has "
            f"{len(weights)} others ({min(weights)} ...), so these are the weights of another network"
        )
    for name in needed:
        if weights[name].shape != current[name].shape:
            raise ModelError(
                f"{where} has {name} of shape {tuple(weights[name].shape)}, but the network's is "
                f"{tuple(current[name].shape)}; these are the weights of another network"
            )
        if not bool(torch.isfinite(weights[name]).all()):
            raise ModelError(f"{where} has values in {name} that are NaN or infinite; get the file again")
    chosen = {name: weights[name] for name in current if name in needed or (name in weights and not current[name].ndim)}
    network.load_state_dict(chosen, strict=False)
    parameters = {name for name, _ in network.named_parameters()}
    total = sum(parameter.numel() for parameter in network.parameters())
    return Coverage(loaded=sum(current[n].numel() for n in needed if n in parameters), total=total, where=where)
