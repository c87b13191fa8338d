"""The same numbers as the libraries that nnU-Net itself calls."""

import numpy as np
import pytest
from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
from batchgenerators.augmentations.utils import resize_segmentation
from scipy import ndimage

from autoseg.core.geometry import bounding_box
from autoseg.preprocessing.resampling import resample_image, resample_label

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(13, 17, 41), (7, 31, 22), (20, 20, 20)])
def test_labels_are_resampled_as_batchgenerators_does(shape):
    blobs = ndimage.gaussian_filter(RNG.normal(size=(3, 10, 20, 30)), (0, 2, 2, 2))
    label = blobs.argmax(axis=0).astype(np.int16)
    ours, theirs = resample_label(label, shape, order=1, apart=None), resize_segmentation(label, shape, order=1)
    shares = [resample_image((label == v)[None].astype(np.float32), shape, order=1, apart=None)[0] for v in range(3)]
    ordered = np.sort(shares, axis=0)
    tied = ordered[-1] - ordered[-2] < 1e-4  # ours go to the higher value, theirs to the nearest voxel's
    assert np.array_equal(ours[~tied], theirs[~tied])
    assert tied.mean() < 0.01


def test_the_crop_is_the_one_acvl_utils_finds():
    mask = np.zeros((10, 20, 30), bool)
    mask[RNG.integers(2, 8, 5), RNG.integers(3, 15, 5), RNG.integers(1, 29, 5)] = True
    assert [list(side) for side in bounding_box(mask)] == [list(side) for side in get_bbox_from_mask(mask)]
