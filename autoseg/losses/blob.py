"""Losses in which every lesion of the reference counts alike, whatever its size."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autoseg.losses.dice import ce_part
from autoseg.losses.options import NotNegative, Positive
from autoseg.losses.parts import Counts, Regions, count_overlap, find_members, measure_dice, raise_precision, sum_parts


def blob_dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    global_weight: NotNegative = 2.0,
    blob_weight: NotNegative = 1.0,
    dice_weight: NotNegative = 1.0,
    ce_weight: NotNegative = 1.0,
    batch_dice: bool = False,
    smooth: Positive = 1e-5,
) -> Tensor:
    """Dice and (binary) cross-entropy of the whole, plus their mean over the lesions of the batch; 0 is perfect.

    A lesion is a connected component of one label or region. Its Dice sees its own channel with all other lesions of
    that channel left out, so what it shares with the prediction is its own, and false positives count against each.

    Source: blob loss, Kofler et al. 2022, arXiv:2205.08209, with the usual weights 2 and 1. Two departures: the
    mean goes over the lesions of the batch, not of each sample first, and the cross-entropy of a lesion is the mean
    over its own voxels. Over all that is left when other lesions are out, it would be mostly background, and a lesion
    would count by its size again.

    Cost: the target goes to the CPU, where lesions are numbered (about 15 ms a million voxels); the lesions together
    then cost one more pass over the logits however many they are.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer, two or three spatial axes.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way and belong to no lesion.
        global_weight, blob_weight: of the whole and of the mean over lesions; without lesions the whole is alone.
        dice_weight, ce_weight: of the two parts of each; a part that weighs 0 is not computed.
        batch_dice, smooth: as in ``dice_ce``.
    """
    first = 0 if regions else 1
    counts = count_overlap(logits, target, regions, ignore_label, first=first)
    pooled = counts.pool() if batch_dice else counts
    whole = sum_parts(
        (dice_weight, lambda: 1 - measure_dice(pooled, smooth=smooth).mean()),
        (ce_weight, lambda: ce_part(logits, target, regions, ignore_label)),
    )
    lesions = number_lesions(target, regions, ignore_label)
    if lesions is None:
        return global_weight * whole
    certainty = _read_certainty(logits, lesions, regions)
    each = sum_parts(
        (dice_weight, lambda: 1 - _measure_dice(counts, certainty.exp(), lesions, first=first, smooth=smooth).mean()),
        (ce_weight, lambda: -(_sum_by_lesion(certainty, lesions) / lesions.sizes).mean()),
    )
    return global_weight * whole + blob_weight * each


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


def number_lesions(target: Tensor, regions: Regions, ignore_label: int | None) -> Lesions | None:
    """Find the connected components of every label or region, sample by sample, on the CPU; None where there are none.

    Args:
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value that is no lesion.

    Returns:
        Tensors on the target's device.
    """
    if regions:
        members = [find_members(target, region, regions) * (region + 1) for region in range(len(regions))]
        maps = torch.stack(members, dim=1)
    else:
        maps = (target if ignore_label is None else target.masked_fill(target == ignore_label, 0))[:, None]
    values = np.ascontiguousarray(maps.cpu().numpy())
    rows: list[np.ndarray] = []
    total = 0
    for sample, channel in np.ndindex(values.shape[:2]):
        labels = values[sample, channel]
        # Voxels that share a corner belong together, as in the fingerprint.
        numbers, count = cc3d.connected_components(labels, connectivity=26 if labels.ndim == 3 else 8, return_N=True)
        voxels = np.flatnonzero(numbers)
        own = labels.ravel()[voxels].astype(np.int64) - (1 if regions else 0)
        number = numbers.ravel()[voxels].astype(np.int64) + (total - 1)
        rows.append(np.stack([np.full_like(voxels, sample), own, voxels, number]))
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


def _read_certainty(logits: Tensor, lesions: Lesions, regions: Regions) -> Tensor:
    """(V,) float, log of the probability that each lesion voxel has in its own channel."""
    own = raise_precision(logits.flatten(2)[lesions.sample, :, lesions.voxel])
    logs = functional.logsigmoid(own) if regions else own.log_softmax(1)
    return logs.gather(1, lesions.channel[:, None])[:, 0]


def _measure_dice(counts: Counts, right: Tensor, lesions: Lesions, *, first: int, smooth: float) -> Tensor:
    """(N,) float, soft Dice of each lesion among the background of its sample's channel.

    Args:
        counts: (B,K - first) of the channels from ``first`` on.
        right: (V,) probability that each lesion voxel has in its own channel.
    """
    sample, channel = lesions.sample[lesions.owner], lesions.channel[lesions.owner] - first
    shared = _sum_by_lesion(right, lesions)
    beside = counts.predicted[sample, channel] - counts.shared[sample, channel]
    alone = Counts(shared=shared, predicted=beside + shared, reference=lesions.sizes)
    return measure_dice(alone, smooth=smooth)


def _sum_by_lesion(values: Tensor, lesions: Lesions) -> Tensor:
    """(N,) float, the sum of (V,) values over each lesion's voxels."""
    return values.new_zeros(len(lesions.sizes)).index_add(0, lesions.number, values)
