"""Terms in which every lesion of the reference is compared in its own part of the volume: what lies nearest to it.

A lesion is a connected component of one label or region; its cell is every voxel that has no other lesion of that
channel nearer. Within the cell its channel has a Dice and a mean cross-entropy, so that a false positive counts against
the lesion beside it and a small lesion weighs as much as a large one. A sample's channel without lesion has no cells.

Source: the cells as in CC-Metrics, Jaus et al. 2024, arXiv:2410.18684; as a loss, Bouteille et al. 2025,
arXiv:2511.17146. Distances are in voxels, and the mean goes over all lesions of the batch.

Cost: as in ``blob``, and a distance transform on the CPU for each channel of a sample that holds two lesions or more
(about 0.1 s a million voxels).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from autoseg.losses.blob import add_lesions
from autoseg.losses.context import Cell, Counts, Lesions, LossContext, label_mask
from autoseg.losses.loss import Positive


def add_cells(context: LossContext) -> LossContext:
    """The same context with the connected components of its target and the cells around them."""
    context = add_lesions(context)
    return replace(context, cells=() if context.lesions is None else tuple(divide(context, context.lesions)))


def cell_dice(context: LossContext, *, smooth: Positive = 1e-5) -> Tensor:
    """1 - mean soft Dice of the cells.

    Args:
        smooth: added above and below the fraction.
    """
    assert context.lesions is not None
    sizes = context.lesions.sizes
    probabilities = context.probabilities.flatten(2)
    intersection, predicted = (probabilities.new_zeros(len(sizes)) for _ in range(2))
    for cell in context.cells:
        values = probabilities[cell.sample, cell.channel][cell.voxels]
        inside = label_mask(context.target[cell.sample], cell.channel, context.regions).flatten()[cell.voxels]
        intersection = intersection.index_add(0, cell.lesion, values * inside)
        predicted = predicted.index_add(0, cell.lesion, values)
    return 1 - Counts(intersection=intersection, predicted=predicted, reference=sizes).dice(smooth=smooth).mean()


def cell_cross_entropy(context: LossContext) -> Tensor:
    """Mean over the cells of the mean cross-entropy of their voxels."""
    assert context.lesions is not None
    entropy = context.voxel_cross_entropy().flatten(2)
    total, sizes = (entropy.new_zeros(len(context.lesions.sizes)) for _ in range(2))
    for cell in context.cells:
        values = entropy[cell.sample, cell.channel if context.regions else 0][cell.voxels]
        total = total.index_add(0, cell.lesion, values)
        sizes = sizes.index_add(0, cell.lesion, torch.ones_like(values))
    return (total / sizes).mean()


def divide(context: LossContext, lesions: Lesions) -> Iterator[Cell]:
    """The cells of every sample's channel that has lesions."""
    target, valid = context.target, context.valid
    for sample, channel in torch.stack([lesions.sample, lesions.channel], dim=1).unique(dim=0).tolist():
        in_channel = (lesions.sample == sample) & (lesions.channel == channel)
        voxels, numbers = lesions.voxel[in_channel], lesions.number[in_channel]
        if bool((numbers == numbers[0]).all()):
            nearest = numbers[:1].expand(target[sample].numel())
        else:
            seeds = np.full(target[sample].numel(), -1, np.int64)
            seeds[voxels.cpu().numpy()] = numbers.cpu().numpy()
            seeds = seeds.reshape(target.shape[1:])
            indices = ndimage.distance_transform_edt(seeds < 0, return_distances=False, return_indices=True)
            nearest = torch.from_numpy(seeds[tuple(indices)].ravel()).to(target.device)
        counted = slice(None) if valid is None else valid[sample].flatten().nonzero()[:, 0]
        yield Cell(sample=sample, channel=channel, voxels=counted, lesion=nearest[counted])
