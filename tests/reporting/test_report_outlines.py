"""Outlines of masks: corners, holes, pixels that touch by a corner, and the area that a path encloses."""

import numpy as np

from autoseg.reporting.outlines import render_path, trace_outline


def test_a_rectangle_has_four_corners():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True

    assert [path.tolist() for path in trace_outline(mask)] == [[[1, 1], [4, 1], [4, 3], [1, 3]]]
    assert render_path(trace_outline(mask)) == "M1 1H4V3H1Z"


def test_a_hole_runs_the_other_way_round():
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    mask[2, 2] = False
    outer, hole = trace_outline(mask)

    assert (enclosed(outer), enclosed(hole)) == (9.0, -1.0)


def test_pixels_that_touch_by_a_corner_stay_apart():
    assert [path.tolist() for path in trace_outline(np.eye(2, dtype=bool))] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]


def test_nothing_has_no_outline():
    assert trace_outline(np.zeros((3, 3), bool)) == []


def test_paths_enclose_as_many_pixels_as_the_mask_has():
    mask = np.random.default_rng(0).random((40, 30)) > 0.5

    assert sum(map(enclosed, trace_outline(mask))) == mask.sum()


def enclosed(path):
    """Signed area by the shoelace formula."""
    x, y = path.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)
