"""The outline of a mask as closed paths along the edges of its pixels; a single pixel is a square of its true size."""

from __future__ import annotations

import contourpy
import numpy as np

from autoseg.core.geometry import bounding_box, box_slices


def trace_outline(mask: np.ndarray) -> list[np.ndarray]:
    """Closed paths around every part of a mask and around its holes.

    A contour of the mask itself would cut every corner, and halve a single pixel. So contourpy gets a flat grid of
    twice the resolution, from which the centres of all other pixels are masked out: what it fills is the mask.

    Args:
        mask: (H,W) bool.

    Returns:
        Per path (n,2) int, the corners (column, row) where it turns; the last is joined to the first. Holes run the
        other way round.
    """
    if not mask.any():
        return []
    box = bounding_box(mask)
    inside, origin = mask[box_slices(box)], np.array([box[1][0], box[0][0]])
    outside = np.zeros([2 * size + 1 for size in inside.shape], bool)
    outside[1::2, 1::2] = ~inside
    flat = np.ma.masked_array(np.zeros(outside.shape), outside)
    kind = contourpy.FillType.OuterOffset
    contours = contourpy.contour_generator(z=flat, corner_mask=False, fill_type=kind)
    paths = []
    for points, offsets in zip(*contours.filled(-1, 1), strict=True):
        for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            closed = points[start : stop - 1]  # the last point is the first again
            steps = np.roll(closed, -1, axis=0) - closed
            corners = closed[(steps != np.roll(steps, 1, axis=0)).any(axis=1)]
            paths.append((corners / 2).astype(int) + origin)
    return paths


def render_path(paths: list[np.ndarray]) -> str:
    """The outlines as the data of one SVG path."""
    parts = []
    for path in paths:
        (column, row), *following = path.tolist()
        words = [f"M{column} {row}"]
        for x, y in following:
            words.append(f"H{x}" if y == row else f"V{y}")
            row = y
        parts.append(f"{''.join(words)}Z")
    return "".join(parts)
