"""What losses are made of: soft voxel counts of every output, and a cross-entropy for every voxel.

No target is unrolled to one number per class: a channel's mask is made when it is its turn, and cross-entropy looks up
the one label of a voxel. Half-precision logits are raised to float32 first, so sums over a volume stay exact enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Regions = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Soft voxel counts of every sample and channel, (B,K) float; (1,K) for a whole batch.

    Attributes:
        shared: of the intersection of prediction and reference.
        predicted, reference: of each alone.
    """

    shared: Tensor
    predicted: Tensor
    reference: Tensor

    def pool(self) -> Counts:
        """The counts of all samples together."""
        sums = (part.sum(0, keepdim=True) for part in (self.shared, self.predicted, self.reference))
        return Counts(**dict(zip(("shared", "predicted", "reference"), sums, strict=True)))


def count_overlap(
    logits: Tensor,
    target: Tensor,
    regions: Regions,
    ignore_label: int | None,
    *,
    first: int,
    weights: Tensor | None = None,
) -> Counts:
    """Soft voxel counts of the channels from ``first`` on; ignored voxels count nowhere.

    Args:
        logits: (B,K,*spatial) float, one channel per label (softmax), or per region (sigmoid) when there are any.
        target: (B,*spatial) integer label values.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        weights: (B,1,*spatial) or (B,K,*spatial) float, what a voxel counts; None counts each as 1.
    """
    numbers = raise_precision(logits)
    probabilities = numbers.sigmoid() if regions else numbers.softmax(1)
    counted = find_counted(target, ignore_label)

    def look(channel: int) -> tuple[Tensor, Tensor | None]:
        mask: Tensor = find_members(target, channel, regions)
        if weights is None:
            return mask, counted
        weight = weights[:, min(channel, weights.shape[1] - 1)]
        return mask * weight, weight if counted is None else weight * counted

    shared, predicted = _SoftSums.apply(probabilities, first, look)
    axes = tuple(range(1, target.ndim))
    reference = [look(channel)[0].sum(axes).to(shared.dtype) for channel in range(first, logits.shape[1])]
    return Counts(shared=shared, predicted=predicted, reference=torch.stack(reference, dim=1))


Look = Callable[[int], tuple[Tensor, "Tensor | None"]]


class _SoftSums(torch.autograd.Function):
    """Sums of each channel within its mask and over all that is considered.

    Both are linear in the probabilities, so the way back needs masks alone, and those are made again rather than kept.
    """

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, first: int, look: Look) -> tuple[Tensor, Tensor]:
        """Two (B,K - first) float tensors of (B,K,*spatial) probabilities.

        Args:
            ctx: keeps what the way back needs.
            first: channel to begin with.
            look: channel -> its mask and what is considered, (B,*spatial) bool or float; None considers everything.
        """
        ctx.look, ctx.first, ctx.shape = look, first, probabilities.shape
        axes = tuple(range(1, probabilities.ndim - 1))
        shared, predicted = [], []
        for channel in range(first, probabilities.shape[1]):
            mask, considered = look(channel)
            own = probabilities[:, channel]
            shared.append((own * mask).sum(axes))
            predicted.append((own if considered is None else own * considered).sum(axes))
        return torch.stack(shared, dim=1), torch.stack(predicted, dim=1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        """The slope of the probabilities, channel by channel."""
        total = slopes[0].new_zeros(ctx.shape)
        size = (-1, *(1 for _ in ctx.shape[2:]))
        for channel in range(ctx.first, ctx.shape[1]):
            mask, considered = ctx.look(channel)
            of_shared, of_predicted = (slope[:, channel - ctx.first].reshape(size) for slope in slopes)
            total[:, channel] = of_predicted if considered is None else considered * of_predicted
            total[:, channel] += mask * of_shared
        return total, None, None


def measure_dice(counts: Counts, *, smooth: float) -> Tensor:
    """(B,K) soft Dice, 2 |P and R| / (|P| + |R|).

    Source: V-Net, arXiv:1606.04797, without its squares.
    """
    return (2 * counts.shared + smooth) / (counts.predicted + counts.reference + smooth)


def average_channels(values: Tensor, class_weights: Sequence[float] | None) -> Tensor:
    """Mean of (B,K') values of the last K' channels; with weights, each channel counts as its own says.

    Args:
        class_weights: one per channel of the network; those of channels that are left out are not looked at.
    """
    if class_weights is None:
        return values.mean()
    weights = values.new_tensor(class_weights)[-values.shape[1] :]
    return (values.mean(0) * weights).sum() / floor_total(weights.sum())


def voxel_cross_entropy(logits: Tensor, target: Tensor, regions: Regions, ignore_label: int | None) -> Tensor:
    """Cross-entropy of every voxel, or binary cross-entropy of every voxel and region; 0 where the label is ignored.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.

    Returns:
        (B,1,*spatial) float without regions, (B,K,*spatial) with them.
    """
    numbers = raise_precision(logits)
    if not regions:
        ignored = -100 if ignore_label is None else ignore_label
        return functional.cross_entropy(numbers, target.long(), ignore_index=ignored, reduction="none")[:, None]
    wanted = torch.stack([find_members(target, region, regions) for region in range(len(regions))], dim=1)
    # -log of the probability of the right answer is softplus of minus the logit inside, and of the logit outside.
    signs = wanted.to(torch.int8).mul_(-2).add_(1)
    values = functional.softplus(numbers * signs)
    counted = find_counted(target, ignore_label)
    return values if counted is None else values * counted[:, None]


def weigh_voxels(
    target: Tensor,
    regions: Regions,
    ignore_label: int | None,
    *,
    class_weights: Sequence[float] | None = None,
    weights: Tensor | None = None,
) -> Tensor | None:
    """What each value of ``voxel_cross_entropy`` counts; None where all count alike.

    Args:
        target: (B,*spatial) integer.
        class_weights: one per channel of the network.
        weights: (B,1,*spatial) or (B,K,*spatial) float, what a voxel counts besides.

    Returns:
        (B,1,*spatial) float or bool; with regions perhaps (B,K,*spatial).
    """
    counted = find_counted(target, ignore_label)
    product = None if counted is None else counted[:, None]
    if class_weights is not None:
        table = torch.tensor(class_weights, device=target.device)
        if regions:
            own = table.reshape(1, -1, *(1 for _ in target.shape[1:]))
        else:
            labels = target.long() if counted is None else target.long().masked_fill(~counted, 0)
            own = table[labels][:, None]
        product = own if product is None else product * own
    if weights is not None:
        product = weights if product is None else product * weights
    return product


def average_voxels(values: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean of (B,J,*spatial) values; 0 where nothing counts, so that a fully ignored patch moves nothing."""
    if weights is None:
        return values.mean()
    total = weights.expand_as(values).sum(dtype=values.dtype)
    return (values * weights).sum() / floor_total(total)


def sum_parts(*parts: tuple[float, Callable[[], Tensor]]) -> Tensor:
    """Weighted sum of the parts of a loss; one that weighs 0 is not computed. At least one weighs more."""
    return torch.stack([weight * compute() for weight, compute in parts if weight > 0]).sum()


def floor_total(total: Tensor) -> Tensor:
    """A sum of weights to divide by: 0, of which everything above the line is 0 too, becomes a tiny number."""
    return total.clamp_min(torch.finfo(torch.float32).tiny)


def raise_precision(logits: Tensor) -> Tensor:
    """float32, or float64 as it is."""
    return logits if logits.dtype == torch.float64 else logits.float()


def find_counted(target: Tensor, ignore_label: int | None) -> Tensor | None:
    """(B,*spatial) bool, False where the label is ignored; None when nothing ever is."""
    return None if ignore_label is None else target != ignore_label


def find_members(target: Tensor, channel: int, regions: Regions) -> Tensor:
    """(B,*spatial) bool: the voxels of one label, or of one region when there are any; never an ignored one."""
    if not regions:
        return target == channel
    first, *others = regions[channel]
    inside = target == first
    for label in others:  # a few comparisons are ten times quicker than one isin
        inside |= target == label
    return inside
