import numpy as np
import pytest
from pydantic import ValidationError

from autoseg.core.records import ChannelNormalization
from autoseg.preprocessing.normalization import normalize

VOXELS = np.array([[[[0, 0, 2, 4, 6]]]], np.float32)
MASK = VOXELS[0] != 0


def scaled(**settings):
    return normalize(VOXELS, MASK, [ChannelNormalization(**settings)])[0, 0, 0]


def test_zscore_over_everything():
    assert np.allclose(scaled(scheme="zscore"), (VOXELS[0, 0, 0] - 2.4) / np.sqrt(5.44))


def test_zscore_inside_the_mask_leaves_the_outside_at_zero():
    std = np.sqrt(8 / 3)
    assert np.allclose(scaled(scheme="zscore", inside_mask=True), [0, 0, -2 / std, 0, 2 / std])


def test_ct_clips_then_uses_the_statistics_of_the_dataset():
    assert np.allclose(scaled(scheme="ct", mean=3, std=2, lower=1, upper=5), [-1, -1, -0.5, 0.5, 1])


def test_rescale_reaches_zero_and_one():
    assert np.allclose(scaled(scheme="rescale"), [0, 0, 1 / 3, 2 / 3, 1])


def test_rgb_and_none():
    assert np.allclose(scaled(scheme="rgb"), VOXELS[0, 0, 0] / 255)
    assert np.array_equal(scaled(scheme="none"), VOXELS[0, 0, 0])


def test_ct_without_statistics_is_refused():
    with pytest.raises(ValidationError, match="needs mean, std, lower and upper"):
        ChannelNormalization(scheme="ct")


def test_the_scan_is_not_changed():
    before = VOXELS.copy()
    scaled(scheme="zscore", inside_mask=True)
    assert np.array_equal(VOXELS, before)
