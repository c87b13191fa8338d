"""Slices to leaf through: those with lesion first of all, the fullest always, upright and cropped."""

import numpy as np
import pytest

from autoseg.reporting.html.viewer import find_fullest
from autoseg.reporting.slices import choose_stack, cut_stack


def test_all_slices_with_lesion_and_even_ones_between():
    """Lesion in 4 and 5 of ten slices, head from 1 to 8: the two, and of 1 2 3 6 7 8 the ends and the middle."""
    areas = np.array([0, 0, 0, 0, 7, 2, 0, 0, 0, 0])
    head = np.array([False, *[True] * 8, False])

    assert choose_stack(areas, areas > 0, head, limit=5) == (1, 3, 4, 5, 8)
    assert choose_stack(areas, areas > 0, head, limit=20) == (1, 2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize("limit", [1, 2, 3, 40])
def test_the_fullest_slice_is_always_there(limit):
    areas = np.arange(100) % 37
    chosen = choose_stack(areas, np.ones(100, bool), np.ones(100, bool), limit=limit)

    assert 36 in chosen
    assert len(chosen) <= limit


def test_a_prediction_that_is_everywhere_does_not_hide_the_reference():
    reference, prediction = np.zeros((2, 60, 4, 4), np.uint8)
    reference[31, 1:3, 1:3] = 1
    prediction[:, 0] = prediction[7] = 1
    stack = cut_stack(np.ones((1, 60, 4, 4), np.float32), reference, prediction, (1.0, 1.0, 1.0), limit=10)

    assert stack.numbers[find_fullest(stack)] == (31, 60)


def test_nothing_at_all_gives_the_middle_slice():
    assert choose_stack(np.zeros(5, int), np.zeros(5, bool), np.zeros(5, bool), limit=3) == (2,)


@pytest.mark.parametrize(("spacing", "axis"), [((5.0, 1.0, 1.0), 0), ((1.0, 5.0, 1.0), 1), ((1.0, 1.0, 5.0), 2)])
def test_the_stack_follows_the_axis_it_was_sliced_along(spacing, axis):
    """One voxel at (2,3,4) of 6 x 7 x 8, lowest slice first."""
    image = np.ones((1, 6, 7, 8), np.float32)
    image[0, 2, 3, 4] = 9
    mask = (image[0] > 5).astype(np.uint8)
    stack = cut_stack(image, mask, mask, spacing, limit=40)
    index = find_fullest(stack)

    assert stack.axis == axis
    assert stack.numbers[index] == ((2, 3, 4)[axis], image.shape[1 + axis])
    assert stack.prediction[index].sum() == 1
