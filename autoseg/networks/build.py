"""The table of networks, and how one is built: checked, constructed, initialised, all from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.core.registry import Table

LEAKY_SLOPE = 0.01

# A builder makes the bare network; ``forward(x: (B,C,*spatial)) -> list[logits]`` finest first, and a settable
# ``deep_supervision`` that, when False, gives a list of one without computing the others.
Builder = Callable[[NetworkSettings, int, int, int], nn.Module]

NETWORKS: Table[Builder] = Table(
    "network",
    {
        "unet": "autoseg.networks.unet:build_unet",
        "residual_unet": "autoseg.networks.residual_unet:build_residual_unet",
    },
)


def build_network(
    settings: NetworkSettings, *, dimensions: int, input_channels: int, output_channels: int, seed: int
) -> nn.Module:
    """The network of a plan with fresh weights; the same seed gives the same weights, whatever ran before.

    Args:
        settings: the planned network.
        dimensions: 2 or 3, the spatial axes of its input.
        input_channels: image channels.
        output_channels: logits per voxel: classes with background, or regions.
        seed: draws the weights; the global random state stays as it was.

    Raises:
        UsageError: no network of that name.
        PlanError: settings that no network can have.
    """
    _check(settings, dimensions)
    build = NETWORKS[settings.name]
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also reseed every GPU.
        torch.default_generator.manual_seed(seed)
        network = build(settings, dimensions, input_channels, output_channels)
        _initialise(network)
    return network


def _check(settings: NetworkSettings, dimensions: int) -> None:
    name = f"network '{settings.name}'"
    if len(settings.features) < 2:
        raise PlanError(f"{name} has one stage; give features, kernels, strides and encoder_blocks at least 2 entries")
    for what, sizes in (("kernels", settings.kernels), ("strides", settings.strides)):
        wrong = next((size for size in sizes if len(size) != dimensions), None)
        if wrong is not None:
            raise PlanError(
                f"{name} has {what} {wrong}, but its input has {dimensions} spatial axes; give one per axis"
            )
    if math.prod(settings.strides[0]) != 1:
        raise PlanError(f"{name} has strides {settings.strides[0]} in its first stage; they must all be 1")
    even = next((kernel for kernel in settings.kernels if any(n % 2 == 0 for n in kernel)), None)
    if even is not None:
        raise PlanError(f"{name} has a kernel {even}; use odd numbers, so that a voxel stays in the middle")


def _initialise(network: nn.Module) -> None:
    """Draw every convolution's weights from a normal distribution scaled to its fan-in; biases start at 0.

    Source: He et al. 2015, arXiv 1502.01852, eq. 14-15 with the slope of the leaky ReLU.
    """
    convolutions = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    for module in network.modules():
        if isinstance(module, convolutions):
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
