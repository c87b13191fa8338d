"""Masked-block pre-training without labels: patches with some blocks masked, and the reconstruction loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autoseg.core.errors import UsageError

BLOCKS_PER_AXIS = 8
MASKED_SHARE = 0.75
_STREAM = 7_001  # keeps these random numbers apart from those of sampling


class BatchSource(Protocol):
    """Source of the batch of a step; its labels are not used."""

    def batch(self, step: int, stage: int) -> tuple[Tensor, Tensor]:
        """(B,C,*patch) float32, and anything."""


class MaskedBatches:
    """Batches of patches with some blocks masked; the target holds the whole patch and the mask.

    The batch of a step depends on the seed and the step alone.

    Args:
        source: of patches.
        block: voxels per axis of a block.
        share: of masked blocks.
        seed: of the blocks.

    Source: He et al. 2022, arXiv:2111.06377; in volumes: Wald et al. 2024, arXiv:2410.23132.
    """

    def __init__(self, source: BatchSource, *, block: Sequence[int], share: float, seed: Sequence[int]) -> None:
        self.source, self.block, self.share, self.seed = source, block, share, seed

    def batch(self, step: int, stage: int = 0) -> tuple[Tensor, Tensor]:
        """The batch of one step of a stage.

        Returns:
            (B,C,*patch) float32, 0 in masked blocks; and (B,C+1,*patch) float32, the whole patch and last the mask.
        """
        image, _ = self.source.batch(step, stage)
        random = np.random.default_rng(np.random.SeedSequence([*self.seed, _STREAM, step]))
        masks = [draw_mask(random, image.shape[2:], self.block, self.share) for _ in range(len(image))]
        mask = torch.from_numpy(np.stack(masks)[:, None]).to(image.device, image.dtype)
        return image * (1 - mask), torch.cat((image, mask), 1)


def choose_block(patch: Sequence[int]) -> tuple[int, ...]:
    """Voxels per axis of a block: an eighth of the patch."""
    return tuple(max(1, math.ceil(n / BLOCKS_PER_AXIS)) for n in patch)


def draw_mask(random: np.random.Generator, patch: Sequence[int], block: Sequence[int], share: float) -> np.ndarray:
    """(*patch) bool, True in masked blocks: the share of all, rounded, at least one and never all.

    Raises:
        UsageError: the patch is a single block.
    """
    grid = [math.ceil(n / b) for n, b in zip(patch, block, strict=True)]
    count = math.prod(grid)
    if count < 2:
        raise UsageError(f"a patch of {tuple(patch)} voxels is a single block of {tuple(block)}; plan a larger patch")
    masked = np.zeros(count, bool)
    masked[random.permutation(count)[: min(max(1, round(share * count)), count - 1)]] = True
    blocks = masked.reshape(grid)
    for axis, b in enumerate(block):
        blocks = blocks.repeat(b, axis)
    return blocks[tuple(slice(n) for n in patch)]


def masked_loss(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """Mean squared error of the masked voxels, over all channels; visible voxels do not count.

    Args:
        outputs: finest first, of which only that counts: (B,C,*patch).
        target: (B,C+1,*patch), the whole patch and last the mask.

    Source: He et al. 2022, arXiv:2111.06377, section 3.
    """
    predicted, truth, mask = outputs[0].float(), target[:, :-1], target[:, -1:]
    return ((predicted - truth) ** 2 * mask).sum() / (mask.sum() * truth.shape[1])
