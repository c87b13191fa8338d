"""restore(prepare(label)) equals the label: isotropic, anisotropic, oblique, and all 48 axis orders."""

from itertools import permutations, product

import numpy as np
import pytest
from restoring import restore_label, restore_logits, restore_probabilities

from autoseg.core.errors import DataError
from autoseg.core.geometry import bounding_box, box_slices
from autoseg.core.masks import find_head
from autoseg.core.records import ChannelNormalization, Grid, Image, Label, PreprocessingSettings
from autoseg.preprocessing import (
    find_lesions,
    nonzero_mask,
    prepare_case,
    prepare_label,
)

RNG = np.random.default_rng(0)


def settings(spacing=(None, None, None), **changes):
    return PreprocessingSettings(spacing=spacing, channels=(ChannelNormalization(),), **changes)


def scan(grid):
    """An ellipsoid of brain on zero background, with two lesions inside; nothing is symmetric."""
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    radius = sum(((a - (n - 1) / 2) / (0.42 * n)) ** 2 for a, n in zip(axes, grid.shape, strict=True))
    brain = radius <= 1
    voxels = np.where(brain, 100 + RNG.normal(size=grid.shape), 0).astype(np.float32)
    label = np.zeros(grid.shape, np.int16)
    z, y, x = (n // 2 for n in grid.shape)
    label[z : z + 2, y - 3 : y + 1, x : x + 5] = 1
    label[z - 2 : z - 1, y, x - 4 : x - 1] = 2
    return Image(voxels=voxels[None], grid=grid), Label(voxels=label, grid=grid)


def direction(order, signs):
    """Array axis i runs along world axis order[i] with a sign; a column per array axis."""
    matrix = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[world, axis] = sign
    return tuple(tuple(row) for row in matrix)


def one_hot(label, classes=3):
    return np.stack([(label == value) for value in range(classes)]).astype(np.float32) * 8 - 4


ORIENTATIONS = [direction(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
A, B = np.radians(20), np.radians(35)
OBLIQUE = np.array([[np.cos(A), -np.sin(A), 0], [np.sin(A), np.cos(A), 0], [0, 0, 1]]) @ np.array(
    [[1, 0, 0], [0, np.cos(B), -np.sin(B)], [0, np.sin(B), np.cos(B)]]
)
GRIDS = [
    Grid(shape=(16, 20, 30), spacing=(1, 1, 1)),
    Grid(shape=(16, 20, 30), spacing=(5.5, 0.9, 0.9)),
    Grid(shape=(16, 20, 30), spacing=(1, 2, 3), direction=tuple(map(tuple, OBLIQUE[:, ::-1]))),
]


@pytest.mark.parametrize("grid", GRIDS, ids=["isotropic", "anisotropic", "oblique"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_label_comes_back_on_every_kind_of_grid(grid, order):
    image, label = scan(grid)
    chosen = settings(axis_order=order)
    prepared = prepare_case("a", image, label, chosen)
    assert prepared.image[0].size < image.voxels.size  # it was cropped
    back = restore_label(prepared.label, prepared.placement, chosen)
    assert np.array_equal(back.voxels, label.voxels)
    assert back.grid == grid
    logits = restore_logits(one_hot(prepared.label), prepared.placement, chosen, values=(0, 1, 2), overlap=False)
    assert np.array_equal(logits.voxels, label.voxels)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=range(48))
def test_label_comes_back_in_all_48_axis_orders(orientation):
    grid = Grid(shape=(10, 20, 30), spacing=(3, 2, 1), direction=orientation)
    image, label = scan(grid)
    prepared = prepare_case("a", image, label, settings())
    assert np.array_equal(restore_label(prepared.label, prepared.placement, settings()).voxels, label.voxels)


def test_all_48_axis_orders_of_one_scan_are_preprocessed_alike():
    image, label = scan(Grid(shape=(12, 20, 30), spacing=(3, 2, 1)))
    expected = prepare_case("a", image, label, settings())
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        # World axes (x,y,z) are array axes (2,1,0) of the canonical scan.
        transpose = tuple(2 - world for world in order)
        flips = tuple(slice(None, None, sign) for sign in signs)
        grid = Grid(
            shape=tuple(image.grid.shape[t] for t in transpose),
            spacing=tuple(image.grid.spacing[t] for t in transpose),
            direction=direction(order, signs),
        )
        turned = Image(voxels=np.ascontiguousarray(image.voxels[0].transpose(transpose)[flips])[None], grid=grid)
        moved = Label(voxels=np.ascontiguousarray(label.voxels.transpose(transpose)[flips]), grid=grid)
        prepared = prepare_case("a", turned, moved, settings())
        assert np.array_equal(prepared.label, expected.label)
        assert np.allclose(prepared.image, expected.image, atol=1e-5)


def test_stored_orientation_leaves_axes_alone():
    grid = Grid(shape=(12, 20, 30), spacing=(3, 2, 1), direction=direction((0, 1, 2), (1, 1, 1)))
    image, label = scan(grid)
    placement = prepare_case("a", image, label, settings(orientation="stored")).placement
    assert placement.transpose == (0, 1, 2)
    assert placement.flips == (False, False, False)


@pytest.mark.parametrize("grid", GRIDS, ids=["isotropic", "anisotropic", "oblique"])
def test_resampling_there_and_back_keeps_nearly_every_voxel(grid):
    image, label = scan(grid)
    chosen = settings(spacing=tuple(s * 0.6 for s in grid.spacing))
    prepared = prepare_case("a", image, label, chosen)
    assert prepared.placement.shape == prepared.image.shape[1:] != prepared.placement.cropped_shape
    back = restore_label(prepared.label, prepared.placement, chosen).voxels
    found, wanted = back == 1, label.voxels == 1
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.95


@pytest.mark.parametrize("order", [0, 1])
def test_slabs_and_boxes_change_no_voxel(order):
    grid = Grid(shape=(41, 20, 30), spacing=(1, 1, 1))
    image, label = scan(grid)
    chosen = settings(spacing=(0.7, 1.3, 1.1), probability_order=order)
    prepared = prepare_case("a", image, label, chosen)
    logits = RNG.normal(size=(3, *prepared.placement.shape)).astype(np.float32)
    logits[0] += 2.5
    mask = restore_logits(logits, prepared.placement, chosen, values=(0, 1, 2), overlap=False).voxels
    whole = restore_probabilities(logits, prepared.placement, chosen, overlap=False)
    assert np.allclose(whole.sum(axis=0), 1, atol=1e-5)
    ordered = np.sort(whole, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5
    assert np.array_equal(mask[clear], whole.argmax(axis=0)[clear])
    assert {1, 2} <= set(np.unique(mask))


def test_regions_are_painted_over_each_other():
    grid = Grid(shape=(2, 3, 4), spacing=(1, 1, 1))
    image = Image(voxels=np.ones((1, 2, 3, 4), np.float32), grid=grid)
    placement = prepare_case("a", image, None, settings()).placement
    logits = np.full((2, 2, 3, 4), -1, np.float32)
    logits[0, 0], logits[1, 0, 0] = 1, 1
    mask = restore_logits(logits, placement, settings(), values=(1, 2), overlap=True).voxels
    assert np.all(mask[0, 0] == 2)
    assert np.all(mask[0, 1:] == 1)
    assert not mask[1].any()


def test_an_empty_label_stays_empty():
    image, label = scan(GRIDS[0])
    empty = Label(voxels=np.zeros_like(label.voxels), grid=label.grid)
    prepared = prepare_case("a", image, empty, settings(spacing=(2, 2, 2)))
    assert not prepared.label.any()
    assert len(prepared.lesions.size) == 0
    background = np.stack([np.ones(prepared.placement.shape), np.zeros(prepared.placement.shape)]).astype(np.float32)
    mask = restore_logits(background, prepared.placement, settings(spacing=(2, 2, 2)), values=(0, 1), overlap=False)
    assert not mask.voxels.any()


def test_holes_belong_to_the_head():
    voxels = np.zeros((1, 5, 5, 5), np.float32)
    voxels[0, 1:4, 1:4, 1:4] = 1
    voxels[0, 2, 2, 2] = 0
    assert nonzero_mask(voxels).sum() == 27


def test_a_scan_with_noise_around_it_is_cropped_to_the_head_and_zero_outside():
    image, label = scan(GRIDS[0])
    noise = np.where(image.voxels == 0, RNG.uniform(0.5, 2, image.voxels.shape), image.voxels).astype(np.float32)
    noisy = Image(voxels=noise, grid=image.grid)
    inside = (ChannelNormalization(inside_mask=True),)
    chosen = PreprocessingSettings(spacing=(None, None, None), channels=inside, region="head")
    prepared = prepare_case("a", noisy, label, chosen)
    head = find_head(noise)
    box = box_slices(bounding_box(head))
    assert prepared.placement.crop == bounding_box(head)
    assert prepared.image.shape[1:] < image.voxels.shape[1:]
    assert not prepared.image[0][~head[box]].any()
    assert prepared.image[0][head[box]].mean() == pytest.approx(0, abs=1e-5)
    assert np.array_equal(restore_label(prepared.label, prepared.placement, chosen).voxels, label.voxels)


def test_lesions_are_found_with_their_voxels():
    label = np.zeros((10, 20, 30), np.uint8)
    label[0, 0, :4] = 1
    label[5:8, 5:18, 5:29] = 1  # 936 voxels
    label[0, 1, 4] = 2  # touches the first by a corner, but is another class
    label[9, 19, 29] = 1
    lesions = find_lesions(label)
    assert sorted(zip(lesions.label.tolist(), lesions.size.tolist(), strict=True)) == [(1, 1), (1, 4), (1, 936), (2, 1)]
    for number, value in enumerate(lesions.label):
        points = lesions.points[lesions.start[number] : lesions.start[number + 1]]
        assert len(points) == min(lesions.size[number], 1000)
        assert np.all(label[tuple(points.T)] == value)


def test_a_huge_lesion_is_thinned_evenly():
    lesions = find_lesions(np.ones((20, 30, 40), np.uint8))
    assert lesions.size.tolist() == [24000]
    assert len(lesions.points) == 1000
    assert np.abs(lesions.points.mean(axis=0) - [9.5, 14.5, 19.5]).max() < 1


@pytest.mark.parametrize("spacing", [(None, None, None), (2, 2, 2)])
@pytest.mark.parametrize("grid", GRIDS, ids=["isotropic", "anisotropic", "oblique"])
def test_a_mask_is_brought_over_exactly_as_a_label_is(grid, spacing):
    image, label = scan(grid)
    chosen = settings(spacing, axis_order=(2, 0, 1))
    placement = prepare_case("a", image, None, chosen).placement
    mask = Label(voxels=label.voxels.astype(np.uint8), grid=grid)
    moved = prepare_label(mask, placement, chosen)
    assert moved.dtype == np.uint8
    assert np.array_equal(moved, prepare_case("a", image, label, chosen).label)
    assert (moved == 1).any()


def test_a_spacing_that_fills_the_memory_is_refused_at_once():
    image, _ = scan(Grid(shape=(20, 28, 24), spacing=(1e6, 1.0, 1.0)))
    with pytest.raises(DataError, match=r"case a: at the planned spacing .* its own spacing is 1e\+06 x 1 x 1"):
        prepare_case("a", image, None, settings((1.0, 1.0, 1.0)))
