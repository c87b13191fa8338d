"""The inception U-Net: in every block three branches of different reach, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from autoseg.core.records import NetworkSettings
from autoseg.networks.layers import CONVOLUTIONS, TRANSPOSED, convolve
from autoseg.networks.stages import initialise_convolutions, run_stage
from autoseg.networks.traits import CHECKPOINTING, Architecture, NetworkTraits, encoder_named

BRANCHES = 3


def build_inception_unet(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int
) -> nn.Module:
    """The inception U-Net of a plan, with instance norm; ``encoder_blocks`` and ``decoder_blocks`` count its blocks.

    Sources: branches: Szegedy et al. 2015, arXiv:1409.4842; U-Net: Ronneberger et al. 2015, arXiv:1505.04597.
    """
    network = InceptionUNet(settings, dimensions, input_channels, output_channels)
    initialise_convolutions(network)
    return network


class InceptionUNet(nn.Module):
    """A U-Net of inception blocks: max-pooling down, transposed convolutions up.

    Args:
        settings: topology, deep supervision and checkpointing.
        dimensions: 2 or 3.
        input_channels, output_channels: of images and logits.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> None:
        super().__init__()
        features, kernels, strides = settings.features, settings.kernels, settings.strides
        ups = range(len(features) - 2, -1, -1)  # coarsest first
        pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[dimensions]
        self.pools = nn.ModuleList(pool(stride) if i else nn.Identity() for i, stride in enumerate(strides))
        self.downs = nn.ModuleList(
            _chain(
                dimensions,
                features[i - 1] if i else input_channels,
                features[i],
                kernels[i],
                settings.encoder_blocks[i],
            )
            for i in range(len(features))
        )
        self.enlarge = nn.ModuleList(
            TRANSPOSED[dimensions](features[i + 1], features[i], strides[i + 1], strides[i + 1]) for i in ups
        )
        self.ups = nn.ModuleList(
            _chain(dimensions, 2 * features[i], features[i], kernels[i], settings.decoder_blocks[i]) for i in ups
        )
        self.heads = nn.ModuleList(CONVOLUTIONS[dimensions](features[i], output_channels, 1) for i in ups)
        self.deep_supervision = settings.deep_supervision
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> logits (B,K,*spatial of each output), finest first."""
        skips = []
        for pool, stage in zip(self.pools, self.downs, strict=True):
            x = run_stage(stage, pool(x), checkpointing=self.checkpointing)
            skips.append(x)
        x = skips.pop()
        logits: list[torch.Tensor] = []
        for index, head in enumerate(self.heads):
            x = run_stage(self._decode, x, skips.pop(), index, checkpointing=self.checkpointing)
            if self.deep_supervision or not skips:
                logits.insert(0, head(x))
        return logits

    def _decode(self, below: torch.Tensor, skip: torch.Tensor, index: int) -> torch.Tensor:
        return self.ups[index](torch.cat((self.enlarge[index](below), skip), 1))


class InceptionBlock(nn.Module):
    """A voxel alone, its neighbourhood, and that neighbourhood's own, a third of the features each.

    Args:
        dimensions: 2 or 3.
        before, after: channels in and out.
        kernel: of a neighbourhood, per axis.
    """

    def __init__(self, dimensions: int, before: int, after: int, kernel: Sequence[int]) -> None:
        super().__init__()
        share = max(1, after // BRANCHES)
        single = (1,) * dimensions
        self.branches = nn.ModuleList(
            (
                convolve(dimensions, before, max(1, after - 2 * share), single),
                convolve(dimensions, before, share, kernel),
                nn.Sequential(convolve(dimensions, before, share, kernel), convolve(dimensions, share, share, kernel)),
            )
        )
        joined = max(1, after - 2 * share) + 2 * share
        self.join = convolve(dimensions, joined, after, single)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,before,*spatial) float -> (B,after,*spatial)."""
        return self.join(torch.cat([branch(x) for branch in self.branches], 1))


def _chain(dimensions: int, before: int, after: int, kernel: Sequence[int], blocks: int) -> nn.Sequential:
    stage_blocks = [InceptionBlock(dimensions, after if i else before, after, kernel) for i in range(blocks)]
    return nn.Sequential(*stage_blocks)


INCEPTION_UNET = Architecture(
    build=build_inception_unet, traits=NetworkTraits(usual_blocks=((1,), (1,)), encoder=encoder_named("downs."))
)
