"""Networks on image encoders of segmentation-models-pytorch and timm, with or without ImageNet weights, in 2D.

Networks here keep that package's parameter names, so that its checkpoints load. The plan's topology is not a choice: it
is that of the encoder.
"""

from __future__ import annotations

import difflib
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks.encoder_weights import (
    IMAGENET,
    TIMM,
    WEIGHTS_PACKAGES,
    fetch_imagenet,
    import_smp,
    rename_tensors,
)
from autoseg.networks.initial import Coverage, adapt_input, cover, read_tensors
from autoseg.networks.traits import WEIGHTS, Architecture, NetworkTraits

ENCODER, RATES, OUTPUT_STRIDE, DECODER_FEATURES = "encoder", "rates", "output_stride", "decoder_features"
_RGB = 3
_HALVINGS = 5
_UP_FEATURES = (256, 128, 64, 32, 16)
_NARROW_UP_FEATURES = (64, 48, 32, 16, 16)  # as light as the encoders they follow
_ASPP_FEATURES = 256
_PYRAMID_FEATURES = 512
_PYRAMID_HALVINGS = 3
_PROBE = 64  # pixels per axis


class EncoderNetwork(nn.Module):
    """An encoder, decoder and head of segmentation-models-pytorch under our contract.

    Args:
        name: of the network, for messages.
        architecture: one of its networks, taken apart.
    """

    def __init__(self, name: str, architecture: Any) -> None:
        super().__init__()
        self.name = name
        self.encoder = architecture.encoder
        self.decoder = architecture.decoder
        self.segmentation_head = architecture.segmentation_head
        self.deep_supervision = False

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,Y,X) float -> [logits (B,K,Y,X)].

        Raises:
            PlanError: one sample alone, while training, where its norm needs two.
        """
        try:
            return [self.segmentation_head(self.decoder(self.encoder(x)))]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise PlanError(
                f"network '{self.name}' scales samples by all that go through together and cannot learn from one "
                f"alone; make batch_size at least 2 * training.accumulation"
            ) from error


def build_encoder_network(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int, *, kind: str
) -> nn.Module:
    """A network on an image encoder, with random weights.

    Args:
        kind: the class of segmentation-models-pytorch.

    Sources: U-Net: Ronneberger et al. 2015, arXiv:1505.04597; DeepLabV3: Chen et al. 2017, arXiv:1706.05587;
    DeepLabV3+: Chen et al. 2018, arXiv:1802.02611; PSPNet: Zhao et al. 2017, arXiv:1612.01105.
    """
    if kind == "Unet":
        arguments: dict[str, Any] = {"decoder_channels": _decoder_features(settings)}
    elif kind == "PSPNet":
        arguments = {"encoder_depth": _PYRAMID_HALVINGS, "psp_out_channels": _PYRAMID_FEATURES}
    else:
        arguments = {
            "encoder_output_stride": settings.options.get(OUTPUT_STRIDE, _DEEPLAB_STRIDES[kind]),
            "decoder_atrous_rates": tuple(settings.options.get(RATES, _DEEPLAB_RATES)),
            "decoder_channels": _ASPP_FEATURES,
        }
    model = getattr(import_smp(), kind)(
        encoder_name=_encoder(settings),
        encoder_weights=None,
        in_channels=input_channels,
        classes=output_channels,
        **arguments,
    )
    network = EncoderNetwork(settings.name, model)
    _drop_unused(network, input_channels)
    return network


def describe_encoder(settings: NetworkSettings, *, kind: str) -> NetworkSettings:
    """The settings with the topology that the encoder has; stage 0 is the input's own resolution.

    Raises:
        PlanError: the encoder is unknown, or an option is of the wrong kind.
        UsageError: segmentation-models-pytorch is not installed.
    """
    halvings, finest, stride = _HALVINGS, _decoder_features(settings)[-1], 2**_HALVINGS
    if kind == "PSPNet":
        halvings, finest = _PYRAMID_HALVINGS, _PYRAMID_FEATURES
    if kind.startswith("DeepLab"):
        finest, stride = _ASPP_FEATURES, settings.options.get(OUTPUT_STRIDE, _DEEPLAB_STRIDES[kind])
        _check_deeplab(settings, stride)
    name = _encoder(settings)
    channels = _encoder_channels(name, halvings)
    steps = [2 if 2 ** (i + 1) <= stride else 1 for i in range(halvings)]
    return settings.model_copy(
        update={
            # An encoder of timm may have nothing at a resolution, and then passes on nothing.
            "features": (finest, *(max(1, n) for n in channels)),
            "kernels": ((3, 3),) * (halvings + 1),
            "strides": ((1, 1), *((n, n) for n in steps)),
            "encoder_blocks": (1,) * (halvings + 1),
            "decoder_blocks": (1,) * halvings,
            "options": {ENCODER: name, **settings.options},
        }
    )


def load_encoder(network: nn.Module, settings: NetworkSettings) -> Coverage:
    """Put the encoder's ImageNet weights, from a package, the hub or a file, into a fresh network, in place.

    The first convolution takes the mean of its three kernels for any other number of channels, and the scale of its
    input into account (``WeightsPackage``).

    Args:
        network: built from the settings.
        settings: their option ``weights`` is ``imagenet`` or a file: a state_dict of timm, torchvision,
            efficientnet-pytorch or segmentation-models-pytorch for that encoder.

    Raises:
        ModelError: the hub cannot be reached, or the weights are those of another encoder.
    """
    name, source = _encoder(settings), settings.options[WEIGHTS]
    weights = fetch_imagenet(name) if source == IMAGENET else read_tensors(Path(source))
    current = network.get_submodule("encoder").state_dict()
    weights = rename_tensors(weights, current)
    first = next(key for key, tensor in current.items() if tensor.ndim == 4)
    if first in weights and weights[first].ndim == 4:
        scale = WEIGHTS_PACKAGES[name].input_scale if name in WEIGHTS_PACKAGES else 1.0
        weights[first] = adapt_input(weights[first] * scale, current[first].shape[1])
    where = f"{name} of ImageNet" if source == IMAGENET else str(source)
    return cover(
        network,
        {f"encoder.{key}": tensor for key, tensor in weights.items()},
        optional=("decoder.", "segmentation_head."),
        where=where,
    )


def _encoder(settings: NetworkSettings) -> str:
    name = settings.options.get(ENCODER, _USUAL_ENCODERS[settings.name])
    if not isinstance(name, str):
        raise PlanError(f"network '{settings.name}' has the encoder {name!r}; use a name, as resnet50")
    return name


def _decoder_features(settings: NetworkSettings) -> tuple[int, ...]:
    """Features of a U-Net after each upsampling, coarsest first."""
    usual = _NARROW_UP_FEATURES if settings.name == "unet_efficientnet_lite" else _UP_FEATURES
    features = settings.options.get(DECODER_FEATURES, usual)
    if (
        not isinstance(features, list | tuple)
        or len(features) != _HALVINGS
        or not all(isinstance(n, int) and n > 0 for n in features)
    ):
        raise PlanError(
            f"network '{settings.name}' has the decoder_features {features!r}; use five whole numbers, coarsest first, "
            f"as {list(usual)}"
        )
    return tuple(features)


def _check_deeplab(settings: NetworkSettings, stride: Any) -> None:
    rates = settings.options.get(RATES, _DEEPLAB_RATES)
    if stride not in (8, 16):
        raise PlanError(f"network '{settings.name}' has the output_stride {stride!r}; use 8 or 16")
    if not isinstance(rates, list | tuple) or len(rates) != 3 or not all(isinstance(n, int) and n > 0 for n in rates):
        raise PlanError(f"network '{settings.name}' has the rates {rates!r}; use three whole numbers, as [6, 12, 18]")


@lru_cache(maxsize=32)
def _encoder_channels(name: str, halvings: int) -> tuple[int, ...]:
    """Channels after each halving, from the package's table or an encoder of meta tensors."""
    smp = import_smp()
    table = smp.encoders.encoders
    if name in table:
        return tuple(table[name]["params"]["out_channels"][1 : halvings + 1])
    near = difflib.get_close_matches(name, table, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    message = (
        f"unknown encoder '{name}' ({hint}choose from those of segmentation-models-pytorch, such as resnet50 and "
        f"efficientnet-b0, and tu- with a name of timm); edit network.options.encoder"
    )
    if not name.startswith(TIMM):
        raise PlanError(message)
    try:
        with torch.device("meta"):
            encoder = smp.encoders.get_encoder(name, depth=halvings, weights=None)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{message} ({str(error).splitlines()[0]})") from error
    return tuple(encoder.out_channels[1 : halvings + 1])


class Identity(nn.Module):
    """Pass the first argument on, in the place of a module without influence on the logits.

    ``nn.Identity`` takes one argument, and decoders pass their skips, too.
    """

    def forward(self, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        """The same ``x``."""
        return x


def _drop_unused(network: nn.Module, channels: int) -> None:
    """Replace modules that no gradient reaches, as encoder stages beyond the last that the decoder uses."""
    with torch.enable_grad():
        logits = network.eval()(torch.zeros(1, channels, _PROBE, _PROBE))[0]
        logits.sum().backward()
    network.train()
    learning = {id(weight) for weight in network.parameters() if weight.grad is not None}
    network.zero_grad(set_to_none=True)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            weights = list(child.parameters())
            if weights and not any(id(weight) in learning for weight in weights):
                setattr(parent, name, Identity())


_DEEPLAB_STRIDES = {"DeepLabV3": 8, "DeepLabV3Plus": 16}
_DEEPLAB_RATES = (6, 12, 18)
_USUAL_ENCODERS = {
    "unet_resnet": "resnet50",
    "unet_efficientnet": "efficientnet-b0",
    "unet_efficientnet_lite": f"{TIMM}tf_efficientnet_lite0",
    "deeplabv3": "resnet101",
    "deeplabv3plus": "efficientnet-b0",
    "pspnet": "resnext50_32x4d",
}


def _declare(kind: str, *options: str) -> Architecture:
    return Architecture(
        build=partial(build_encoder_network, kind=kind),
        traits=NetworkTraits(
            dimensions=(2,),
            follows=frozenset(),
            supports_deep_supervision=False,
            supports_checkpointing=False,  # their random layers would not draw the same again
            normalises_batch=True,
            options=(ENCODER, WEIGHTS, *options),
            fixed=partial(describe_encoder, kind=kind),
        ),
        begin=load_encoder,
    )


UNET_RESNET = _declare("Unet", DECODER_FEATURES)
UNET_EFFICIENTNET = _declare("Unet", DECODER_FEATURES)
UNET_EFFICIENTNET_LITE = _declare("Unet", DECODER_FEATURES)
DEEPLABV3 = _declare("DeepLabV3", RATES, OUTPUT_STRIDE)
DEEPLABV3PLUS = _declare("DeepLabV3Plus", RATES, OUTPUT_STRIDE)
PSPNET = _declare("PSPNet")
