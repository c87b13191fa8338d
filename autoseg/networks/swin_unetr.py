"""Swin UNETR: attention within shifted windows at every stage but the finest, and a convolutional decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.patchembedding import PatchEmbed
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets.swin_unetr import BasicLayer
from monai.networks.nets.swin_unetr import PatchMerging as HalvingMerging
from torch import nn
from torch.nn import functional

from autoseg.core.records import NetworkSettings
from autoseg.networks.stages import run_stage
from autoseg.networks.traits import CHECKPOINTING, TOPOLOGY, Architecture, NetworkTraits, encoder_named

WINDOW = 7
HEAD_FEATURES = 16


def build_swin_unetr(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int
) -> nn.Module:
    """The Swin UNETR of a plan; it draws its weights itself.

    The published network has features 48, 48, 96, 192, 384, 768, five halvings and 2 blocks per stage; strides may
    differ per axis here, and stages may be fewer or more.

    Source: Hatamizadeh et al. 2022, arXiv 2201.01266.
    """
    return SwinUnetr(settings, dimensions, input_channels, output_channels)


class SwinUnetr(nn.Module):
    """A window-attention encoder and a convolutional decoder, with MONAI's names, so that its weights load.

    Args:
        settings: topology (``encoder_blocks`` are attention blocks; the first stage has none), deep supervision,
            checkpointing, ``window_size`` per axis.
        dimensions: 2 or 3.
        input_channels, output_channels: of images and logits.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> None:
        super().__init__()
        features, kernels, strides = settings.features, settings.kernels, settings.strides
        last = len(features) - 1
        self.swinViT = WindowEncoder(settings, dimensions, input_channels)
        # The last stage but one goes to its decoder as it is; MONAI calls the coarsest number 10.
        self.encoders = {0: "encoder1", **{i: f"encoder{i + 1}" for i in range(1, last - 1)}, last: "encoder10"}
        for i, name in self.encoders.items():
            before = features[i] if i else input_channels
            block = UnetrBasicBlock(dimensions, before, features[i], kernels[i], 1, "instance", res_block=True)
            self.add_module(name, block)
        for i in range(last):
            decoder = UnetrUpBlock(
                dimensions, features[i + 1], features[i], kernels[i], strides[i + 1], "instance", res_block=True
            )
            self.add_module(f"decoder{i + 1}", decoder)
        self.out = UnetOutBlock(dimensions, features[0], output_channels)
        self.heads = nn.ModuleList(UnetOutBlock(dimensions, n, output_channels) for n in features[1:-1])
        self.deep_supervision = settings.deep_supervision
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> logits (B,K,*spatial of each output), finest first."""
        states = [x, *self.swinViT(x)]
        below = self._encode(states.pop(), len(states))
        logits: list[torch.Tensor] = []
        for i in range(len(states) - 1, -1, -1):
            skip = self._encode(states.pop(), i)
            below = run_stage(self.get_submodule(f"decoder{i + 1}"), below, skip, checkpointing=self.checkpointing)
            if self.deep_supervision or not i:
                head = self.heads[i - 1] if i else self.out
                logits.insert(0, head(below))
        return logits

    def _encode(self, state: torch.Tensor, stage: int) -> torch.Tensor:
        if stage not in self.encoders:
            return state
        return run_stage(self.get_submodule(self.encoders[stage]), state, checkpointing=self.checkpointing)


class WindowEncoder(nn.Module):
    """Tokens of the second stage, attention within windows, tokens merged for the next stage, and so on.

    Args:
        settings: topology.
        dimensions: 2 or 3.
        input_channels: of images.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int) -> None:
        super().__init__()
        features, strides = settings.features, settings.strides
        no_norm: Any = None  # MONAI's default, which its types forget
        self.patch_embed = PatchEmbed(strides[1], input_channels, features[1], no_norm, dimensions)
        self.names = [f"layers{i}" for i in range(1, len(features) - 1)]
        for i, name in enumerate(self.names, start=1):
            blocks = settings.encoder_blocks[i]
            layer = BasicLayer(
                dim=features[i],
                depth=blocks,
                num_heads=_head_count(features[i]),
                window_size=tuple(settings.options.get("window_size", (WINDOW,) * dimensions)),
                drop_path=[0.0] * blocks,
                qkv_bias=True,
                downsample=_merging(strides[i + 1], features[i], features[i + 1]),
                use_checkpoint=bool(settings.options.get(CHECKPOINTING, False)),  # per block: finer than per stage
            )
            self.add_module(name, nn.ModuleList([layer]))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> (B,F,*spatial) of every stage from the second on, normalised over channels."""
        x = self.patch_embed(x)
        states = [_normalise(x)]
        for name in self.names:
            x = self.get_submodule(f"{name}.0")(x.contiguous())
            states.append(_normalise(x))
        return states


class StridedMerging(nn.Module):
    """Concatenate the voxels of every small box, then norm and project: halves or keeps each axis on its own.

    Args:
        dim, after: channels in and out.
        norm_layer: of the concatenated channels.
        stride: box size per axis.
    """

    def __init__(
        self, dim: int, norm_layer: Callable[[int], nn.Module], *, stride: Sequence[int], after: int, spatial_dims: int
    ) -> None:
        super().__init__()
        del spatial_dims  # given by MONAI, stated by the stride
        self.stride = tuple(stride)
        joined = math.prod(stride) * dim
        self.reduction = nn.Linear(joined, after, bias=False)
        self.norm = norm_layer(joined)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,*spatial,F) float -> (B,*spatial / stride,F')."""
        corners = product(*(range(n) for n in self.stride))
        parts = [
            x[(slice(None), *(slice(first, None, step) for first, step in zip(corner, self.stride, strict=True)))]
            for corner in corners
        ]
        return self.reduction(self.norm(torch.cat(parts, -1)))


def _merging(stride: Sequence[int], before: int, after: int) -> Any:
    """Class of a stage's merging layer; not an instance yet, despite MONAI's types."""
    if set(stride) == {2} and after == 2 * before:
        return HalvingMerging  # the published case, with the published order of a box's voxels
    return partial(StridedMerging, stride=stride, after=after)


def _head_count(features: int) -> int:
    return next(n for n in range(max(1, features // HEAD_FEATURES), 0, -1) if features % n == 0)


def _normalise(x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


def _usual_features(features: tuple[int, ...]) -> tuple[int, ...]:
    """MONAI's default of 24 where a plain U-Net has 32 in its first stage; the second stage is as wide as the first."""
    first = features[0] * 3 // 4
    return (first, *(first * 2**i for i in range(len(features) - 1)))


SWIN_UNETR = Architecture(
    build=build_swin_unetr,
    traits=NetworkTraits(
        follows=TOPOLOGY - {"decoder_blocks"},
        least_stages=3,
        options=("window_size",),
        usual_features=_usual_features,
        encoder=encoder_named("swinViT.", "encoder"),
    ),
)
