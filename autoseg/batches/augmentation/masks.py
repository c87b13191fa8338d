"""Augmentation of a cascade's mask channels, in place: masks predicted by the first stage are never quite right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autoseg.batches.augmentation.draws import MaskChange
from autoseg.batches.augmentation.kernels import dilate_ball
from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.masks import connected_components

LARGEST_REMOVED = 0.15  # of the patch


def change_masks(
    masks: np.ndarray, mask_morphology: Sequence[MaskChange], component_draws: Sequence[float], *, exclusive: bool
) -> None:
    """Dilate, erode, open or close mask channels one after the other, then take a component from each.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, the augmentation of its cascade.

    Args:
        masks: (M,Z,Y,X) float32 of 0 and 1, changed in place.
        mask_morphology: what happens to which channel, in this order; may be empty.
        component_draws: one number from 0 to below 1 per channel, which picks its component; empty removes none.
        exclusive: channels are classes: a voxel that one gains, the others lose.
    """
    for change in mask_morphology:
        before = masks[change.channel] != 0
        after = MORPHOLOGY[change.operation](before, change.radius)
        if exclusive:
            np.copyto(masks, 0, where=after & ~before)
        masks[change.channel] = after
    for mask, number in zip(masks, component_draws, strict=bool(len(component_draws))):
        remove_component(mask, number)


def remove_component(mask: np.ndarray, number: float) -> None:
    """Take away one connected component (26 neighbours) of those that cover less than 15 % of the patch.

    Args:
        mask: (Z,Y,X) float32 of 0 and 1, changed in place.
        number: 0 to below 1, which of them; each is as likely as another.
    """
    components, _ = connected_components(mask != 0)
    sizes = np.bincount(components.reshape(-1))
    small = [name for name in range(1, len(sizes)) if sizes[name] < LARGEST_REMOVED * mask.size]
    if small:
        mask[components == small[int(number * len(small))]] = 0


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Every voxel within the radius of the mask; (Z,Y,X) bool -> bool."""
    if not mask.any():
        return mask.copy()
    # Nothing beyond the box around the mask and the radius can change.
    box = tuple(
        slice(max(start - radius, 0), min(stop + radius, n))
        for (start, stop), n in zip(bounding_box(mask), mask.shape, strict=True)
    )
    dilated = np.zeros_like(mask)
    dilated[box] = _spread(mask[box], radius)
    return dilated


def erode(mask: np.ndarray, radius: int) -> np.ndarray:
    """Every voxel with nothing but mask within the radius; voxels beyond the patch count as mask."""
    # A voxel in a face of the box may have background right behind it: one voxel more shows it.
    box = box_slices(
        tuple((max(a - 1, 0), min(b + 1, n)) for (a, b), n in zip(bounding_box(mask), mask.shape, strict=True))
    )
    eroded = np.zeros_like(mask)
    eroded[box] = ~_spread(~mask[box], radius)
    return eroded


def _spread(mask: np.ndarray, radius: int) -> np.ndarray:
    """(Z,Y,X) bool, where the mask is within the radius."""
    spread = np.empty(mask.shape, bool)
    dilate_ball(np.ascontiguousarray(mask), radius, spread)
    return spread


def _open(mask: np.ndarray, radius: int) -> np.ndarray:
    return dilate(erode(mask, radius), radius)


def _close(mask: np.ndarray, radius: int) -> np.ndarray:
    return erode(dilate(mask, radius), radius)


MORPHOLOGY: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "dilate": dilate,
    "erode": erode,
    "open": _open,
    "close": _close,
}
