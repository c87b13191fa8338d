"""The attention U-Net: the plain U-Net of the plan whose skips pass a gate that the decoder opens."""

from __future__ import annotations

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from autoseg.core.records import NetworkSettings
from autoseg.networks.adapter import OPTIONS, EncoderDecoder, architecture_arguments
from autoseg.networks.stages import initialise_convolutions
from autoseg.networks.traits import Architecture, NetworkTraits


def build_attention_unet(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int
) -> nn.Module:
    """The attention U-Net of a plan; all but its gates has the plain U-Net's names, so that its weights load.

    Source: Oktay et al. 2018, arXiv 1804.03999, with the same norm in gates and stages.
    """
    arguments = architecture_arguments(settings, dimensions, input_channels, output_channels)
    architecture = PlainConvUNet(n_conv_per_stage=settings.encoder_blocks, **arguments)
    gates = nn.ModuleList(
        AttentionGate(arguments["conv_op"], arguments["norm_op"], features) for features in settings.features[-2::-1]
    )
    network = EncoderDecoder(architecture, settings, gates)
    initialise_convolutions(network)
    return network


class AttentionGate(nn.Module):
    """Scale every voxel of a skip by a number between 0 and 1 that the skip and the decoder agree on.

    Args:
        convolution, norm: of the right number of axes.
        features: channels of both inputs.
    """

    def __init__(self, convolution: type[nn.Module], norm: type[nn.Module], features: int) -> None:
        super().__init__()
        inner = max(1, features // 2)
        self.from_decoder = nn.Sequential(convolution(features, inner, 1), norm(inner, affine=True))
        self.from_skip = nn.Sequential(convolution(features, inner, 1), norm(inner, affine=True))
        self.share = nn.Sequential(nn.ReLU(inplace=True), convolution(inner, 1, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B,F,*spatial) float of the decoder and of the skip -> the gated skip."""
        return skip * self.share(self.from_decoder(x) + self.from_skip(skip))


ATTENTION_UNET = Architecture(build=build_attention_unet, traits=NetworkTraits(options=OPTIONS))
