import numpy as np
import pytest

from autoseg.core.geometry import bounding_box, nearest_axes, resampled_shape, turn, turn_back


def test_bounding_box_of_two_voxels():
    mask = np.zeros((10, 20, 30), bool)
    mask[2, 5, 7] = mask[4, 3, 29] = True
    assert bounding_box(mask) == ((2, 5), (3, 6), (7, 30))


def test_bounding_box_of_nothing_is_everything():
    assert bounding_box(np.zeros((2, 3), bool)) == ((0, 2), (0, 3))


def test_resampled_shape_rounds_halves_to_even_and_never_reaches_zero():
    assert resampled_shape((10, 5, 1), (1.0, 0.5, 0.1), (2.0, 1.0, 4.0)) == (5, 2, 1)
    assert resampled_shape((10, 5, 7), (5.0, 1.0, 1.0), (None, 0.5, 1.0)) == (10, 10, 7)


def test_an_oblique_scan_still_gets_a_valid_permutation():
    a = np.radians(45)  # z and y equally near
    direction = [[0, 0, 1], [-np.sin(a), np.cos(a), 0], [np.cos(a), np.sin(a), 0]]
    transpose, _ = nearest_axes(direction)
    assert sorted(transpose) == [0, 1, 2]


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_turn_back_undoes_turn(transpose, flips):
    voxels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert np.array_equal(turn_back(turn(voxels, transpose, flips), transpose, flips), voxels)


def test_turn_moves_axes_then_flips():
    voxels = np.arange(6).reshape(1, 2, 3)
    assert np.array_equal(turn(voxels, (2, 0, 1), (True, False, False))[:, 0], [[2, 5], [1, 4], [0, 3]])


def test_resampled_shape_divides_the_spacings_first():
    # 0.4 / 0.8 is exactly a half, 29 * 0.4 a hair above 11.6: only the first gives 14.5, which rounds to even.
    assert resampled_shape((29,), (0.4,), (0.8,)) == (14,)
