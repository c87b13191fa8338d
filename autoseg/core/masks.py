"""Label maps and channels: channels of a cascade's prior, running arg-max over channels, connected components."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import cc3d
import fill_voids
import numpy as np
from scipy.ndimage import binary_dilation

Connectivity = Literal[6, 26]
IN_A_SLICE: dict[Connectivity, Literal[4, 8]] = {6: 4, 26: 8}  # neighbours of a voxel -> those of a pixel

HEAD_GRID = 128  # voxels per axis, at most, of the copy of a scan that the head is found in
HEAD_LEVEL = 0.1  # of a channel's range; above it is head


def find_bright(voxels: np.ndarray) -> np.ndarray:
    """Voxels above a tenth of the range of any channel (0.5th to 99th percentile).

    Args:
        voxels: (C,Z,Y,X) float, scanner units.

    Returns:
        (Z,Y,X) bool.
    """
    bright = np.zeros(voxels.shape[1:], bool)
    for channel in voxels:
        low, high = np.percentile(channel, (0.5, 99))
        bright |= channel > low + HEAD_LEVEL * (high - low)
    return bright


def find_head(voxels: np.ndarray) -> np.ndarray:
    """The head in a scan whose background is not zero, with a margin of one or two voxels of a coarse copy.

    Head is the largest component of the bright voxels, without holes.

    Args:
        voxels: (C,Z,Y,X) float, scanner units.

    Returns:
        (Z,Y,X) bool; everything where nothing stands out.
    """
    shape = voxels.shape[1:]
    steps = tuple(math.ceil(size / HEAD_GRID) for size in shape)
    coarse = voxels[(slice(None), *(slice(None, None, step) for step in steps))]
    components, count = connected_components(find_bright(coarse), connectivity=6)
    if not count:
        return np.ones(shape, bool)
    sizes = np.bincount(components.reshape(-1))
    head = binary_dilation(components == 1 + np.argmax(sizes[1:]), np.ones((3, 3, 3), bool))
    if min(head.shape) > 1:
        head = fill_voids.fill(head)
    for axis, step in enumerate(steps):
        head = np.repeat(head, step, axis=axis) if step > 1 else head
    return np.ascontiguousarray(head[tuple(map(slice, shape))], bool)


def connected_components(voxels: np.ndarray, connectivity: Connectivity = 26) -> tuple[np.ndarray, int]:
    """Number the components, in the order of their first voxels.

    An array with a flat axis gets a row of background there, without which cc3d fails: ``1 0 1`` along a line has more
    components than it reserves room for.

    Args:
        voxels: (z,y,x) or (y,x) bool, or integer, where voxels of different values are never connected; 0 is
            background.
        connectivity: 26: voxels that touch by a face, an edge or a corner are connected; 6: by a face alone.

    Returns:
        Integer of the same shape, numbers from 1, 0 outside; and how many.
    """
    padded = np.pad(voxels, [(0, int(size == 1)) for size in voxels.shape]) if 1 in voxels.shape else voxels
    neighbours: Literal[4, 6, 8, 26] = connectivity if voxels.ndim == 3 else IN_A_SLICE[connectivity]
    components, count = cc3d.connected_components(np.ascontiguousarray(padded), connectivity=neighbours, return_N=True)
    return np.ascontiguousarray(components[tuple(map(slice, voxels.shape))]), int(count)


def measure_components(components: np.ndarray) -> Mapping[str, Any]:
    """Measures of numbered components; row 0 is the background.

    Args:
        components: (z,y,x) integer, as ``connected_components`` numbers them.

    Returns:
        ``voxel_counts`` (n+1,), ``centroids`` (n+1,3) voxels, and ``bounding_boxes``, n+1 tuples of slices.
    """
    return dict(cc3d.statistics(components))


def split_mask(mask: np.ndarray, members: Sequence[Sequence[int]], channels: np.ndarray) -> None:
    """Fill one binary channel per class or region.

    Args:
        mask: (*axes) integer, one value per class; may be a memory map.
        members: the label values that each channel unites.
        channels: (M,*axes) float32, filled with 0 and 1.
    """
    for values, channel in zip(members, channels, strict=True):
        np.equal(mask, values[0], out=channel)
        for value in values[1:]:
            channel[mask == value] = 1


def stack_inputs(
    image: np.ndarray, prior: np.ndarray | None, members: Sequence[Sequence[int]], *, context_slices: int = 0
) -> np.ndarray:
    """Network input of a whole case: the scan's channels, each with its neighbouring slices, then those of the prior.

    Args:
        image: (C,Z,Y,X) float, preprocessed.
        prior: (Z,Y,X) integer on the same grid; only read when there are ``members``.
        members: the label values that each further channel unites; none outside a cascade.
        context_slices: n neighbours on either side, which become channels; 0 beyond the first and last slice.

    Returns:
        (C*(2n+1)+M,Z,Y,X) float32, or the image itself when there is nothing to add. Channels of one image channel
        follow one another, from the lowest slice to the highest.
    """
    if not members and not context_slices:
        return image
    slices, depth = 2 * context_slices + 1, image.shape[1]
    inputs = np.zeros((len(image) * slices + len(members), *image.shape[1:]), np.float32)
    for offset in range(-context_slices, context_slices + 1):
        low, high = max(0, -offset), max(0, min(depth, depth - offset))
        shifted = inputs[offset + context_slices : len(image) * slices : slices]
        shifted[:, low:high] = image[:, low + offset : high + offset]
    if members:
        assert prior is not None  # cases of a cascade are opened with one
        split_mask(prior, members, inputs[len(image) * slices :])
    return inputs


def running_argmax(channels: Iterable[np.ndarray], *, last_of_ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Arg-max and maximum over channels that come one after the other, so that one is held at a time.

    Also the faster way for an array: numpy's own arg-max over the first axis walks memory across the channels.

    Args:
        channels: K times (*axes) float, K < 256.
        last_of_ties: of equal channels the last wins, not the first.

    Returns:
        (*axes) uint8 channel numbers, and (*axes) the values there.
    """
    remaining = iter(channels)
    best = next(remaining).copy()
    winner = np.zeros(best.shape, np.uint8)
    number = 0
    while (channel := next(remaining, None)) is not None:  # ``enumerate`` would hold on to the previous channel
        number += 1
        wins = channel >= best if last_of_ties else channel > best
        winner[wins] = number
        np.copyto(best, channel, where=wins)
        del channel, wins
    return winner, best
