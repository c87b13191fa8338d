"""The table of networks; build one from planned settings and a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from autoseg.core.errors import UsageError
from autoseg.core.records import Configuration, NetworkSettings
from autoseg.core.registry import Table
from autoseg.networks.traits import (
    WEIGHTS,
    Architecture,
    NetworkTraits,
    check_input_size,
    check_settings,
    complete_settings,
)

NETWORKS: Table[Architecture] = Table(
    "network",
    {
        "unet": "autoseg.networks.unet:UNET",
        "residual_unet": "autoseg.networks.residual_unet:RESIDUAL_UNET",
        "attention_unet": "autoseg.networks.attention_unet:ATTENTION_UNET",
        "segresnet": "autoseg.networks.segresnet:SEGRESNET",
        "dynunet": "autoseg.networks.dynunet:DYNUNET",
        "unetr": "autoseg.networks.unetr:UNETR",
        "swin_unetr": "autoseg.networks.swin_unetr:SWIN_UNETR",
        "ratlesnetv2": "autoseg.networks.ratlesnetv2:RATLESNETV2",
        "inception_unet": "autoseg.networks.inception_unet:INCEPTION_UNET",
        "aspp_net": "autoseg.networks.aspp_net:ASPP_NET",
        "pyramid_net": "autoseg.networks.pyramid_net:PYRAMID_NET",
        "unet_resnet": "autoseg.networks.encoders:UNET_RESNET",
        "unet_efficientnet": "autoseg.networks.encoders:UNET_EFFICIENTNET",
        "unet_efficientnet_lite": "autoseg.networks.encoders:UNET_EFFICIENTNET_LITE",
        "deeplabv3": "autoseg.networks.encoders:DEEPLABV3",
        "deeplabv3plus": "autoseg.networks.encoders:DEEPLABV3PLUS",
        "pspnet": "autoseg.networks.encoders:PSPNET",
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
        UsageError: no network of that name, or a package that it needs is not installed.
        PlanError: settings that no network, or not this one, can have.
    """
    architecture = _find(settings.name)
    check_settings(settings, architecture.traits, dimensions)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also reseed every GPU.
        torch.default_generator.manual_seed(seed)
        return architecture.build(settings, dimensions, input_channels, output_channels)


def network_traits(name: str) -> NetworkTraits:
    """Traits of the network of that name.

    Raises:
        UsageError: no network of that name, or a package that it needs is not installed.
    """
    return _find(name).traits


def check_sizes(configuration: Configuration) -> None:
    """Refuse a patch or a tile that the configuration's network cannot take.

    Raises:
        UsageError: as ``network_traits``.
        PlanError: with the sizes that it can take.
    """
    traits = network_traits(configuration.network.name)
    for size in (configuration.patch_size, configuration.tiling.tile_size):
        check_input_size(configuration.network, traits, size)


def load_initial_weights(network: nn.Module, settings: NetworkSettings) -> str | None:
    """Put the weights that the option ``weights`` names, if any, into a fresh network, in place.

    Args:
        network: as ``build_network`` made it from the settings.

    Returns:
        One clause for the log; None where the settings name no weights.

    Raises:
        ModelError: the weights cannot be read, or are those of another network.
    """
    architecture = _find(settings.name)
    if architecture.begin is None or settings.options.get(WEIGHTS) is None:
        return None
    return architecture.begin(network, settings).describe()


def fit_settings(settings: NetworkSettings, *, dimensions: int, patch: Sequence[int]) -> NetworkSettings:
    """Complete settings for the network that they name, and check them with the patch.

    Args:
        settings: topology and name.
        dimensions: 2 or 3.
        patch: voxels per axis of a training sample.

    Raises:
        UsageError: as ``network_traits``.
        PlanError: too few stages, a patch that its strides do not divide, ...
    """
    traits = network_traits(settings.name)
    completed = complete_settings(settings, traits, patch)
    check_settings(completed, traits, dimensions)
    check_input_size(completed, traits, patch)
    return completed


def _find(name: str) -> Architecture:
    try:
        return NETWORKS[name]
    except ModuleNotFoundError as error:
        raise UsageError(
            f"network '{name}' needs the package {error.name}, which is not installed; "
            f"install it with: pip install {error.name}"
        ) from error
