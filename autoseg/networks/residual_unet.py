"""The residual-encoder U-Net: residual blocks down (more of them the coarser), one convolution per stage up."""

from __future__ import annotations

from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from torch import nn

from autoseg.core.records import NetworkSettings
from autoseg.networks.adapter import OPTIONS, EncoderDecoder, architecture_arguments
from autoseg.networks.stages import initialise_convolutions
from autoseg.networks.traits import Architecture, NetworkTraits


def build_residual_unet(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int
) -> nn.Module:
    """The residual-encoder U-Net of a plan.

    Source: Isensee et al. 2024, arXiv 2404.09556.
    """
    arguments = architecture_arguments(settings, dimensions, input_channels, output_channels)
    architecture = ResidualEncoderUNet(n_blocks_per_stage=settings.encoder_blocks, **arguments)
    _start_as_identity(architecture)
    network = EncoderDecoder(architecture, settings)
    initialise_convolutions(network)
    return network


def _start_as_identity(network: nn.Module) -> None:
    """Scale each block's residual branch by 0 at the start, which eases training of deep encoders.

    Source: Goyal et al. 2017, arXiv 1706.02677, section 5.1.
    """
    for module in network.modules():
        if isinstance(module, BasicBlockD):
            nn.init.zeros_(module.conv2.norm.weight)
            nn.init.zeros_(module.conv2.norm.bias)


RESIDUAL_UNET = Architecture(
    build=build_residual_unet, traits=NetworkTraits(usual_blocks=((1, 3, 4, 6), (1,)), options=OPTIONS)
)
