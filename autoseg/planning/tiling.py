"""Rule 14: tiles and mirroring of prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoseg.core.records import TilingSettings
from autoseg.planning.mirroring import Mirroring
from autoseg.planning.presets import LAPTOP_GFLOPS, PREDICTION_SECONDS, Preset
from autoseg.planning.text import count, gflop

STEP = 0.5


def plan_tiling(
    preset: Preset, patch: Sequence[int], shape: Sequence[float], forward_gflop: float, mirroring: Mirroring
) -> tuple[TilingSettings, str]:
    """Tiles as large as the patch, half overlapping, mirrored where that is affordable, and why.

    Args:
        patch: voxels per axis.
        shape: the median case, three axes.
        forward_gflop: of one tile.
        mirroring: the axes that may be mirrored.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, online methods, for step, weight and mirroring.
    """
    axes = len(patch)
    tiles = count_tiles(patch, shape[3 - axes :]) * math.ceil(math.prod(shape[: 3 - axes]))
    images = 2 ** len(mirroring.axes)
    mirrored = "both mirror images" if images == 2 else f"all {images} mirror images"
    cost = f"A median case takes {count(tiles, 'tile')} of {gflop(forward_gflop)}"
    seconds = tiles * images * forward_gflop / LAPTOP_GFLOPS
    # 14b. Mirroring multiplies the time of prediction, which a GPU hides and a laptop does not.
    mirror = preset.for_gpu or seconds <= PREDICTION_SECONDS
    if images == 1:
        reason = f"{cost}, without mirroring"
    elif preset.for_gpu:
        reason = f"{cost}, each predicted in {mirrored}, as in nnU-Net"
    elif mirror:
        reason = (
            f"{cost}; {mirrored} of each take about {seconds:.1f} s on a laptop, within the "
            f"{PREDICTION_SECONDS:g} s allowed"
        )
    else:
        reason = (
            f"{cost}; {mirrored} of each would take about {seconds:.0f} s on a laptop, over the "
            f"{PREDICTION_SECONDS:g} s allowed, so none is mirrored"
        )
    settings = TilingSettings(tile_size=tuple(patch), step=STEP, mirror_axes=mirroring.axes if mirror else ())
    return settings, f"{reason}. Tiles overlap by half and are averaged with a Gaussian weight (sigma 1/8 of a tile)."


def count_tiles(tile: Sequence[int], shape: Sequence[float]) -> int:
    """14a. Number of tiles that cover a volume, at half a tile's distance or a little less."""
    return math.prod(math.ceil(max(0.0, n - t) / (t * STEP)) + 1 for t, n in zip(tile, shape, strict=True))
