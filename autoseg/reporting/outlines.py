"""The outline of a mask as closed paths along the edges of its pixels; a single pixel is a square of its true size."""

from __future__ import annotations

import numpy as np

Corner = tuple[int, int]


def trace_outline(mask: np.ndarray) -> list[list[Corner]]:
    """Closed paths around every part of a mask and around its holes.

    Args:
        mask: (H,W) bool.

    Returns:
        Corners (column, row) where a path turns; the last is joined to the first. The mask lies to the right of the
        way, so holes run the other way round.
    """
    follow = _join_edges(np.pad(mask, 1))
    paths = []
    while follow:
        start = next(iter(follow))
        corner, came, path = start, (0, 0), []
        while True:
            step = _choose(follow[corner], came)
            follow[corner].remove(step)
            if not follow[corner]:
                del follow[corner]
            if step != came:
                path.append(corner)
            corner, came = (corner[0] + step[0], corner[1] + step[1]), step
            if corner == start:
                break
        paths.append(path)
    return paths


def render_path(paths: list[list[Corner]]) -> str:
    """The outlines as the data of one SVG path."""
    parts = []
    for path in paths:
        (first, row), words = path[0], []
        words.append(f"M{first} {row}")
        for column, following in path[1:]:
            words.append(f"H{column}" if following == row else f"V{following}")
            row = following
        parts.append(f"{''.join(words)}Z")
    return "".join(parts)


def _join_edges(padded: np.ndarray) -> dict[Corner, list[Corner]]:
    """Corner -> the steps that lead from it along an edge, with the mask to the right of the way."""
    follow: dict[Corner, list[Corner]] = {}
    here, above, left = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    for edges, start, step in (
        (here & ~above, (0, 0), (1, 0)),  # along a top edge to the right
        (above & ~here, (1, 0), (-1, 0)),  # along a bottom edge to the left
        (here & ~left, (0, 1), (0, -1)),  # up a left edge
        (left & ~here, (0, 0), (0, 1)),  # down a right edge
    ):
        for row, column in zip(*(index.tolist() for index in np.nonzero(edges)), strict=True):
            follow.setdefault((column + start[0], row + start[1]), []).append(step)
    return follow


def _choose(steps: list[Corner], came: Corner) -> Corner:
    """Where two pixels touch by a corner, the turn to the right keeps them apart."""
    return next((step for step in steps if step == (-came[1], came[0])), steps[0])
