"""DeepLabV3+ on the plan's own encoder, for slices and volumes: dilated convolutions side by side, one skip."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks.layers import CONVOLUTIONS, LINEAR, convolve, limit_strides, make_dilated_stages
from autoseg.networks.stages import LEAKY_SLOPE, initialise_convolutions, run_stage
from autoseg.networks.traits import CHECKPOINTING, TOPOLOGY, Architecture, NetworkTraits, encoder_named

RATES = "rates"
# On the coarsest grid a slice has some 30 voxels along an axis, a volume some 10: beyond it a dilated kernel sees only
# its own middle.
USUAL_RATES = {2: (6, 12, 18), 3: (2, 4, 6)}
COARSEST = 16  # total stride of the encoder, as published
SKIP = 4  # total stride of the stage that is looked at again, as published
WIDTH, SKIP_WIDTH = 256, 48


def build_aspp_net(settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> nn.Module:
    """The network of a plan: residual encoder with instance norm, atrous spatial pyramid, light decoder.

    Source: Chen et al. 2018, arXiv:1802.02611.
    """
    network = AsppNet(settings, dimensions, input_channels, output_channels)
    initialise_convolutions(network)
    return network


class AsppNet(nn.Module):
    """Encoder, dilated convolutions side by side, and a decoder that looks once more at a finer stage.

    Args:
        settings: features, kernels, strides, encoder_blocks, ``rates`` and checkpointing.
        dimensions: 2 or 3.
        input_channels, output_channels: of images and logits.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> None:
        super().__init__()
        width, kernel = min(WIDTH, settings.features[-1]), (3,) * dimensions
        self.skip = _find_skip(settings.strides)
        self.mode = LINEAR[dimensions]
        self.stages = make_dilated_stages(settings, dimensions, input_channels)
        self.aspp = Aspp(dimensions, settings.features[-1], width, _read_rates(settings, dimensions))
        skipped = settings.features[self.skip]
        narrow = min(SKIP_WIDTH, skipped)
        self.narrow = convolve(dimensions, skipped, narrow, (1,) * dimensions)
        self.refine = nn.Sequential(
            convolve(dimensions, width + narrow, width, kernel), convolve(dimensions, width, width, kernel)
        )
        self.head = CONVOLUTIONS[dimensions](width, output_channels, 1)
        self.deep_supervision = False
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> [logits (B,K,*spatial)]."""
        size, skip = x.shape[2:], x
        for i, stage in enumerate(self.stages):
            x = run_stage(stage, x, checkpointing=self.checkpointing)
            if i == self.skip:
                skip = x
        x = run_stage(self._decode, x, skip, checkpointing=self.checkpointing)
        return [functional.interpolate(x, size, mode=self.mode)]

    def _decode(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = functional.interpolate(self.aspp(x), skip.shape[2:], mode=self.mode)
        return self.head(self.refine(torch.cat((x, self.narrow(skip)), 1)))


class Aspp(nn.Module):
    """The same voxels at several distances, and the mean of all, side by side.

    Args:
        dimensions: 2 or 3.
        before, after: channels in and out.
        rates: dilation of each branch beside the undilated one.
    """

    def __init__(self, dimensions: int, before: int, after: int, rates: Sequence[int]) -> None:
        super().__init__()
        single = (1,) * dimensions
        self.near = convolve(dimensions, before, after, single)
        self.far = nn.ModuleList(convolve(dimensions, before, after, (3,) * dimensions, dilation=n) for n in rates)
        # One value per channel has no spread that a norm could scale.
        self.all = nn.Sequential(CONVOLUTIONS[dimensions](before, after, 1), nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
        self.join = convolve(dimensions, after * (2 + len(rates)), after, single)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,before,*spatial) float -> (B,after,*spatial)."""
        mean = x.mean(tuple(range(2, x.ndim)), keepdim=True)
        everywhere = self.all(mean).expand(-1, -1, *x.shape[2:])
        return self.join(torch.cat((self.near(x), *(branch(x) for branch in self.far), everywhere), 1))


def _find_skip(strides: tuple[tuple[int, ...], ...]) -> int:
    """The coarsest stage, but for the last, with a total stride of at most 4 along every axis."""
    total, stage = [1] * len(strides[0]), 0
    for i, stride in enumerate(strides[:-1]):
        total = [t * n for t, n in zip(total, stride, strict=True)]
        if max(total) <= SKIP:
            stage = i
    return stage


def _read_rates(settings: NetworkSettings, dimensions: int) -> tuple[int, ...]:
    rates = settings.options.get(RATES, USUAL_RATES[dimensions])
    if not isinstance(rates, list | tuple) or not rates or not all(isinstance(n, int) and n > 0 for n in rates):
        raise PlanError(f"network 'aspp_net' has the rates {rates!r}; give whole numbers, as [6, 12, 18]")
    return tuple(rates)


ASPP_NET = Architecture(
    build=build_aspp_net,
    traits=NetworkTraits(
        follows=TOPOLOGY - {"decoder_blocks"},
        supports_deep_supervision=False,
        options=(RATES,),
        usual_strides=partial(limit_strides, limit=COARSEST),
        usual_blocks=((1, 3, 4, 6), (1,)),
        encoder=encoder_named("stages."),
    ),
)
