"""Losses that look harder at the edges of the reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autoseg.losses.dice import ce_part, dice_part
from autoseg.losses.options import ClassWeights, NotNegative, Positive, Radius
from autoseg.losses.parts import Regions, find_counted, find_members, sum_parts


def boundary_dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    regions: Regions = (),
    ignore_label: int | None = None,
    radius: Radius = 1,
    in_plane: bool = False,
    inside_weight: NotNegative = 5.0,
    outside_weight: NotNegative = 1.0,
    per_class: bool = False,
    batch_dice: bool = False,
    background: bool = False,
    smooth: Positive = 1e-5,
    dice_weight: NotNegative = 1.0,
    ce_weight: NotNegative = 1.0,
    class_weights: ClassWeights = None,
) -> Tensor:
    """Soft Dice loss plus (binary) cross-entropy, both with a weight per voxel that stresses edges; 0 is perfect.

    Source: a weight map that stresses borders, as in U-Net, arXiv:1505.04597; here the map is the morphological
    gradient of the reference, its dilation minus its erosion with a cube.

    Args:
        logits: (B,K,*spatial) float.
        target: (B,*spatial) integer.
        regions: label values of each region, or empty.
        ignore_label: label value of voxels that count neither way; where a lesion meets them is no edge.
        radius: of the cube, voxels of each output's own grid; 1 is a cube of 3 voxels and an edge two voxels wide.
        in_plane: the cube is flat along the first of three axes.
        inside_weight, outside_weight: what a voxel counts near an edge and elsewhere; only their ratio matters for the
            cross-entropy. 1 and 0 leave the edge alone.
        per_class: every label or region has edges of its own, also between two labels; otherwise only those between
            background and everything else count.
        background: background has a Dice, too; without regions.
        batch_dice, smooth, class_weights: as in ``dice_ce``.
        dice_weight, ce_weight: of the two parts; a part that weighs 0 is not computed.
    """
    edges = find_edges(target, regions, ignore_label, logits.shape[1], radius, in_plane=in_plane, per_class=per_class)
    # Cross-entropy without regions has one value per voxel: the edge of any label is an edge.
    shared_edges = edges if regions else edges.any(1, keepdim=True)

    def weigh(near: Tensor) -> Tensor:
        return torch.where(near, inside_weight, outside_weight)

    return sum_parts(
        (
            dice_weight,
            lambda: dice_part(
                logits,
                target,
                regions,
                ignore_label,
                whole_batch=batch_dice,
                smooth=smooth,
                first=0 if regions or background else 1,
                class_weights=class_weights,
                weights=weigh(edges),
            ),
        ),
        (
            ce_weight,
            lambda: ce_part(
                logits, target, regions, ignore_label, class_weights=class_weights, weights=weigh(shared_edges)
            ),
        ),
    )


def find_edges(
    target: Tensor,
    regions: Regions,
    ignore_label: int | None,
    channels: int,
    radius: int,
    *,
    in_plane: bool,
    per_class: bool,
) -> Tensor:
    """Voxels that a cube centred on them shows both inside and outside of the reference; ignored voxels are neither.

    The border of the patch is no edge: what lies beyond is not known.

    Args:
        target: (B,*spatial) integer.
        channels: of the network's output.
        radius: voxels.
        in_plane: the cube is flat along the first of three axes.
        per_class: edges of every channel, not of all foreground together.

    Returns:
        (B,1,*spatial) bool, or (B,channels,*spatial) per class.
    """
    if per_class:
        inside = torch.stack([find_members(target, channel, regions) for channel in range(channels)], dim=1)
    elif regions:
        everything = [value for labels in regions for value in labels]
        inside = find_members(target, 0, (everything,))[:, None]
    else:
        inside = (target != 0)[:, None]
    counted = find_counted(target, ignore_label)
    outside = ~inside
    if counted is not None:
        inside, outside = inside & counted[:, None], outside & counted[:, None]
    flat = in_plane and target.ndim == 4
    radii = [0 if flat and axis == 0 else radius for axis in range(target.ndim - 1)]
    near = dilate(inside, radii) & dilate(outside, radii)
    return near if counted is None else near & counted[:, None]


def dilate(masks: Tensor, radii: Sequence[int]) -> Tensor:
    """(B,J,*spatial) bool, grown by a box with that radius per axis; one axis after the other, as a box allows.

    Shifted copies of a bool mask are forty times quicker on a CPU than pooling, and take a quarter of the memory.
    """
    for axis, radius in enumerate(radii, start=2):
        grown, size = masks.clone(), masks.shape[axis]
        for shift in range(1, min(radius, size - 1) + 1):
            left = size - shift
            grown.narrow(axis, shift, left).logical_or_(masks.narrow(axis, 0, left))
            grown.narrow(axis, 0, left).logical_or_(masks.narrow(axis, shift, left))
        masks = grown
    return masks
