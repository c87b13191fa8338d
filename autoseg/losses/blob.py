"""Lesions of a batch, and terms in which every lesion of the reference counts alike, whatever its size.

Source: blob loss, Kofler et al. 2022, arXiv:2205.08209. Two departures: the mean goes over the lesions of the batch,
not of each sample first, and the cross-entropy of a lesion is the mean over its own voxels. Over all that is left when
other lesions are out, it would be mostly background, and a lesion would count by its size again.

Cost: the target goes to the CPU, where lesions are numbered (about 15 ms a million voxels); the lesions together then
cost one more pass over the logits however many they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from autoseg.core.masks import connected_components
from autoseg.losses.context import Counts, Lesions, LossContext, Regions, label_mask
from autoseg.losses.loss import Positive


def add_lesions(context: LossContext) -> LossContext:
    """The same context with the connected components of its target."""
    return replace(context, lesions=number_lesions(context.target, context.regions, context.ignore_label))


def blob_dice(context: LossContext, *, smooth: Positive = 1e-5) -> Tensor:
    """1 - mean soft Dice of the lesions of the batch, each among the background of its sample's channel.

    All other lesions of that channel are left out, so what a lesion shares with the prediction is its own, and false
    positives count against each.

    Args:
        smooth: added above and below the fraction.
    """
    lesions, counts = context.lesions, context.overlap
    assert lesions is not None
    sample = lesions.sample[lesions.owner]
    channel = lesions.channel[lesions.owner] - (0 if context.regions else 1)
    intersection = _sum_by_lesion(context.lesion_log_probabilities.exp(), lesions)
    false_positive = counts.predicted[sample, channel] - counts.intersection[sample, channel]
    alone = Counts(intersection=intersection, predicted=false_positive + intersection, reference=lesions.sizes)
    return 1 - alone.dice(smooth=smooth).mean()


def blob_cross_entropy(context: LossContext) -> Tensor:
    """Mean over the lesions of the batch of the mean cross-entropy of their voxels."""
    lesions = context.lesions
    assert lesions is not None
    return -(_sum_by_lesion(context.lesion_log_probabilities, lesions) / lesions.sizes).mean()


def number_lesions(target: Tensor, regions: Regions, ignore_label: int | None) -> Lesions | None:
    """Find the connected components of every label or region, sample by sample, on the CPU; None where there are none.

    Args:
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value that is not a lesion.

    Returns:
        Tensors on the target's device.
    """
    if regions:
        members = [label_mask(target, region, regions) * (region + 1) for region in range(len(regions))]
        maps = torch.stack(members, dim=1)
    else:
        maps = (target if ignore_label is None else target.masked_fill(target == ignore_label, 0))[:, None]
    values = np.ascontiguousarray(maps.cpu().numpy())
    rows: list[np.ndarray] = []
    total = 0
    for sample, channel in np.ndindex(values.shape[:2]):
        labels = values[sample, channel]
        numbers, count = connected_components(labels)
        voxels = np.flatnonzero(numbers)
        channels = labels.ravel()[voxels].astype(np.int64) - (1 if regions else 0)
        number = numbers.ravel()[voxels].astype(np.int64) + (total - 1)
        rows.append(np.stack([np.full_like(voxels, sample), channels, voxels, number]))
        total += count
    if total == 0:
        return None
    table = np.concatenate(rows, axis=1)
    owner = np.zeros(total, np.int64)
    owner[table[3]] = np.arange(table.shape[1])
    sizes = np.bincount(table[3], minlength=total).astype(np.float32)
    where = torch.from_numpy(table).to(target.device)
    return Lesions(
        sample=where[0],
        channel=where[1],
        voxel=where[2],
        number=where[3],
        sizes=torch.from_numpy(sizes).to(target.device),
        owner=torch.from_numpy(owner).to(target.device),
    )


def _sum_by_lesion(values: Tensor, lesions: Lesions) -> Tensor:
    """(N,) float, the sum of (V,) values over each lesion's voxels."""
    return values.new_zeros(len(lesions.sizes)).index_add(0, lesions.number, values)
