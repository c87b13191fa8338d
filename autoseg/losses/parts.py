"""What losses are made of: probabilities beside a one-hot target, their overlap, and a loss value per voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

Regions = Sequence[Sequence[int]]


def compare(logits: Tensor, target: Tensor, regions: Regions, ignore_label: int | None) -> tuple[Tensor, Tensor]:
    """Probabilities and what they should be, both zero where the label is ignored.

    Args:
        logits: (B,K,*spatial) float, one channel per label (softmax), or per region (sigmoid) when there are any.
        target: (B,*spatial) integer label values.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.

    Returns:
        (B,K,*spatial) float32 probabilities and (B,K,*spatial) bool target.
    """
    logits = logits.float()
    counted = counted_voxels(target, ignore_label)
    if regions:
        probabilities, wanted = logits.sigmoid(), region_maps(target, regions)
    else:
        labels = label_indices(target, ignore_label)
        probabilities = logits.softmax(1)
        wanted = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], True)
    if counted is not None:
        probabilities, wanted = probabilities * counted[:, None], wanted & counted[:, None]
    return probabilities, wanted


def overlap(probabilities: Tensor, wanted: Tensor, *, whole_batch: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Soft voxel counts of the intersection, the prediction and the reference.

    Args:
        probabilities: (B,K,*spatial) float32.
        wanted: (B,K,*spatial) bool.
        whole_batch: count over all samples together.

    Returns:
        Three float32 tensors, (B,K), or (1,K) for the whole batch.
    """
    axes = tuple(range(2, probabilities.ndim))
    sums = ((probabilities * wanted).sum(axes), probabilities.sum(axes), wanted.sum(axes).float())
    if whole_batch:
        return sums[0].sum(0, keepdim=True), sums[1].sum(0, keepdim=True), sums[2].sum(0, keepdim=True)
    return sums


def voxel_cross_entropy(logits: Tensor, target: Tensor, regions: Regions, ignore_label: int | None) -> Tensor:
    """Cross-entropy of every voxel that counts, or binary cross-entropy of every voxel and region.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.

    Returns:
        (N,) float32 without regions, (N,K) with them; N voxels that are not ignored.
    """
    logits = logits.float()
    if regions:
        wanted = region_maps(target, regions).float()
        values = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").movedim(1, -1)
    else:
        values = functional.cross_entropy(logits, label_indices(target, ignore_label), reduction="none")
    counted = counted_voxels(target, ignore_label)
    return values.flatten(0, target.ndim - 1) if counted is None else values[counted]


def mean_value(values: Tensor) -> Tensor:
    """The mean; 0 where no voxel counts, so that a fully ignored patch moves nothing."""
    return values.sum() / max(values.numel(), 1)


def counted_voxels(target: Tensor, ignore_label: int | None) -> Tensor | None:
    """(B,*spatial) bool, False where the label is ignored; None when nothing ever is."""
    return None if ignore_label is None else target != ignore_label


def label_indices(target: Tensor, ignore_label: int | None) -> Tensor:
    """(B,*spatial) int64 label values with background in place of the ignored one, which has no channel."""
    return target.long() if ignore_label is None else target.long().masked_fill(target == ignore_label, 0)


def region_maps(target: Tensor, regions: Regions) -> Tensor:
    """(B,R,*spatial) bool: which voxels belong to each region."""
    return torch.stack([torch.isin(target, target.new_tensor(list(labels))) for labels in regions], dim=1)
