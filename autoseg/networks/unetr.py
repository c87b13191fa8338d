"""UNETR: a vision transformer over tokens of the coarsest stage, whose states a convolutional decoder refines."""

from __future__ import annotations

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock, get_conv_layer
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets.vit import ViT
from torch import nn

from autoseg.core.records import NetworkSettings
from autoseg.networks.stages import run_stage
from autoseg.networks.traits import (
    CHECKPOINTING,
    TOPOLOGY,
    Architecture,
    NetworkTraits,
    check_input_size,
    encoder_named,
    total_strides,
)

LAYERS = 12
WIDENING = 24
HEAD_FEATURES = 64


def build_unetr(settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> nn.Module:
    """The UNETR of a plan; it draws its weights itself.

    The last of ``features`` is the transformer's width, and a token is what the strides make one voxel of: the
    published network has features 16, 32, 64, 128, 768 and four halvings.

    Source: Hatamizadeh et al. 2022, arXiv 2103.10504.
    """
    return Unetr(settings, dimensions, input_channels, output_channels)


class Unetr(nn.Module):
    """A transformer encoder and a convolutional decoder, with MONAI's names, so that its weights load.

    Args:
        settings: topology, deep supervision, checkpointing, ``patch_size``, ``layers`` of the transformer.
        dimensions: 2 or 3.
        input_channels, output_channels: of images and logits.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int) -> None:
        super().__init__()
        features, kernels, strides = settings.features, settings.kernels, settings.strides
        self.stages = len(features)
        self.settings = settings
        self.vit = _transformer(settings, dimensions, input_channels)
        for i in range(self.stages - 1):
            encoder = (
                TokenProjection(settings, dimensions, i)
                if i
                else UnetrBasicBlock(dimensions, input_channels, features[0], kernels[0], 1, "instance", res_block=True)
            )
            decoder = UnetrUpBlock(
                dimensions, features[i + 1], features[i], kernels[i], strides[i + 1], "instance", res_block=True
            )
            # MONAI counts its decoders from 2.
            self.add_module(f"encoder{i + 1}", encoder)
            self.add_module(f"decoder{i + 2}", decoder)
        self.out = UnetOutBlock(dimensions, features[0], output_channels)
        self.heads = nn.ModuleList(UnetOutBlock(dimensions, n, output_channels) for n in features[1:-1])
        self.deep_supervision = settings.deep_supervision
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*patch) float -> logits (B,K,*spatial of each output), finest first.

        Raises:
            PlanError: an input of another size than the patch.
        """
        check_input_size(self.settings, UNETR.traits, x.shape[2:])
        grid = tuple(n // d for n, d in zip(x.shape[2:], total_strides(self.settings), strict=True))
        below, states = self._transform(x)
        below = _as_volume(below, grid)
        logits: list[torch.Tensor] = []
        for i in range(self.stages - 2, -1, -1):
            source = _as_volume(states[i], grid) if i else x
            skip = run_stage(self.get_submodule(f"encoder{i + 1}"), source, checkpointing=self.checkpointing)
            below = run_stage(self.get_submodule(f"decoder{i + 2}"), below, skip, checkpointing=self.checkpointing)
            if self.deep_supervision or not i:
                head = self.heads[i - 1] if i else self.out
                logits.insert(0, head(below))
        return logits

    def _transform(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """(B,C,*patch) -> (B,tokens,width) after the last layer, and after the layer that each stage reads."""
        tokens = self.vit.patch_embedding(x)
        every = []
        for block in self.vit.blocks:
            tokens = run_stage(block, tokens, checkpointing=self.checkpointing)
            every.append(tokens)
        # Evenly spread: of 12 layers and 5 stages the 4th, 7th and 10th, as published.
        states = {i: every[i * len(every) // (self.stages - 1)] for i in range(1, self.stages - 1)}
        return self.vit.norm(tokens), states


class TokenProjection(nn.Module):
    """Transposed convolutions and residual blocks that bring tokens up to a stage.

    Args:
        settings: topology.
        dimensions: 2 or 3.
        stage: where to.
    """

    def __init__(self, settings: NetworkSettings, dimensions: int, stage: int) -> None:
        super().__init__()
        after, kernels, strides = settings.features[stage], settings.kernels, settings.strides
        self.transp_conv_init = _enlarge(dimensions, settings.features[-1], after, strides[-1])
        self.blocks = nn.ModuleList(
            nn.Sequential(
                _enlarge(dimensions, after, after, strides[i]),
                UnetResBlock(dimensions, after, after, kernels[i - 1], 1, "instance"),
            )
            for i in range(len(strides) - 2, stage, -1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,width,*grid of tokens) float -> (B,F,*spatial of the stage)."""
        x = self.transp_conv_init(x)
        for block in self.blocks:
            x = block(x)
        return x


def _transformer(settings: NetworkSettings, dimensions: int, input_channels: int) -> ViT:
    width = settings.features[-1]
    heads = next(n for n in range(max(1, width // HEAD_FEATURES), 0, -1) if width % n == 0)
    transformer = ViT(
        input_channels,
        tuple(settings.options["patch_size"]),
        total_strides(settings),
        hidden_size=width,
        mlp_dim=4 * width,
        num_layers=int(settings.options.get("layers", LAYERS)),
        num_heads=heads,
        spatial_dims=dimensions,
    )
    for block in transformer.blocks:
        # The same numbers, without keeping tokens x tokens of them.
        block.get_submodule("attn").use_flash_attention = True  # type: ignore[assignment]
        for unused in ("cross_attn", "norm_cross_attn"):
            if hasattr(block, unused):
                setattr(block, unused, nn.Identity())
    return transformer


def _enlarge(dimensions: int, before: int, after: int, stride: tuple[int, ...]) -> nn.Module:
    return get_conv_layer(dimensions, before, after, kernel_size=stride, stride=stride, is_transposed=True)


def _usual_features(features: tuple[int, ...]) -> tuple[int, ...]:
    """As published where a plain U-Net has 32 in its first stage: 16, 32, 64, 128 and a transformer 768 wide."""
    return (*(features[0] // 2 * 2**i for i in range(len(features) - 1)), WIDENING * features[0])


def _as_volume(tokens: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
    """(B,tokens,width) -> (B,width,*grid)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


UNETR = Architecture(
    build=build_unetr,
    traits=NetworkTraits(
        follows=TOPOLOGY - {"encoder_blocks", "decoder_blocks"},
        needs_patch_size=True,
        fixed_input_size=True,
        options=("layers",),
        most_halvings=4,  # a token of 16 voxels along an axis; of 32, a patch would be a handful of tokens
        usual_features=_usual_features,
        encoder=encoder_named("vit.", "encoder"),
    ),
)
