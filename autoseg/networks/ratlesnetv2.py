"""RatLesNetv2: one width in all stages, pre-activated residual blocks with batch norm, linear upsampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from autoseg.core.errors import ModelError, PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks.initial import Coverage, adapt_input, cover, read_tensors
from autoseg.networks.layers import BATCH_NORMS, CONVOLUTIONS, LINEAR
from autoseg.networks.stages import initialise_convolutions, run_stage
from autoseg.networks.traits import CHECKPOINTING, TOPOLOGY, WEIGHTS, Architecture, NetworkTraits

_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def build_ratlesnetv2(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int
) -> nn.Module:
    """The RatLesNetv2 of a plan; published are four stages 32 wide, all axes halved.

    Source: Valverde et al. 2020, doi:10.3389/fnins.2020.610239.
    """
    network = RatLesNetv2(settings, dimensions, input_channels, output_channels)
    initialise_convolutions(network)
    return network


class RatLesNetv2(nn.Module):
    """Residual blocks and max-pooling down, bottlenecks, upsampling and concatenation up.

    Parameters are named as published: ``conv1``, ``block1`` ..., ``bottleneck1`` ...

    Args:
        settings: features (all equal), kernels, strides and checkpointing.
        dimensions: 2 or 3.
        input_channels, output_channels: of images and logits.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> None:
        super().__init__()
        if len(set(settings.features)) > 1:
            raise PlanError(
                f"network 'ratlesnetv2' has one width in all stages, but features are {list(settings.features)}; "
                f"write {settings.features[0]} for each"
            )
        width = settings.features[0]
        self.levels = len(settings.features) - 1  # stages with blocks; the coarsest has a bottleneck only
        self.mode = LINEAR[dimensions]
        self.conv1 = CONVOLUTIONS[dimensions](input_channels, width, 1)
        for level in range(self.levels):
            up = self.levels - 1 - level
            self.add_module(f"block{level + 1}", BatchNormBlock(dimensions, width, settings.kernels[level]))
            self.add_module(f"mp{level + 1}", _POOLS[dimensions](settings.strides[level + 1], ceil_mode=True))
            after_up = BatchNormBlock(dimensions, 2 * width, settings.kernels[up])
            self.add_module(f"block{self.levels + level + 1}", after_up)
            narrow = Bottleneck(dimensions, width if level == 0 else 2 * width, width)
            self.add_module(f"bottleneck{level + 1}", narrow)
        self.add_module(f"bottleneck{self.levels + 1}", Bottleneck(dimensions, 2 * width, output_channels))
        self.deep_supervision = False
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> [logits (B,K,*spatial)]."""
        x = self.conv1(x)
        skips = []
        for level in range(1, self.levels + 1):
            x = self._run(f"block{level}", x)
            skips.append(x)
            x = self.get_submodule(f"mp{level}")(x)
        for level in range(1, self.levels + 1):
            skip = skips.pop()
            x = self._run(f"bottleneck{level}", x)
            x = functional.interpolate(x, skip.shape[2:], mode=self.mode)
            x = self._run(f"block{self.levels + level}", torch.cat((x, skip), 1))
        return [self._run(f"bottleneck{self.levels + 1}", x)]

    def _run(self, name: str, x: torch.Tensor) -> torch.Tensor:
        stage = self.get_submodule(name)
        return run_stage(stage, x, checkpointing=self.checkpointing, within=stage)


class BatchNormBlock(nn.Module):
    """x + two times (ReLU, batch norm, convolution).

    Args:
        dimensions: 2 or 3.
        features: channels in and out.
        kernel: size per axis.
    """

    def __init__(self, dimensions: int, features: int, kernel: Sequence[int]) -> None:
        super().__init__()
        steps = [_step(dimensions, features, features, kernel) for _ in range(2)]
        self.seq = nn.Sequential(*steps[0], *steps[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,F,*spatial) float -> the same shape."""
        return x + self.seq(x)


class Bottleneck(nn.Module):
    """ReLU, batch norm and a convolution of single voxels.

    Args:
        dimensions: 2 or 3.
        before, after: channels in and out.
    """

    def __init__(self, dimensions: int, before: int, after: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(*_step(dimensions, before, after, (1,) * dimensions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,before,*spatial) float -> (B,after,*spatial)."""
        return self.seq(x)


def load_published(network: nn.Module, settings: NetworkSettings) -> Coverage:
    """Put published weights into a fresh network, in place; another number of channels or classes is adapted.

    Args:
        network: built from the settings.
        settings: their option ``weights`` is a file of the authors' ``trained_models``.

    Raises:
        ModelError: the file cannot be read, or holds another network.
    """
    path = Path(settings.options[WEIGHTS])
    if path.suffix == ".safetensors":
        raise ModelError(
            f"{path}: published weights of RatLesNetv2 are torch files, whose axes are turned when they are read; "
            f"give one of github.com/jmlipman/RatLesNetv2, trained_models/"
        )
    weights = turn_published(read_tensors(path))
    current = network.state_dict()
    if "conv1.weight" in weights:
        weights["conv1.weight"] = adapt_input(weights["conv1.weight"], current["conv1.weight"].shape[1])
    last = max(name for name in current if name.startswith("bottleneck")).split(".")[0]
    outputs = current[f"{last}.seq.2.bias"].shape
    optional = [] if weights.get(f"{last}.seq.2.bias", torch.empty(0)).shape == outputs else [f"{last}.seq.2."]
    return cover(network, weights, optional=optional, where=str(path))


def turn_published(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published weights for our axis order.

    Their network sees volumes as (slices, first, second stored axis); ours sees (slices, second, first), as files are
    read as (Z,Y,X). So the last two axes of every kernel change places.

    Args:
        weights: parameter name -> tensor, convolution kernels (out,in,kz,kx,ky).
    """
    turned = ((name, tensor.transpose(3, 4) if tensor.ndim == 5 else tensor) for name, tensor in weights.items())
    return {name: tensor.contiguous() for name, tensor in turned}


def _step(dimensions: int, before: int, after: int, kernel: Sequence[int]) -> list[nn.Module]:
    # Not in place: a block's input is also its residual.
    padding = tuple(n // 2 for n in kernel)
    convolution = CONVOLUTIONS[dimensions](before, after, tuple(kernel), padding=padding)
    return [nn.ReLU(), BATCH_NORMS[dimensions](before), convolution]


def _one_width(features: tuple[int, ...]) -> tuple[int, ...]:
    """The finest stage's width in every stage; 32 as published."""
    return features[:1] * len(features)


def _name_encoder(settings: NetworkSettings) -> tuple[str, ...]:
    """Name beginnings of the encoder: blocks up to the coarsest stage, and its bottleneck."""
    return ("conv1.", "bottleneck1.", *(f"block{level}." for level in range(1, len(settings.features))))


RATLESNETV2 = Architecture(
    build=build_ratlesnetv2,
    traits=NetworkTraits(
        follows=TOPOLOGY - {"encoder_blocks", "decoder_blocks"},
        supports_deep_supervision=False,
        normalises_batch=True,
        usual_features=_one_width,
        encoder=_name_encoder,
        options=(WEIGHTS,),
    ),
    begin=load_published,
)
