import numpy as np
import pytest
from scipy import ndimage

from autoseg.preprocessing.resampling import (
    axis_matrices,
    coarse_axis,
    resample_image,
    resample_label,
    resize_matrix,
    touched_box,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("source", "target"), [(10, 17), (17, 10), (5, 5), (1, 4), (4, 1)])
def test_rows_of_a_resize_matrix_sum_to_one(source, target, order):
    matrix = resize_matrix(source, target, order)
    assert matrix.shape == (target, source)
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_linear_doubling_by_hand():
    # Voxel centres of the finer grid lie at -0.25, 0.25, 0.75, 1.25 of the coarser one; beyond its edge, the edge.
    assert np.allclose(resize_matrix(2, 4, 1), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


@pytest.mark.parametrize("order", [1, 3])
def test_three_matrices_equal_one_zoom_of_the_volume(order):
    image = RNG.normal(size=(1, 10, 20, 30)).astype(np.float32)
    shape = (13, 17, 41)
    factors = [m / n for m, n in zip(shape, image.shape[1:], strict=True)]
    zoomed = ndimage.zoom(image[0].astype(float), factors, order=order, mode="nearest", grid_mode=True)
    zoomed = np.clip(zoomed, image.min(), image.max())
    ours = resample_image(image, shape, order=order, separate_axis=None)[0]
    assert np.abs(ours - zoomed).max() < 1e-5 * np.ptp(image)


def test_the_axis_resampled_apart_takes_its_nearest_neighbour():
    image = np.zeros((1, 2, 4, 4), np.float32)
    image[0, 1] = 1
    up = resample_image(image, (4, 4, 4), order=3, separate_axis=0)
    assert np.array_equal(up[0, :, 0, 0], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("spacings", "axis"),
    [
        ([(5.0, 0.9, 0.9)], 0),
        ([(1.0, 1.0, 1.0), (0.9, 0.9, 4.0)], 2),
        ([(1.0, 3.0, 1.0)], None),  # exactly 3 is not more than 3
        ([(4.0, 4.0, 1.0)], None),  # two coarse axes
    ],
)
def test_which_axis_is_coarse(spacings, axis):
    assert coarse_axis(spacings, 3.0) == axis


def test_labels_take_the_class_with_most_weight():
    label = np.zeros((6, 8, 10), np.int16)
    label[1:4, 2:6, 3:9], label[4:6, 2:6, 3:9] = 1, 2
    shape = (11, 9, 23)
    shares = [
        resample_image((label == v)[None].astype(np.float32), shape, order=1, separate_axis=None)[0] for v in range(3)
    ]
    ours = resample_label(label, shape, order=1, separate_axis=None)
    ordered = np.sort(shares, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5
    assert np.array_equal(ours[clear], np.argmax(shares, axis=0)[clear])
    assert clear.mean() > 0.95
    assert ours.dtype == label.dtype


def test_a_label_that_keeps_its_shape_is_untouched():
    label = RNG.integers(0, 3, (4, 5, 6))
    assert resample_label(label, (4, 5, 6), order=1, separate_axis=None) is label


@pytest.mark.parametrize("shape", [(10, 20, 30), (23, 11, 30), (4, 47, 61)])
def test_nothing_outside_the_touched_box_is_reached(shape):
    interesting = np.zeros((10, 20, 30), bool)
    interesting[3:5, 7:9, 20:29] = True
    matrices = axis_matrices(interesting.shape, shape, 1, None)
    _, target, _ = touched_box(interesting, matrices, shape)
    reached = resample_image(interesting[None].astype(np.float32), shape, order=1, separate_axis=None)[0] > 0
    outside = np.ones(shape, bool)
    outside[target] = False
    assert reached.any()
    assert not reached[outside].any()
