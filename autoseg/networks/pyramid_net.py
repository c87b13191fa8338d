"""Pyramid pooling on the plan's own encoder, for slices and volumes: means over ever larger parts beside the voxels."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from autoseg.core.records import NetworkSettings
from autoseg.networks.layers import CONVOLUTIONS, LINEAR, convolve, limit_strides, make_dilated_stages
from autoseg.networks.stages import LEAKY_SLOPE, initialise_convolutions, run_stage
from autoseg.networks.traits import CHECKPOINTING, TOPOLOGY, Architecture, NetworkTraits, encoder_named

PARTS = (1, 2, 3, 6)  # per axis, as published
COARSEST = 8  # total stride of the encoder, as published
WIDTH = 512


def build_pyramid_net(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int
) -> nn.Module:
    """The network of a plan: residual encoder with instance norm, pyramid pooling, linear upsampling.

    Source: Zhao et al. 2017, arXiv:1612.01105.
    """
    network = PyramidNet(settings, dimensions, input_channels, output_channels)
    initialise_convolutions(network)
    return network


class PyramidNet(nn.Module):
    """Encoder, pyramid pooling and one convolution.

    Args:
        settings: features, kernels, strides, encoder_blocks and checkpointing.
        dimensions: 2 or 3.
        input_channels, output_channels: of images and logits.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> None:
        super().__init__()
        coarsest = settings.features[-1]
        width = min(WIDTH, coarsest)
        self.mode = LINEAR[dimensions]
        self.stages = make_dilated_stages(settings, dimensions, input_channels)
        self.pools = nn.ModuleList(_pool(dimensions, coarsest, max(1, coarsest // len(PARTS)), n) for n in PARTS)
        joined = coarsest + len(PARTS) * max(1, coarsest // len(PARTS))
        self.join = convolve(dimensions, joined, width, (3,) * dimensions)
        self.head = CONVOLUTIONS[dimensions](width, output_channels, 1)
        self.deep_supervision = False
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> [logits (B,K,*spatial)]."""
        size = x.shape[2:]
        for stage in self.stages:
            x = run_stage(stage, x, checkpointing=self.checkpointing)
        x = run_stage(self._decode, x, checkpointing=self.checkpointing)
        return [functional.interpolate(x, size, mode=self.mode)]

    def _decode(self, x: torch.Tensor) -> torch.Tensor:
        # Between the parts' middles values are interpolated, so that no border of a part shows.
        parts = [functional.interpolate(pool(x), x.shape[2:], mode=self.mode) for pool in self.pools]
        return self.head(self.join(torch.cat((x, *parts), 1)))


def _pool(dimensions: int, before: int, after: int, parts: int) -> nn.Module:
    """The mean of each of parts x parts (x parts) pieces, narrowed."""
    mean = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dimensions](parts)
    if parts > 1:
        return nn.Sequential(mean, convolve(dimensions, before, after, (1,) * dimensions))
    # One value per channel has no spread that a norm could scale.
    single = CONVOLUTIONS[dimensions](before, after, 1)
    return nn.Sequential(mean, single, nn.LeakyReLU(LEAKY_SLOPE, inplace=True))


PYRAMID_NET = Architecture(
    build=build_pyramid_net,
    traits=NetworkTraits(
        follows=TOPOLOGY - {"decoder_blocks"},
        supports_deep_supervision=False,
        usual_strides=partial(limit_strides, limit=COARSEST),
        usual_blocks=((1, 3, 4, 6), (1,)),
        encoder=encoder_named("stages."),
    ),
)
