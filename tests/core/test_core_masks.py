"""Channels that come one after the other, and components of flat arrays."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from autoseg.core.masks import connected_components, running_argmax


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
