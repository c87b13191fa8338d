"""The plain U-Net: two convolutions per stage, strided convolutions down, transposed convolutions up."""

from __future__ import annotations

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from autoseg.core.records import NetworkSettings
from autoseg.networks.adapter import OPTIONS, EncoderDecoder, architecture_arguments
from autoseg.networks.stages import initialise_convolutions
from autoseg.networks.traits import Architecture, NetworkTraits


def build_unet(settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> nn.Module:
    """The plain U-Net of a plan.

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.
    """
    arguments = architecture_arguments(settings, dimensions, input_channels, output_channels)
    network = EncoderDecoder(PlainConvUNet(n_conv_per_stage=settings.encoder_blocks, **arguments), settings)
    initialise_convolutions(network)
    return network


UNET = Architecture(build=build_unet, traits=NetworkTraits(options=OPTIONS))
