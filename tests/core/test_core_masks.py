"""Channels that come one after the other, and components of flat arrays."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from autoseg.core.masks import connected_components, find_head, running_argmax


@pytest.mark.parametrize(("last", "winners"), [(False, [1, 0, 0]), (True, [2, 2, 0])])
def test_ties_go_to_the_first_or_to_the_last_channel(last, winners):
    channels = np.array([[0, 2, 5], [3, 1, 4], [3, 2, -1]], np.float32)
    winner, best = running_argmax(iter(channels), last_of_ties=last)
    assert winner.tolist() == winners
    assert best.tolist() == [3, 2, 5]
    assert channels[0].tolist() == [0, 2, 5]  # not overwritten


@pytest.mark.parametrize("shape", [(1, 1, 11), (1, 11, 1), (11, 1, 1)])
def test_components_of_a_line_are_numbered(shape):
    line = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1])
    components, count = connected_components(line.astype(bool).reshape(shape))
    assert (components.shape, count) == (shape, 4)
    assert components.ravel().tolist() == [1, 1, 0, 2, 2, 2, 0, 3, 3, 0, 4]


@pytest.mark.parametrize("connectivity", [6, 26])
def test_components_of_small_arrays_agree_with_scipy(connectivity):
    generator = np.random.default_rng(0)
    for shape in [*product((1, 2, 9), repeat=2), *product((1, 2, 9), repeat=3)]:
        voxels = generator.random(shape) < 0.6
        structure = np.ones([3] * len(shape)) if connectivity == 26 else None
        expected, expected_count = ndimage.label(voxels, structure)
        components, count = connected_components(voxels, connectivity)
        assert count == expected_count, shape
        assert len(np.unique(np.stack([components, expected], -1).reshape(-1, 2), axis=0)) == len(np.unique(expected))


def test_components_of_values_are_apart_and_touch_by_corners():
    voxels = np.zeros((2, 3, 3), np.uint8)
    voxels[0, 0, 0] = voxels[1, 1, 1] = 1
    voxels[1, 2, 2] = 2
    components, count = connected_components(voxels[:, ::-1])  # a view
    assert count == 2
    assert components[voxels[:, ::-1] > 0].tolist() in ([1, 2, 1], [1, 1, 2])
    assert components[0, 2, 0] == components[1, 1, 1] != components[1, 0, 2] > 0


def make_noisy_scan(shape, radius=0.3):
    """A ball of 100 with a dark hole, on a background of noise from 1 to 3, with a bright speck in a corner."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = np.sqrt(sum(((a - (n - 1) / 2) / n) ** 2 for a, n in zip(axes, shape, strict=True)))
    voxels = np.random.default_rng(0).uniform(1, 3, shape).astype(np.float32)
    voxels[distance < radius] = 100
    voxels[distance < 0.05] = 2
    voxels[1, 1, 1] = 100
    return voxels[None], distance < radius


@pytest.mark.parametrize("shape", [(40, 50, 60), (12, 200, 300)])
def test_the_head_is_the_largest_bright_part_with_a_margin_and_without_holes(shape):
    voxels, ball = make_noisy_scan(shape)
    head = find_head(voxels)
    assert (head.shape, head.dtype) == (ball.shape, np.dtype(bool))
    assert head[ball].all()
    assert not head[1, 1, 1]
    grown = ndimage.binary_dilation(ball, np.ones((3, 3, 3)), iterations=1 + 2 * (max(shape) > 128))
    grown = ndimage.binary_dilation(grown, np.ones((3, 3, 3)), iterations=2 * (max(shape) > 128))
    assert not head[~grown].any()


def test_the_head_is_bright_in_any_channel():
    voxels, _ = make_noisy_scan((40, 50, 60))
    upper, lower = voxels.copy(), voxels.copy()
    upper[:, 20:], lower[:, :20] = 1, 1
    assert np.array_equal(find_head(np.concatenate([upper, lower])), find_head(voxels))


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_scan_in_which_nothing_stands_out_is_all_head(value):
    assert find_head(np.full((2, 5, 1, 6), value, np.float32)).all()
