"""Shared parts of networks: initial weights, and stages with activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

LEAKY_SLOPE = 0.01
ALL_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
ALL_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def run_stage(
    stage: Callable[..., torch.Tensor],
    *inputs: Any,
    checkpointing: bool,
    within: nn.Module | None = None,
    draws: bool = False,
) -> torch.Tensor:
    """Apply a stage, optionally with activation checkpointing: the backward pass recomputes it from its inputs.

    Args:
        within: module with the stage's batch norms, if any; recomputed, they must not count the same batch twice.
        draws: the stage has random layers; recomputed, they must draw the same numbers.

    Source: Chen et al. 2016, arXiv 1604.06174.
    """
    if not (checkpointing and torch.is_grad_enabled()):
        return stage(*inputs)
    norms = [] if within is None else [module for module in within.modules() if isinstance(module, ALL_BATCH_NORMS)]
    return checkpoint(
        stage,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=draws,
        context_fn=lambda: (nullcontext(), _keep_statistics(norms)),
    )


@contextmanager
def _keep_statistics(norms: Sequence[Any]) -> Iterator[None]:
    """Freeze the running statistics of batch norms; they still normalise by the batch."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches


def initialise_convolutions(network: nn.Module) -> None:
    """Draw every convolution's weights from a normal distribution scaled to its fan-in; biases start at 0.

    Source: He et al. 2015, arXiv 1502.01852, eq. 14-15 with the slope of the leaky ReLU.
    """
    for module in network.modules():
        if isinstance(module, ALL_CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
