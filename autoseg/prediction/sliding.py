"""Sliding-window prediction: the Gaussian-weighted mean over tiles, flips and folds, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import TilingSettings
from autoseg.prediction.memory import choose_sum_device, free_bytes, images_per_call, window_bytes
from autoseg.prediction.tiles import gaussian_weight, is_featureless, mirror_combinations, tile_starts

Network = Callable[[torch.Tensor], list[torch.Tensor]]
Start = tuple[int, int, int]

ROWS = 16  # yielded at once


def predict_logits(
    networks: Sequence[Network],
    image: np.ndarray,
    tiling: TilingSettings,
    *,
    outputs: int,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    background: Sequence[float] | None = None,
    progress: Progress = no_progress,
) -> np.ndarray:
    """All rows of ``predict_rows`` together: (K,Z,Y,X) float32."""
    logits = np.empty((outputs, *image.shape[1:]), np.float32)
    done = 0
    for rows in predict_rows(
        networks,
        image,
        tiling,
        outputs=outputs,
        device=device,
        precision=precision,
        background=background,
        progress=progress,
    ):
        logits[:, done : done + rows.shape[1]] = rows
        done += rows.shape[1]
    return logits


def predict_rows(
    networks: Sequence[Network],
    image: np.ndarray,
    tiling: TilingSettings,
    *,
    outputs: int,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    background: Sequence[float] | None = None,
    progress: Progress = no_progress,
) -> Iterator[np.ndarray]:
    """Mean logits over folds, flips and tiles, each row yielded as soon as no later tile can change it.

    Sums are kept only for the rows that tiles of one level cover, so memory grows with classes times these rows, not
    with classes times the volume.

    A tile of two axes slides within slices of the first axis. A volume smaller than the tile is padded with zeros,
    evenly on both sides, and the padding is cut off again.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z.

    Args:
        networks: one per fold, in evaluation mode, on ``device``.
        image: (C,Z,Y,X) float, preprocessed.
        tiling: tile size, step, Gaussian width and mirror axes.
        outputs: channels K of the networks' logits.
        precision: of the networks; sums are float32.
        background: K logits. Tiles without any of the head are skipped, and voxels that no other tile covers get
            these logits; the head and the voxels beside it are not affected. None: no tile is skipped.
        progress: called with (tiles done, tiles, "tiles").

    Yields:
        (K,n,Y,X) float32 on the CPU, the next n rows of the first axis.

    Raises:
        MemoryShortageError: the sums fit neither on the device nor on the CPU.
    """
    frame = _Frame.around(image, tiling)
    levels = [frame.select(image, level, skip_constant=background is not None) for level in frame.levels]
    total, done = sum(len(level.starts) for level in levels), 0
    calls = _Calls(networks, tiling.mirror_axes, device, precision, (len(image), *tiling.tile_size))
    window = _Window(outputs, frame, len(image), device, calls.image_bytes, background)
    voxels = torch.from_numpy(frame.pad(image)).to(window.device)
    for level in levels:
        window.move_to(level.first)
        remaining = level.starts
        while remaining:
            group, remaining = remaining[: calls.images], remaining[calls.images :]
            tiles = torch.stack([voxels[(slice(None), *frame.box(start))] for start in group]).to(device)
            logits = calls.mean_logits(tiles.squeeze(2) if frame.flat else tiles)
            window.add(group, logits.unsqueeze(2) if frame.flat else logits)
            done += len(group)
            progress(done, total, "tiles")
        yield from window.pop_rows(level.stop)


def middle_tile(image: np.ndarray, tiling: TilingSettings) -> np.ndarray:
    """The tile in the middle of an image, (C,*tile) float32, as the network gets it."""
    frame = _Frame.around(image, tiling)
    start = [(p - t) // 2 for p, t in zip(frame.padded, frame.tile, strict=True)]
    tile = np.ascontiguousarray(frame.pad(image)[(slice(None), *frame.box(start))])
    return tile[:, 0] if frame.flat else tile


def count_calls(shape: Sequence[int], tiling: TilingSettings, *, networks: int) -> int:
    """Forward passes of one tile that a case needs, mirror images and folds included.

    Args:
        shape: (Z,Y,X) of the preprocessed image.
        networks: how many are averaged.
    """
    frame = _Frame.around(np.broadcast_to(np.float32(0), (1, *shape)), tiling)
    tiles = sum(len(level.starts) for level in frame.levels)
    return tiles * 2 ** len(tiling.mirror_axes) * networks


@dataclass(frozen=True, kw_only=True)
class _Level:
    """Tiles of one height (or slices, for tiles of two axes); after them the rows below ``stop`` are final."""

    first: int
    stop: int
    starts: Sequence[Start]


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """Positions of the tiles in the padded volume, and of the image in it."""

    flat: bool
    tile: Start
    sigma: float
    padded: tuple[int, ...]
    inside: tuple[slice, ...]
    height: int
    levels: tuple[_Level, ...]

    @classmethod
    def around(cls, image: np.ndarray, tiling: TilingSettings) -> _Frame:
        flat = len(tiling.tile_size) == 2
        tile: Start = (1, *tiling.tile_size) if flat else tiling.tile_size  # type: ignore[assignment]
        shape = image.shape[1:]
        padded = tuple(max(n, t) for n, t in zip(shape, tile, strict=True))
        before = [(p - n) // 2 for p, n in zip(padded, shape, strict=True)]
        rows, *plane = (tile_starts(n, t, tiling.step) for n, t in zip(padded, tile, strict=True))
        if flat:  # slice by slice, some at a time
            rows = tuple(range(0, padded[0], ROWS))
        stops = (*rows[1:], padded[0])
        heights = [(range(first, stop) if flat else (first,)) for first, stop in zip(rows, stops, strict=True)]
        return cls(
            flat=flat,
            tile=tile,
            sigma=tiling.sigma,
            padded=padded,
            inside=tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True)),
            height=min(ROWS, padded[0]) if flat else tile[0],
            levels=tuple(
                _Level(first=first, stop=stop, starts=[(z, y, x) for z, y, x in product(height, *plane)])
                for first, stop, height in zip(rows, stops, heights, strict=True)
            ),
        )

    def pad(self, image: np.ndarray) -> np.ndarray:
        width = [(s.start, p - s.stop) for s, p in zip(self.inside, self.padded, strict=True)]
        return np.pad(np.asarray(image, np.float32), [(0, 0), *width])

    def select(self, image: np.ndarray, level: _Level, *, skip_constant: bool) -> _Level:
        """The level without its tiles that show none of the head; padding does not count."""
        if not skip_constant:
            return level
        offsets = [s.start for s in self.inside]
        starts = [
            start
            for start in level.starts
            if not is_featureless(image, [s - o for s, o in zip(start, offsets, strict=True)], self.tile)
        ]
        return _Level(first=level.first, stop=level.stop, starts=starts)

    def box(self, start: Sequence[int], *, first: int = 0) -> tuple[slice, ...]:
        """A tile's voxels in the volume, or in a window that begins with row ``first``."""
        z, y, x = start
        corner = (z - first, y, x)
        return tuple(slice(s, s + t) for s, t in zip(corner, self.tile, strict=True))


class _Window:
    """Weighted sums of logits over some rows of the padded volume."""

    def __init__(
        self,
        outputs: int,
        frame: _Frame,
        inputs: int,
        device: torch.device,
        reserve: int,
        background: Sequence[float] | None,
    ) -> None:
        self.frame, self.background = frame, background
        shape = (frame.height, *frame.padded[1:])
        needed = window_bytes(outputs, inputs, shape, frame.padded)
        free = {kind.type: free_bytes(kind) for kind in (torch.device("cpu"), device)}
        self.device = choose_sum_device(needed, device, free, reserve=reserve)
        self.total = torch.zeros((outputs, *shape), device=self.device)
        self.weights = torch.zeros(shape, device=self.device)
        self.weight = torch.from_numpy(gaussian_weight(frame.tile, frame.sigma).copy()).to(self.device)
        self.first = 0

    @torch.inference_mode()
    def move_to(self, first: int) -> None:
        """Let the window begin with a later row; the rows above it have been yielded."""
        shift = first - self.first
        self.first = first
        if shift:
            for sums in (*self.total, self.weights):  # one by one: no second copy of all
                remaining = sums[shift:].clone()
                sums[: len(remaining)] = remaining
                sums[len(remaining) :] = 0

    @torch.inference_mode()
    def add(self, starts: Sequence[Start], logits: torch.Tensor) -> None:
        """Add the weighted logits (B,K,*tile) of tiles at these positions."""
        for start, tile_logits in zip(starts, logits.to(self.device), strict=True):
            box = self.frame.box(start, first=self.first)
            self.total[(slice(None), *box)].addcmul_(tile_logits, self.weight)  # no temporary product
            self.weights[box] += self.weight

    @torch.inference_mode()
    def pop_rows(self, stop: int) -> Iterator[np.ndarray]:
        """Mean logits of the rows up to ``stop``, a few at a time, without the padding."""
        rows, *plane = self.frame.inside
        first, last = max(self.first, rows.start), min(stop, rows.stop)
        for begin in range(first, last, ROWS):
            box = (slice(begin - self.first, min(begin + ROWS, last) - self.first), *plane)
            total, weights = self.total[(slice(None), *box)], self.weights[box]
            if self.background is None:
                yield (total / weights).cpu().numpy()
                continue
            covered = weights > 0
            mean = total / torch.where(covered, weights, 1)
            for channel, value in zip(mean, self.background, strict=True):
                channel[~covered] = value
            yield mean.cpu().numpy()


class _Calls:
    """Forward passes of tiles through all folds and flips, batched as far as it is faster and fits.

    Attributes:
        images: tiles times flips per call.
        image_bytes: memory of one of them on a GPU; 0 on a CPU, where it is not measured.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        mirror_axes: Sequence[int],
        device: torch.device,
        precision: torch.dtype,
        shape: tuple[int, ...],
    ) -> None:
        self.networks, self.device, self.precision = networks, device, precision
        self.flips = mirror_combinations(mirror_axes)
        self.image_bytes = self._measure(shape) if device.type == "cuda" else 0
        free = free_bytes(device) if self.image_bytes else 0
        voxels = math.prod(shape[1:])
        self.images = images_per_call(voxels, device.type, image_bytes=self.image_bytes, free=free)

    @torch.inference_mode()
    def mean_logits(self, tiles: torch.Tensor) -> torch.Tensor:
        """Mean over all folds and flips: (B,C,*tile) -> (B,K,*tile) float32."""
        flips_per_call = max(1, self.images // len(tiles))
        total: torch.Tensor | None = None
        for begin in range(0, len(self.flips), flips_per_call):
            dims = [tuple(axis + 2 for axis in axes) for axes in self.flips[begin : begin + flips_per_call]]
            batch = [tiles.flip(flipped) if flipped else tiles for flipped in dims]
            inputs = torch.cat(batch) if len(batch) > 1 else batch[0]
            for network in self.networks:
                with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                    outputs = network(inputs)[0]
                for flipped, part in zip(dims, outputs.float().split(len(tiles)), strict=True):
                    logits = part.flip(flipped) if flipped else part
                    total = logits if total is None else total + logits
        assert total is not None  # there is at least one network, and the tile without flips
        count = len(self.networks) * len(self.flips)
        return total if count == 1 else total / count

    @torch.inference_mode()
    def _measure(self, shape: tuple[int, ...]) -> int:
        """Peak bytes of one tile's forward pass on a GPU, measured in the way all tiles are computed."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            self.networks[0](torch.zeros((1, *shape), device=self.device))
        return max(1, torch.cuda.max_memory_allocated(self.device) - before)
