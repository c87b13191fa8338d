"""MONAI's DynUNet, its own reading of nnU-Net: two convolutions per stage without bias, optionally residual."""

from __future__ import annotations

import torch
from monai.networks.nets.dynunet import DynUNet
from torch import nn

from autoseg.core.records import NetworkSettings
from autoseg.networks.stages import run_stage
from autoseg.networks.traits import CHECKPOINTING, TOPOLOGY, Architecture, NetworkTraits, encoder_named


def build_dynunet(settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> nn.Module:
    """The DynUNet of a plan; it draws its weights itself, after He.

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; residual blocks: Futrega et al. 2021, arXiv 2110.03352.
    """
    upwards = settings.strides[1:]
    architecture = DynUNet(
        dimensions,
        input_channels,
        output_channels,
        kernel_size=settings.kernels,
        strides=settings.strides,
        upsample_kernel_size=upwards,
        filters=settings.features,
        deep_supervision=True,  # the heads are always made, so that weights fit whether or not they are used
        deep_supr_num=len(upwards) - 1,
        res_block=bool(settings.options.get("residual", False)),
    )
    return DynamicUNet(architecture, settings)


class DynamicUNet(nn.Module):
    """A DynUNet under our contract: every head at its own size, one name per tensor (the first of MONAI's two).

    Args:
        architecture: taken apart.
        settings: deep supervision and checkpointing.
    """

    def __init__(self, architecture: DynUNet, settings: NetworkSettings) -> None:
        super().__init__()
        self.input_block = architecture.input_block
        self.downsamples = architecture.downsamples
        self.bottleneck = architecture.bottleneck
        self.upsamples = architecture.upsamples
        self.output_block = architecture.output_block
        self.deep_supervision_heads = architecture.deep_supervision_heads
        self.deep_supervision = settings.deep_supervision
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> logits (B,K,*spatial of each output), finest first."""
        skips = []
        for stage in (self.input_block, *self.downsamples, self.bottleneck):
            x = run_stage(stage, x, checkpointing=self.checkpointing)
            skips.append(x)
        x = skips.pop()
        logits: list[torch.Tensor] = []
        heads = (*reversed(self.deep_supervision_heads), self.output_block)
        for stage, head in zip(self.upsamples, heads, strict=True):
            x = run_stage(stage, x, skips.pop(), checkpointing=self.checkpointing)
            if self.deep_supervision or not skips:
                logits.insert(0, head(x))
        return logits


DYNUNET = Architecture(
    build=build_dynunet,
    traits=NetworkTraits(
        follows=TOPOLOGY - {"encoder_blocks", "decoder_blocks"},
        least_stages=3,
        options=("residual",),
        encoder=encoder_named("input_block.", "downsamples.", "bottleneck."),
    ),
)
