"""Resampling at its edges, on tensors, and in the memory it may use."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.transform import resize

from autoseg.preprocessing import resampling
from autoseg.preprocessing.resampling import resample_image, resample_label
from autoseg.preprocessing.tensors import resample_tensor

RNG = np.random.default_rng(0)
SHAPES = [
    ((10, 20, 30), (13, 17, 41)),
    ((1, 9, 11), (1, 20, 7)),  # an axis of one voxel that stays
    ((1, 9, 11), (4, 9, 11)),  # and one that is repeated
    ((6, 8, 10), (30, 40, 50)),  # up by 5
    ((30, 40, 50), (6, 8, 10)),  # down by 5
    ((7, 8, 9), (1, 8, 9)),
]


@pytest.mark.parametrize(("source", "target"), SHAPES)
@pytest.mark.parametrize("order", [1, 3])
def test_images_are_resized_as_skimage_does(source, target, order):
    image = RNG.normal(size=source).astype(np.float32)
    ours = resample_image(image[None], target, order=order, separate_axis=None)[0]
    theirs = resize(image.astype(float), target, order, mode="edge", anti_aliasing=False)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-5 * np.ptp(image)


@pytest.mark.parametrize(("source", "target"), SHAPES)
@pytest.mark.parametrize("separate_axis", [None, 0, 2])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_tensors_get_the_same_numbers(source, target, separate_axis, order):
    image = RNG.normal(size=(2, *source)).astype(np.float32)
    ours = resample_tensor(torch.from_numpy(image), target, order=order, separate_axis=separate_axis)
    assert ours.dtype == torch.float32
    assert np.abs(ours.numpy() - resample_image(image, target, order=order, separate_axis=separate_axis)).max() < 1e-5


def test_tensors_are_resized_in_full_precision_even_under_autocast():
    image = RNG.normal(size=(1, 10, 12, 14)).astype(np.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = resample_tensor(torch.from_numpy(image), (13, 17, 11), order=3, separate_axis=None)
    assert np.abs(ours.numpy() - resample_image(image, (13, 17, 11), order=3, separate_axis=None)).max() < 1e-5


def test_without_clipping_a_spline_overshoots_and_with_it_not():
    step = np.zeros((1, 4, 4, 12), np.float32)
    step[..., 6:] = 1
    free = resample_tensor(torch.from_numpy(step), (4, 4, 40), order=3, separate_axis=None, clip=False)
    kept = resample_tensor(torch.from_numpy(step), (4, 4, 40), order=3, separate_axis=None)
    assert free.max() > 1.01
    assert kept.max() == 1
    assert torch.equal(kept, free.clamp(0, 1))


def test_equal_shapes_are_neither_computed_nor_copied():
    image = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
    assert resample_image(image, (4, 5, 6), order=3, separate_axis=0) is image
    tensor = torch.from_numpy(image)
    assert resample_tensor(tensor, (4, 5, 6), order=3, separate_axis=0) is tensor


def test_half_precision_is_resized_in_single():
    image = RNG.normal(size=(1, 6, 8, 10)).astype(np.float16)
    single = resample_image(image.astype(np.float32), (9, 7, 13), order=3, separate_axis=None)
    ours = resample_image(image, (9, 7, 13), order=3, separate_axis=None)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, single)
    tensor = resample_tensor(torch.from_numpy(image), (9, 7, 13), order=3, separate_axis=None)
    assert np.abs(tensor.numpy() - single).max() < 1e-5


@pytest.mark.parametrize("value", [0.0, -3.5, 65504.0, 1e30])
def test_a_flat_image_stays_flat_and_no_number_is_lost(value):
    image = np.full((1, 3, 1, 5), value, np.float32)
    ours = resample_image(image, (7, 2, 3), order=3, separate_axis=None)
    assert np.array_equal(ours, np.full((1, 7, 2, 3), value, np.float32))


@pytest.mark.parametrize(
    ("source", "target", "channels"),
    [((40, 50, 60), (60, 75, 90), 1), ((40, 50, 60), (60, 75, 90), 4), ((60, 75, 90), (40, 50, 60), 1)],
)
def test_memory_stays_below_two_and_a_half_times_the_larger_volume(source, target, channels):
    image = RNG.normal(size=(channels, *source)).astype(np.float32)
    largest = max(int(np.prod(source)), int(np.prod(target))) * 4 * channels
    resample_image(image, target, order=3, separate_axis=None)  # so that the matrices are made
    assert _peak(lambda: resample_image(image, target, order=3, separate_axis=None)) < 2.5 * largest


@pytest.mark.parametrize("separate_axis", [None, 0])
@pytest.mark.parametrize("source", [(20, 12, 14), (47, 12, 14)])
def test_labels_resampled_slab_by_slab_have_no_seams(monkeypatch, source, separate_axis):
    label = ndimage.gaussian_filter(RNG.normal(size=(3, *source)), (0, 2, 2, 2)).argmax(axis=0).astype(np.int16)
    ours = resample_label(label, (47, 17, 11), order=1, separate_axis=separate_axis)
    monkeypatch.setattr(resampling, "SLAB", 1000)
    assert np.array_equal(ours, resample_label(label, (47, 17, 11), order=1, separate_axis=separate_axis))


def test_many_classes_need_no_more_memory_than_few():
    few = np.zeros((30, 40, 50), np.int16)
    few[1:-1, 1:-1, 1:-1] = 1
    many = np.where(few > 0, RNG.integers(1, 30, few.shape), 0).astype(np.int16)
    shape = (60, 75, 90)
    peaks = [
        _peak(lambda label=label: resample_label(label, shape, order=1, separate_axis=None)) for label in (few, many)
    ]
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[0] < 3 * np.prod(shape) * 4  # shares of one class at a time, none of them kept


def _peak(function):
    """Bytes that numpy holds at most while the function runs, its value included."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
