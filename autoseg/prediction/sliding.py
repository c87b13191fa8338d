"""Sliding-window prediction: the Gaussian-weighted mean over tiles, flips and folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch

from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import TilingSettings
from autoseg.prediction.tiles import gaussian_weight, mirror_combinations, tile_starts

Network = Callable[[torch.Tensor], list[torch.Tensor]]
Start = tuple[int, int, int]

VOXELS_PER_CALL = 2**18


@torch.inference_mode()
def predict_logits(
    networks: Sequence[Network],
    image: np.ndarray,
    tiling: TilingSettings,
    *,
    outputs: int,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Mean logits over folds, flips and tiles.

    A tile of two axes slides within slices of the first axis. A volume smaller than the tile is padded with zeros,
    evenly on both sides, and the padding is cut off again.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z.

    Args:
        networks: one per fold, in evaluation mode, on ``device``.
        image: (C,Z,Y,X) float, preprocessed.
        tiling: tile size, step, Gaussian width and mirror axes.
        outputs: channels K of the networks' logits.
        precision: of the networks' arithmetic; sums are float32.
        progress: called with (tiles done, tiles, what).

    Returns:
        (K,Z,Y,X) float32 on the CPU.
    """
    flat = len(tiling.tile_size) == 2
    tile: Start = (1, *tiling.tile_size) if flat else tiling.tile_size  # type: ignore[assignment]
    padded, inside = _pad(image, tile)
    weight = torch.from_numpy(gaussian_weight(tile, tiling.sigma).copy()).to(device)
    voxels = torch.from_numpy(padded).to(device)
    total = torch.zeros((outputs, *padded.shape[1:]), device=device)
    counted = torch.zeros(padded.shape[1:], device=device)
    # Two-axis tiles step over every slice, without overlap along the first axis.
    steps = (1.0, tiling.step, tiling.step) if flat else (tiling.step,) * 3
    axes = [tile_starts(n, t, s) for n, t, s in zip(padded.shape[1:], tile, steps, strict=True)]
    starts: list[Start] = [(z, y, x) for z, y, x in product(*axes)]
    done = 0
    for group in _groups(starts, max(1, VOXELS_PER_CALL // int(np.prod(tile)))):
        tiles = torch.stack([voxels[(slice(None), *_box(start, tile))] for start in group])
        tiles = tiles.squeeze(2) if flat else tiles
        logits = _mean_logits(networks, tiles, tiling.mirror_axes, device, precision)
        logits = logits.unsqueeze(2) if flat else logits
        for start, tile_logits in zip(group, logits, strict=True):
            total[(slice(None), *_box(start, tile))] += tile_logits * weight
            counted[_box(start, tile)] += weight
        done += len(group)
        progress(done, len(starts), "tiles")
    total /= counted
    return total[(slice(None), *inside)].cpu().numpy()


def _mean_logits(
    networks: Sequence[Network],
    tiles: torch.Tensor,
    mirror_axes: Sequence[int],
    device: torch.device,
    precision: torch.dtype,
) -> torch.Tensor:
    """(B,C,*tile) -> (B,K,*tile) float32, over all folds and flips."""
    flips = mirror_combinations(mirror_axes)
    total: torch.Tensor | None = None
    with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
        for axes in flips:
            dims = tuple(axis + 2 for axis in axes)
            for network in networks:
                logits = network(tiles.flip(dims) if dims else tiles)[0].float()
                logits = logits.flip(dims) if dims else logits
                total = logits if total is None else total + logits
    assert total is not None  # at least one network and the unflipped tile
    return total / (len(networks) * len(flips))


def _pad(image: np.ndarray, tile: Start) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The image as float32, at least as large as a tile, and where it lies in that."""
    missing = [max(t - n, 0) for n, t in zip(image.shape[1:], tile, strict=True)]
    before = [m // 2 for m in missing]
    width = [(0, 0), *((b, m - b) for b, m in zip(before, missing, strict=True))]
    padded = np.pad(np.asarray(image, np.float32), width) if any(missing) else np.array(image, np.float32)
    inside = tuple(slice(b, b + n) for b, n in zip(before, image.shape[1:], strict=True))
    return padded, inside


def _box(start: Start, tile: Start) -> tuple[slice, ...]:
    return tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))


def _groups(starts: Sequence[Start], size: int) -> Iterator[Sequence[Start]]:
    for first in range(0, len(starts), size):
        yield starts[first : first + size]
