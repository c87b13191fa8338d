"""Adapter of dynamic-network-architectures to the contract of networks: a list of logits, one name per tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.networks.layers import BATCH_NORMS, CONVOLUTIONS, NORMS
from autoseg.networks.stages import LEAKY_SLOPE, run_stage
from autoseg.networks.traits import BATCH_NORM, CHECKPOINTING, NORM

DROPOUT = "dropout"
OPTIONS = (DROPOUT, NORM)  # of networks that are made of these arguments
_NORMS = {"instance": NORMS, BATCH_NORM: BATCH_NORMS}


def architecture_arguments(
    settings: NetworkSettings, dimensions: int, input_channels: int, output_channels: int
) -> dict[str, Any]:
    """Layers of both U-Nets: a norm with weights, leaky ReLU 0.01, biased convolutions.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on network architecture, with instance norm
    unless the option ``norm`` is another.

    Raises:
        PlanError: the norm is unknown.
    """
    return {
        "input_channels": input_channels,
        "n_stages": len(settings.features),
        "features_per_stage": settings.features,
        "conv_op": CONVOLUTIONS[dimensions],
        "kernel_sizes": settings.kernels,
        "strides": settings.strides,
        "num_classes": output_channels,
        # The plan counts from the finest stage, this argument from the coarsest.
        "n_conv_per_stage_decoder": settings.decoder_blocks[::-1],
        "conv_bias": True,
        "norm_op": _read_norm(settings)[dimensions],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"negative_slope": LEAKY_SLOPE, "inplace": True},
        "deep_supervision": settings.deep_supervision,
    }


def _read_norm(settings: NetworkSettings) -> dict[int, type[nn.Module]]:
    """The option ``norm``, by number of axes."""
    name = settings.options.get(NORM, "instance")
    if not isinstance(name, str) or name not in _NORMS:
        raise PlanError(f"network '{settings.name}' has norm {name!r}; choose from: {', '.join(_NORMS)}")
    return _NORMS[name]


def read_dropout(settings: NetworkSettings) -> float:
    """The option ``dropout``: at least 0, below 1.

    Raises:
        PlanError: it is something else.
    """
    share = settings.options.get(DROPOUT, 0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise PlanError(f"network '{settings.name}' has dropout {share!r}; use a share from 0 to below 1, as 0.2")
    return float(share)


class EncoderDecoder(nn.Module):
    """An encoder and a decoder of dynamic-network-architectures under our contract.

    Parameter names are nnU-Net's own (``encoder.stages...``, ``decoder...``), without the second and third name
    each tensor has there, so its checkpoints load by name and files of ours hold every tensor once.

    Args:
        architecture: one of its U-Nets, an ``nn.Module`` with ``encoder`` and ``decoder``, taken apart.
        settings: deep supervision, checkpointing, and ``dropout``: the share of values dropped after every
            activation while training; last in its block, so that no name of a weight depends on it.
        gates: per decoder stage, coarsest first, ``gate(x, skip) -> skip``; None passes skips on as they are.
    """

    def __init__(self, architecture: Any, settings: NetworkSettings, gates: nn.ModuleList | None = None) -> None:
        super().__init__()
        self.encoder = architecture.encoder
        self.decoder = architecture.decoder
        self.gates = gates
        self.deep_supervision = settings.deep_supervision
        self.checkpointing = bool(settings.options.get(CHECKPOINTING, False))
        dropout = read_dropout(settings)
        self.draws = dropout > 0
        del self.decoder.encoder
        for module in self.modules():
            if isinstance(module, ConvDropoutNormReLU):
                if self.draws and hasattr(module, "nonlin"):
                    module.all_modules.append(nn.Dropout(dropout))
                # All of them live on in ``all_modules``, the only one that its forward calls.
                for name in ("conv", "norm", "nonlin"):
                    if hasattr(module, name):
                        delattr(module, name)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,*spatial) float -> logits (B,K,*spatial of each output), finest first."""
        skips = []
        for index in range(len(self.encoder.stages)):
            x = self._run(self._encode, x, index)
            skips.append(x)
        x = skips.pop()
        logits: list[torch.Tensor] = []
        for index, head in enumerate(self.decoder.seg_layers):
            skip = skips.pop()
            x = self._run(self._decode, x, skip, index)
            if self.deep_supervision or not skips:
                logits.insert(0, head(x))
        return logits

    def _run(self, stage: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
        return run_stage(stage, *inputs, checkpointing=self.checkpointing, within=self, draws=self.draws)

    def _encode(self, x: torch.Tensor, index: int) -> torch.Tensor:
        stem = getattr(self.encoder, "stem", None)
        if index == 0 and stem is not None:
            x = stem(x)
        return self.encoder.stages[index](x)

    def _decode(self, below: torch.Tensor, skip: torch.Tensor, index: int) -> torch.Tensor:
        x = self.decoder.transpconvs[index](below)
        if self.gates is not None:
            skip = self.gates[index](x, skip)
        x = torch.cat((x, skip), 1)  # under the same name, so that the smaller one dies before the stage begins
        return self.decoder.stages[index](x)
