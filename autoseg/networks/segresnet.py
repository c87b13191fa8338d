"""SegResNet: pre-activated residual blocks with group norm, linear upsampling, skips added and not concatenated."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from autoseg.core.records import NetworkSettings
from autoseg.networks.layers import CONVOLUTIONS, LINEAR
from autoseg.networks.stages import initialise_convolutions, run_stage
from autoseg.networks.traits import CHECKPOINTING, Architecture, NetworkTraits, encoder_named

GROUPS = 8


def build_segresnet(settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> nn.Module:
    """The SegResNet of a plan, without the variational branch.

    Source: Myronenko 2018, arXiv 1810.11654.
    """
    network = SegResNet(settings, dimensions, input_channels, output_channels)
    initialise_convolutions(network)
    return network


class SegResNet(nn.Module):
    """An encoder and a decoder of residual blocks.

    Parameters are named as in MONAI's network of that name, so that its published weights load; the heads of the
    coarser stages are ours.

    Args:
        settings: topology, deep supervision and checkpointing.
        dimensions: 2 or 3.
        input_channels, output_channels: of images and logits.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> None:
        super().__init__()
        features, kernels, strides = settings.features, settings.kernels, settings.strides
        ups = range(len(features) - 2, -1, -1)  # coarsest first
        self.convInit = _convolution(dimensions, input_channels, features[0], kernels[0])
        self.down_layers = nn.ModuleList(
            nn.Sequential(
                _convolution(dimensions, features[i - 1], features[i], kernels[i], strides[i]) if i else nn.Identity(),
                *(GroupNormBlock(dimensions, features[i], kernels[i]) for _ in range(settings.encoder_blocks[i])),
            )
            for i in range(len(features))
        )
        self.up_samples = nn.ModuleList(
            nn.Sequential(
                _convolution(dimensions, features[i + 1], features[i], (1,) * dimensions),
                nn.Upsample(scale_factor=tuple(map(float, strides[i + 1])), mode=LINEAR[dimensions]),
            )
            for i in ups
        )
        self.up_layers = nn.ModuleList(
            nn.Sequential(
                *(GroupNormBlock(dimensions, features[i], kernels[i]) for _ in range(settings.decoder_blocks[i]))
            )
            for i in ups
        )
        self.heads = nn.ModuleList(_head(dimensions, features[i], output_channels) for i in ups if i)
        self.conv_final = _head(dimensions, features[0], output_channels)
        self.deep_supervision = settings.deep_supervision
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> logits (B,K,*spatial of each output), finest first."""
        x = self.convInit(x)
        skips = []
        for stage in self.down_layers:
            x = run_stage(stage, x, checkpointing=self.checkpointing)
            skips.append(x)
        x = skips.pop()
        logits: list[torch.Tensor] = []
        for index, head in enumerate((*self.heads, self.conv_final)):
            x = run_stage(self._decode, x, skips.pop(), index, checkpointing=self.checkpointing)
            if self.deep_supervision or not skips:
                logits.insert(0, head(x))
        return logits

    def _decode(self, below: torch.Tensor, skip: torch.Tensor, index: int) -> torch.Tensor:
        return self.up_layers[index](self.up_samples[index](below) + skip)


class GroupNormBlock(nn.Module):
    """x + two times (norm, ReLU, convolution).

    Args:
        dimensions: 2 or 3.
        features: channels in and out.
        kernel: size per axis.
    """

    def __init__(self, dimensions: int, features: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.norm1, self.norm2 = SlimGroupNorm(features), SlimGroupNorm(features)
        self.conv1 = _convolution(dimensions, features, features, kernel)
        self.conv2 = _convolution(dimensions, features, features, kernel)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,F,*spatial) float -> the same shape."""
        inner = self.conv1(self.relu(self.norm1(x)))
        return self.conv2(self.relu(self.norm2(inner))) + x


class SlimGroupNorm(nn.Module):
    """Group norm that keeps the type of its input: mixed precision would widen it and keep both, half as much again.

    Its sums are float32 whatever the type.

    Args:
        features: channels.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.groups = math.gcd(GROUPS, features)
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,F,*spatial) float -> the same shape and type."""
        with torch.autocast(x.device.type, enabled=False):
            return functional.group_norm(x, self.groups, self.weight.to(x.dtype), self.bias.to(x.dtype))


def _convolution(
    dimensions: int, before: int, after: int, kernel: Sequence[int], stride: Sequence[int] | int = 1, bias: bool = False
) -> nn.Module:
    padding = tuple(n // 2 for n in kernel)
    convolution = CONVOLUTIONS[dimensions](before, after, kernel, stride, padding, bias=bias)
    return nn.Sequential(OrderedDict(conv=convolution))


def _head(dimensions: int, features: int, outputs: int) -> nn.Module:
    last = _convolution(dimensions, features, outputs, (1,) * dimensions, bias=True)
    return nn.Sequential(SlimGroupNorm(features), nn.ReLU(inplace=True), last)


SEGRESNET = Architecture(
    build=build_segresnet,
    traits=NetworkTraits(usual_blocks=((1, 2, 2, 4), (1,)), encoder=encoder_named("convInit.", "down_layers.")),
)
