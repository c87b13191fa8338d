"""The same numbers as the libraries that nnU-Net itself calls."""

import numpy as np
import pytest
from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
from batchgenerators.augmentations.utils import resize_segmentation
from scipy import ndimage
from skimage.transform import resize

from autoseg.core.geometry import bounding_box
from autoseg.preprocessing.resampling import resample_image, resample_label, resize_matrix

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(13, 17, 41), (7, 31, 22), (20, 20, 20)])
def test_labels_are_resampled_as_batchgenerators_does(shape):
    blobs = ndimage.gaussian_filter(RNG.normal(size=(3, 10, 20, 30)), (0, 2, 2, 2))
    label = blobs.argmax(axis=0).astype(np.int16)
    ours, theirs = resample_label(label, shape, order=1, separate_axis=None), resize_segmentation(label, shape, order=1)
    shares = [
        resample_image((label == v)[None].astype(np.float32), shape, order=1, separate_axis=None)[0] for v in range(3)
    ]
    ordered = np.sort(shares, axis=0)
    tied = ordered[-1] - ordered[-2] < 1e-4  # ours go to the higher value, theirs to the nearest voxel's
    assert np.array_equal(ours[~tied], theirs[~tied])
    assert tied.mean() < 0.01


def test_the_crop_is_the_one_acvl_utils_finds():
    mask = np.zeros((10, 20, 30), bool)
    mask[RNG.integers(2, 8, 5), RNG.integers(3, 15, 5), RNG.integers(1, 29, 5)] = True
    assert [list(side) for side in bounding_box(mask)] == [list(side) for side in get_bbox_from_mask(mask)]


def test_the_nearest_slice_is_the_one_scipy_takes():
    for source in range(1, 60):
        for target in range(1, 60):
            centres = source / target * (np.arange(target) + 0.5) - 0.5
            theirs = ndimage.map_coordinates(np.arange(float(source)), [centres], order=0, mode="nearest")
            assert np.array_equal(resize_matrix(source, target, 0) @ np.arange(source), theirs), (source, target)


@pytest.mark.parametrize("separate_axis", [0, 1, 2])
def test_images_with_a_coarse_axis_are_resized_slice_by_slice(separate_axis):
    shape, target = [11, 12, 13], [17, 19, 23]
    image = RNG.normal(size=shape).astype(np.float32) ** 3  # so that splines overshoot
    ours = resample_image(image[None], target, order=3, separate_axis=separate_axis)[0]
    others = [n for axis, n in enumerate(target) if axis != separate_axis]
    slices = [
        resize(part.astype(float), others, 3, mode="edge", anti_aliasing=False)
        for part in np.moveaxis(image, separate_axis, 0)
    ]
    centres = shape[separate_axis] / target[separate_axis] * (np.arange(target[separate_axis]) + 0.5) - 0.5
    theirs = np.stack([slices[int(np.floor(centre + 0.5))] for centre in centres], axis=separate_axis)
    assert np.allclose(ours, theirs, atol=1e-5)
    assert ours.max() <= image.max()
