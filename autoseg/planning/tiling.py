"""Rule 14: how whole volumes are predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoseg.core.records import TilingSettings
from autoseg.planning.mirroring import Mirroring
from autoseg.planning.presets import LAPTOP_GFLOPS, PREDICTION_SECONDS, Preset

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
    flips = 2 ** len(mirroring.axes)
    what = f"A median case needs {tiles} x {forward_gflop:.3g} GFLOP for its tiles"
    seconds = tiles * flips * forward_gflop / LAPTOP_GFLOPS
    # 14b. On a laptop mirroring is the difference between a break and a lunch break; on a GPU nobody notices.
    mirror = preset.step_gflop is None or seconds <= PREDICTION_SECONDS
    if preset.step_gflop is None:
        why = f"{what}, and all {flips} mirror images of each as in nnU-Net"
    elif mirror:
        why = (
            f"{what}; all {flips} mirror images of each take about {seconds:.1f} s on a laptop, within "
            f"{PREDICTION_SECONDS:g} s"
        )
    else:
        why = (
            f"{what}; all {flips} mirror images of each would take about {seconds:.0f} s on a laptop, more than "
            f"{PREDICTION_SECONDS:g} s, so none is mirrored"
        )
    settings = TilingSettings(tile_size=tuple(patch), step=STEP, mirror_axes=mirroring.axes if mirror else ())
    return settings, f"{why}; tiles lie half a tile apart with a Gaussian weight of 1/8 tile."


def count_tiles(tile: Sequence[int], shape: Sequence[float]) -> int:
    """How many tiles cover a volume, at half a tile's distance or a little less."""
    return math.prod(math.ceil(max(0.0, n - t) / (t * STEP)) + 1 for t, n in zip(tile, shape, strict=True))
