"""Input of the terms of a loss, and the sums and means that terms share.

No target is unrolled to one number per class: a channel's mask is made when it is its turn, and cross-entropy looks up
the one label of a voxel. Half-precision logits are raised to float32 first, so sums over a volume stay exact enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Regions = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class LossContext:
    """One output of the network beside its target, and what a loss prepares for its terms.

    Attributes:
        logits: (B,K,*spatial) float, one channel per label (softmax), or per region (sigmoid) when there are any.
        target: (B,*spatial) integer label values; two or three spatial axes.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way.
        overlap_weights: (B,1,*spatial) or (B,K,*spatial) float, weight of a voxel in overlaps; None weighs all alike.
        entropy_weights: the same in cross-entropies: (B,1,*spatial), or with regions (B,K,*spatial).
        lesions: connected components of the target; None unless a loss prepares them, or where there are none.
        cells: the part of the volume that is nearest to each lesion.
    """

    logits: Tensor
    target: Tensor
    regions: Regions = ()
    ignore_label: int | None = None
    overlap_weights: Tensor | None = None
    entropy_weights: Tensor | None = None
    lesions: Lesions | None = None
    cells: Sequence[Cell] = ()

    @property
    def full_logits(self) -> Tensor:
        """The logits in float32, or float64 as they are."""
        return raise_precision(self.logits)

    @property
    def probabilities(self) -> Tensor:
        """(B,K,*spatial) float."""
        return self.full_logits.sigmoid() if self.regions else self.full_logits.softmax(1)

    @property
    def valid(self) -> Tensor | None:
        """(B,*spatial) bool, False where the label is ignored; None when nothing ever is."""
        return None if self.ignore_label is None else self.target != self.ignore_label

    @property
    def inside(self) -> Tensor:
        """(B,1,*spatial) bool, any label but background; with regions (B,K,*spatial), the voxels of each."""
        return stack_regions(self.target, self.regions) if self.regions else (self.target != 0)[:, None]

    @cached_property
    def overlap(self) -> Counts:
        """Soft voxel counts of every label but background, or of every region."""
        return self.count_overlap(first=0 if self.regions else 1)

    def count_overlap(self, *, first: int) -> Counts:
        """Soft voxel counts of the channels from ``first`` on; ignored voxels count nowhere."""
        target, regions, valid, weights = self.target, self.regions, self.valid, self.overlap_weights

        # Holds no reference to the context: the graph keeps this function, the context keeps its result, and memory
        # of such a circle through autograd is never freed.
        def masks(channel: int) -> tuple[Tensor, Tensor | None]:
            mask: Tensor = label_mask(target, channel, regions)
            if weights is None:
                return mask, valid
            weight = weights[:, min(channel, weights.shape[1] - 1)]
            return mask * weight, weight if valid is None else weight * valid

        intersection, predicted = _SoftSums.apply(self.probabilities, first, masks)
        axes = tuple(range(1, target.ndim))
        reference = [masks(channel)[0].sum(axes).to(predicted.dtype) for channel in range(first, self.logits.shape[1])]
        return Counts(intersection=intersection, predicted=predicted, reference=torch.stack(reference, dim=1))

    def voxel_cross_entropy(self) -> Tensor:
        """Cross-entropy of every voxel, (B,1,*spatial) float; with regions binary cross-entropy, (B,K,*spatial).

        It is 0 where the label is ignored.
        """
        if not self.regions:
            ignored = -100 if self.ignore_label is None else self.ignore_label
            labels = self.target.long()
            return functional.cross_entropy(self.full_logits, labels, ignore_index=ignored, reduction="none")[:, None]
        # -log of the probability of the right answer is softplus of minus the logit inside, and of the logit outside.
        signs = self.inside.to(torch.int8).mul_(-2).add_(1)
        values = functional.softplus(self.full_logits * signs)
        return values if self.valid is None else values * self.valid[:, None]

    def average_voxels(self, values: Tensor, class_weights: Sequence[float] | None) -> Tensor:
        """Weighted mean of (B,J,*spatial) values of voxels; 0 where no voxel counts, with slopes of 0.

        Args:
            class_weights: one per channel of the network.
        """
        valid = self.valid
        weights = None if valid is None else valid[:, None]
        if class_weights is not None:
            table = fill(class_weights, torch.float32, self.target.device)
            if self.regions:
                by_class = table.reshape(1, -1, *(1 for _ in self.target.shape[1:]))
            else:
                labels = self.target.long() if valid is None else self.target.long().masked_fill(~valid, 0)
                by_class = table[labels][:, None]
            weights = by_class if weights is None else weights * by_class
        if self.entropy_weights is not None:
            weights = self.entropy_weights if weights is None else weights * self.entropy_weights
        if weights is None:
            return values.mean()
        total = weights.expand_as(values).sum(dtype=values.dtype)
        return (values * weights).sum() / floor_total(total)

    @cached_property
    def lesion_log_probabilities(self) -> Tensor:
        """(V,) float, log of the probability of each lesion voxel's own channel."""
        assert self.lesions is not None
        logits = raise_precision(self.logits.flatten(2)[self.lesions.sample, :, self.lesions.voxel])
        logs = functional.logsigmoid(logits) if self.regions else logits.log_softmax(1)
        return logs.gather(1, self.lesions.channel[:, None])[:, 0]


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """The lesions of a batch of labels; V voxels of N lesions.

    Attributes:
        sample, channel, voxel: (V,) int64, where each voxel lies: sample, output channel and place in the flattened
            volume.
        number: (V,) int64, its lesion, from 0.
        sizes: (N,) float32 voxels of each lesion.
        owner: (N,) int64, a voxel of each lesion, as an index into the V.
    """

    sample: Tensor
    channel: Tensor
    voxel: Tensor
    number: Tensor
    sizes: Tensor
    owner: Tensor


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The cells of one sample's channel.

    Attributes:
        sample, channel: where they lie.
        voxels: (V,) int64, the voxels that count, in the flattened volume; or all.
        lesion: (V,) int64, the lesion in whose cell each voxel lies.
    """

    sample: int
    channel: int
    voxels: Tensor | slice
    lesion: Tensor


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Soft voxel counts of every sample and channel, (B,K) float; (1,K) for a whole batch.

    Attributes:
        intersection: of prediction and reference.
        predicted, reference: of each alone.
    """

    intersection: Tensor
    predicted: Tensor
    reference: Tensor

    def pool(self) -> Counts:
        """The counts of all samples together."""
        return Counts(
            intersection=self.intersection.sum(0, keepdim=True),
            predicted=self.predicted.sum(0, keepdim=True),
            reference=self.reference.sum(0, keepdim=True),
        )

    def dice(self, *, smooth: float) -> Tensor:
        """(B,K) soft Dice, 2 |P and R| / (|P| + |R|).

        Source: V-Net, arXiv:1606.04797, without its squares.
        """
        return (2 * self.intersection + smooth) / (self.predicted + self.reference + smooth)


class _SoftSums(torch.autograd.Function):
    """Sums of each channel within its mask and over all voxels that count.

    Both are linear in the probabilities, so the backward pass needs masks alone, and rebuilds rather than keeps them.
    """

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, first: int, masks: Masks) -> tuple[Tensor, Tensor]:
        """Two (B,K - first) float tensors of (B,K,*spatial) probabilities.

        Args:
            ctx: keeps what the backward pass needs.
            first: number of the first channel.
            masks: channel -> its mask and the voxels that count, (B,*spatial) bool or float; None counts all.
        """
        ctx.masks, ctx.first, ctx.shape = masks, first, probabilities.shape
        axes = tuple(range(1, probabilities.ndim - 1))
        intersection, predicted = [], []
        for channel in range(first, probabilities.shape[1]):
            mask, counted = masks(channel)
            values = probabilities[:, channel]
            intersection.append((values * mask).sum(axes))
            predicted.append((values if counted is None else values * counted).sum(axes))
        return torch.stack(intersection, dim=1), torch.stack(predicted, dim=1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        """The slope of the probabilities, channel by channel."""
        total = slopes[0].new_zeros(ctx.shape)
        size = (-1, *(1 for _ in ctx.shape[2:]))
        for channel in range(ctx.first, ctx.shape[1]):
            mask, counted = ctx.masks(channel)
            of_intersection, of_predicted = (slope[:, channel - ctx.first].reshape(size) for slope in slopes)
            total[:, channel] = of_predicted if counted is None else counted * of_predicted
            total[:, channel] += mask * of_intersection
        return total, None, None


Masks = Callable[[int], tuple[Tensor, "Tensor | None"]]


def average_channels(values: Tensor, class_weights: Sequence[float] | None) -> Tensor:
    """Mean of (B,K') values of the last K' channels, weighted by class where there are weights.

    Args:
        class_weights: one per channel of the network; those of channels before the last K' are not used.
    """
    if class_weights is None:
        return values.mean()
    weights = fill(class_weights, values.dtype, values.device)[-values.shape[1] :]
    return (values.mean(0) * weights).sum() / floor_total(weights.sum())


def fill(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers as a tensor, made on the device: a copy would wait for all that a GPU has yet to do."""
    return torch.stack([torch.full((), number, dtype=dtype, device=device) for number in numbers])


def floor_total(total: Tensor) -> Tensor:
    """A sum of weights to divide by: 0, of which everything above the line is 0 too, becomes a tiny number."""
    return total.clamp_min(torch.finfo(torch.float32).tiny)


def raise_precision(logits: Tensor) -> Tensor:
    """float32, or float64 as it is."""
    return logits if logits.dtype == torch.float64 else logits.float()


def label_mask(target: Tensor, channel: int, regions: Regions) -> Tensor:
    """(B,*spatial) bool: the voxels of one label, or of one region when there are any; never an ignored one."""
    if not regions:
        return target == channel
    first, *others = regions[channel]
    inside = target == first
    for label in others:  # a few comparisons are ten times quicker than one isin
        inside |= target == label
    return inside


def stack_regions(target: Tensor, regions: Regions) -> Tensor:
    """(B,R,*spatial) bool, the voxels of every region."""
    return torch.stack([label_mask(target, region, regions) for region in range(len(regions))], dim=1)
