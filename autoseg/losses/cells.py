"""A loss in which every lesion of the reference is judged in its own part of the volume: what lies nearest to it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from autoseg.losses.blob import Lesions, number_lesions
from autoseg.losses.dice import ce_part, dice_part
from autoseg.losses.options import NotNegative, Positive
from autoseg.losses.parts import (
    Counts,
    Regions,
    find_counted,
    find_members,
    measure_dice,
    raise_precision,
    sum_parts,
    voxel_cross_entropy,
)


def cc_dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    global_weight: NotNegative = 1.0,
    cell_weight: NotNegative = 1.0,
    dice_weight: NotNegative = 1.0,
    ce_weight: NotNegative = 1.0,
    batch_dice: bool = False,
    smooth: Positive = 1e-5,
) -> Tensor:
    """Dice and (binary) cross-entropy of the whole, plus their mean over the cells of the lesions; 0 is perfect.

    A lesion is a connected component of one label or region; its cell is every voxel that has no other lesion of that
    channel nearer. Within the cell its channel has a Dice and a mean cross-entropy, so that a false positive counts
    against the lesion beside it and a small lesion weighs as much as a large one. A sample's channel without lesion
    has no cells; there the whole judges alone.

    Source: the cells as in CC-Metrics, Jaus et al. 2024, arXiv:2410.18684; as a loss, Bouteille et al. 2025,
    arXiv:2511.17146. Distances are in voxels, and the mean goes over all lesions of the batch.

    Cost: as ``blob_dice_ce``, and a distance transform on the CPU for each channel of a sample that holds two lesions
    or more (about 0.1 s a million voxels).

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer, two or three spatial axes.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way, are in no cell and belong to no lesion.
        global_weight, cell_weight: of the whole and of the mean over cells; without lesions the whole is alone.
        dice_weight, ce_weight: of the two parts of each; a part that weighs 0 is not computed.
        batch_dice, smooth: as in ``dice_ce``.
    """
    first = 0 if regions else 1
    whole = sum_parts(
        (
            dice_weight,
            lambda: dice_part(
                logits, target, regions, ignore_label, whole_batch=batch_dice, smooth=smooth, first=first
            ),
        ),
        (ce_weight, lambda: ce_part(logits, target, regions, ignore_label)),
    )
    lesions = number_lesions(target, regions, ignore_label)
    if lesions is None:
        return global_weight * whole
    cells = list(_divide(lesions, target, ignore_label))
    each = sum_parts(
        (dice_weight, lambda: _miss_dice(logits, target, regions, lesions, cells, smooth=smooth)),
        (ce_weight, lambda: _average_ce(logits, target, regions, ignore_label, lesions, cells)),
    )
    return global_weight * whole + cell_weight * each


# Sample and channel; the (V',) int64 voxels that count, or all; and (V',) int64, the lesion in whose cell each lies.
Cell = tuple[int, int, Tensor | slice, Tensor]
Cells = list[Cell]


def _divide(lesions: Lesions, target: Tensor, ignore_label: int | None) -> Iterator[Cell]:
    """The cells of every sample's channel that has lesions."""
    counted = find_counted(target, ignore_label)
    shape = target.shape[1:]
    for sample, channel in torch.stack([lesions.sample, lesions.channel], dim=1).unique(dim=0).tolist():
        own = (lesions.sample == sample) & (lesions.channel == channel)
        voxels, numbers = lesions.voxel[own], lesions.number[own]
        if bool((numbers == numbers[0]).all()):
            cell = numbers[:1].expand(target[sample].numel())
        else:
            seeds = np.full(target[sample].numel(), -1, np.int64)
            seeds[voxels.cpu().numpy()] = numbers.cpu().numpy()
            seeds = seeds.reshape(shape)
            nearest = ndimage.distance_transform_edt(seeds < 0, return_distances=False, return_indices=True)
            cell = torch.from_numpy(seeds[tuple(nearest)].ravel()).to(target.device)
        here = slice(None) if counted is None else counted[sample].flatten().nonzero()[:, 0]
        yield sample, channel, here, cell[here]


def _miss_dice(
    logits: Tensor, target: Tensor, regions: Regions, lesions: Lesions, cells: Cells, *, smooth: float
) -> Tensor:
    """1 - mean soft Dice of the cells."""
    numbers = raise_precision(logits)
    probabilities = (numbers.sigmoid() if regions else numbers.softmax(1)).flatten(2)
    shared, predicted = (probabilities.new_zeros(len(lesions.sizes)) for _ in range(2))
    for sample, channel, here, cell in cells:
        own = probabilities[sample, channel][here]
        inside = find_members(target[sample], channel, regions).flatten()[here]
        shared = shared.index_add(0, cell, own * inside)
        predicted = predicted.index_add(0, cell, own)
    counts = Counts(shared=shared, predicted=predicted, reference=lesions.sizes)
    return 1 - measure_dice(counts, smooth=smooth).mean()


def _average_ce(
    logits: Tensor, target: Tensor, regions: Regions, ignore_label: int | None, lesions: Lesions, cells: Cells
) -> Tensor:
    """Mean over the cells of the mean cross-entropy of their voxels."""
    values = voxel_cross_entropy(logits, target, regions, ignore_label).flatten(2)
    total, sizes = (values.new_zeros(len(lesions.sizes)) for _ in range(2))
    for sample, channel, here, cell in cells:
        own = values[sample, channel if regions else 0][here]
        total = total.index_add(0, cell, own)
        sizes = sizes.index_add(0, cell, torch.ones_like(own))
    return (total / sizes).mean()
