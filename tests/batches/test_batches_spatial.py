"""Cutting, mirroring, rotating and scaling."""

from dataclasses import replace

import numpy as np
import pytest

from autoseg.batches.augmentation import cut_patch, draw_change
from autoseg.batches.augmentation.draws import rotation
from autoseg.batches.augmentation.kernels import half_to_float
from autoseg.batches.augmentation.spatial import smooth_field

SHAPE = (10, 20, 30)
IMAGE = np.random.default_rng(0).standard_normal((2, *SHAPE), dtype=np.float32)
LABEL = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)


def cut(make, start, size, *, image=IMAGE, label=LABEL, **changes):
    change = draw_change(np.random.default_rng(0), make.still(), channels=len(image), shape=size, flat=False)
    patch, target = np.full((len(image), *size), np.nan, np.float32), np.full(size, -9, np.int16)
    cut_patch(image, label, start, replace(change, **changes), patch, target)
    return patch, target


def test_without_change_a_patch_is_the_box(make):
    patch, target = cut(make, (2, 3, 4), (4, 8, 12))
    assert np.array_equal(patch, IMAGE[:, 2:6, 3:11, 4:16])
    assert np.array_equal(target, LABEL[2:6, 3:11, 4:16])


@pytest.mark.parametrize("matrix", [None, np.eye(3)])
def test_outside_the_volume_is_zero(make, matrix):
    patch, target = cut(make, (-3, 15, -1), (16, 8, 32), matrix=matrix)
    expected = np.zeros((2, 16, 8, 32), np.float32)
    expected[:, 3:13, :5, 1:31] = IMAGE[:, :, 15:20]
    assert np.allclose(patch, expected)
    assert np.array_equal(target[3:13, :5, 1:31], LABEL[:, 15:20])
    assert (target != 0).sum() == (LABEL[:, 15:20] != 0).sum()


@pytest.mark.parametrize("matrix", [None, np.eye(3)])
def test_mirror_flips_image_and_label(make, matrix):
    patch, target = cut(make, (2, 3, 4), (4, 8, 12), matrix=matrix, mirrored=(True, False, True))
    assert np.allclose(patch, IMAGE[:, 2:6, 3:11, 4:16][:, ::-1, :, ::-1], atol=1e-6)
    assert np.array_equal(target, LABEL[2:6, 3:11, 4:16][::-1, :, ::-1])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quarter_turn_is_rot90(make, axis):
    patch, target = cut(make, (2, 7, 12), (6, 6, 6), matrix=rotation(axis, np.pi / 2))
    plane = tuple(a for a in range(3) if a != axis)
    assert np.array_equal(target, np.rot90(LABEL[2:8, 7:13, 12:18], k=-1, axes=plane))
    expected = [np.rot90(channel[2:8, 7:13, 12:18], k=-1, axes=plane) for channel in IMAGE]
    assert np.allclose(patch, expected, atol=1e-5)


def test_scale_above_one_reaches_further(make):
    ramp = np.broadcast_to(np.arange(30, dtype=np.float32), (1, *SHAPE)).copy()
    patch, _ = cut(make, (4, 6, 9), (3, 5, 11), image=ramp, matrix=np.eye(3) * 1.4)
    assert np.allclose(patch[0, 1, 2], 14 + 1.4 * (np.arange(11) - 5), atol=1e-5)


def test_half_way_between_voxels_is_their_mean_and_the_label_a_vote(make):
    image = np.zeros((1, 1, 1, 4), np.float32)
    image[0, 0, 0] = [0, 2, 4, 8]
    label = np.array([[[1, 1, 3, 2]]], np.int16)
    patch, target = cut(make, (0, 0, 0), (1, 1, 3), image=image, label=label, matrix=np.eye(3))
    assert np.allclose(patch[0, 0, 0], [0, 2, 4])
    patch, target = cut(make, (0, 0, 0), (1, 1, 4), image=image, label=label, matrix=np.diag([1, 1, 1 / 3]))
    # positions 1, 4/3, 5/3, 2
    assert np.allclose(patch[0, 0, 0], [2, 2 + 2 / 3, 2 + 4 / 3, 4], atol=1e-6)
    assert target[0, 0].tolist() == [1, 1, 3, 3]


def test_vote_sums_corners_and_prefers_the_smaller_label(make):
    label = np.array([[[2, 1], [2, 1]]], np.int16)
    middle = np.eye(3)
    _, target = cut(make, (0, 0, 0), (1, 1, 1), label=label, image=np.zeros((1, 1, 2, 2), np.float32), matrix=middle)
    assert target.item() == 2
    change = draw_change(np.random.default_rng(0), make.still(), channels=1, shape=(1, 2, 2), flat=False)
    patch, target = np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 2, 2), np.int16)
    cut_patch(
        np.zeros((1, 1, 2, 2), np.float32), label, (0, 0, 0), replace(change, matrix=np.diag([1, 0, 0])), patch, target
    )
    assert (target == 1).all()  # in the very middle both weigh one half


def test_image_and_label_move_together(make):
    label = np.zeros(SHAPE, np.int16)
    label[3:7, 6:14, 8:22] = 1
    change = draw_change(
        np.random.default_rng(5),
        make.still(rotation_probability=1, scale_probability=1, elastic_probability=1, mirror_axes=(0, 1, 2)),
        channels=1,
        shape=SHAPE,
        flat=False,
    )
    patch, target = np.zeros((1, *SHAPE), np.float32), np.zeros(SHAPE, np.int16)
    cut_patch(label[None].astype(np.float32), label, (0, 0, 0), change, patch, target)
    assert target.any()
    assert np.array_equal(target == 1, patch[0] > 0.5)


def test_flat_change_never_mixes_slices(make):
    slices = np.broadcast_to(np.arange(1, 11, dtype=np.float32)[:, None, None], SHAPE)[None].copy()
    settings = make.everything(in_plane=True, rotation_degrees=(-180, 180))
    for seed in range(5):
        change = draw_change(np.random.default_rng(seed), settings, channels=1, shape=SHAPE, flat=False)
        patch, target = np.zeros((1, *SHAPE), np.float32), np.zeros(SHAPE, np.int16)
        cut_patch(slices, LABEL, (0, 0, 0), replace(change, mirrored=(False, True, True)), patch, target)
        centre = patch[0][:, 8:12, 13:17]
        assert np.allclose(centre, slices[0][:, 8:12, 13:17], atol=1e-5)


@pytest.mark.parametrize("start", [(2, 3, 4), (-3, 15, -1), (100, 0, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.3])
def test_whole_rows_and_single_voxels_are_interpolated_alike(make, axis, scale, start):
    matrix = rotation(axis, 0.3) * scale
    rows = cut(make, start, (5, 9, 12), matrix=matrix)
    # A displacement of 0 goes voxel by voxel.
    voxels = cut(make, start, (5, 9, 12), matrix=matrix, elastic=np.zeros((3, 7, 7, 7), np.float32))
    assert np.array_equal(rows[0], voxels[0])
    assert np.array_equal(rows[1], voxels[1])


@pytest.mark.parametrize("seed", range(40))
def test_long_rows_and_single_voxels_are_interpolated_alike(make, seed):
    """Rows of several runs, turned by anything from nothing to a quarter."""
    rng = np.random.default_rng(seed)
    shape = (6, 9, 400)
    image, label = rng.standard_normal((2, *shape), dtype=np.float32), rng.integers(0, 4, shape).astype(np.uint8)
    angles = rng.choice([0.0, 1e-9, 1e-7, 3e-6, 1e-3, 0.02, np.pi / 2], size=3)
    matrix = rotation(0, angles[0]) @ rotation(1, angles[1]) @ rotation(2, angles[2]) * rng.choice([0.7, 1.0, 1.2])
    start = tuple(int(v) for v in rng.integers((-3, -3, -60), (3, 4, 120)))
    size = (4, 6, int(rng.choice([129, 256, 300])))
    rows = cut(make, start, size, image=image, label=label, matrix=matrix)
    voxels = cut(make, start, size, image=image, label=label, matrix=matrix, elastic=np.zeros((3, 7, 7, 7), np.float32))
    assert np.array_equal(rows[0], voxels[0])
    assert np.array_equal(rows[1], voxels[1])


def test_the_last_slice_of_a_coarse_axis_is_read(make):
    patch, target = cut(make, (0, 0, 0), SHAPE, matrix=rotation(0, 0.0))
    assert np.allclose(patch, IMAGE, atol=1e-6)
    assert np.array_equal(target, LABEL)


def test_an_image_that_lies_otherwise_in_memory_gives_the_same_patch(make):
    turned = np.asfortranarray(IMAGE)
    expected = cut(make, (2, 3, 4), (4, 8, 12), matrix=rotation(1, 0.3))
    found = cut(make, (2, 3, 4), (4, 8, 12), matrix=rotation(1, 0.3), image=turned)
    assert np.array_equal(found[0], expected[0])


def test_half_precision_and_memory_maps_give_the_same_patch(make, tmp_path):
    np.save(tmp_path / "image.npy", IMAGE.astype(np.float16))
    stored = np.load(tmp_path / "image.npy", mmap_mode="r")
    turned = rotation(0, 0.3) @ rotation(2, -0.2)
    for matrix in (None, turned):
        expected = cut(make, (2, 3, 4), (4, 8, 12), matrix=matrix, image=IMAGE.astype(np.float16).astype(np.float32))
        found = cut(make, (2, 3, 4), (4, 8, 12), matrix=matrix, image=stored)
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])


def test_every_finite_half_is_widened_exactly():
    bits = np.arange(2**16, dtype=np.uint16)
    halves = bits[np.isfinite(bits.view(np.float16))].reshape(2, 4, 8, -1)
    wide = np.empty(halves.shape, np.float32)
    flipped = wide[:, ::-1, :, ::-1]
    half_to_float(halves, flipped)
    expected = halves.view(np.float16).astype(np.float32)
    assert np.array_equal(flipped.view(np.uint32), expected.view(np.uint32))  # minus zero and subnormals, too


def test_patch_far_outside_is_empty(make):
    for matrix in (None, np.eye(3)):
        patch, target = cut(make, (100, 0, 0), (4, 8, 12), matrix=matrix)
        assert not patch.any()
        assert not target.any()


def test_smooth_field_keeps_a_constant_and_a_slope():
    assert np.allclose(smooth_field(np.full((7, 7, 7), 2.5, np.float32), (1, 5, 9)), 2.5, atol=1e-5)
    slope = np.broadcast_to(np.arange(7, dtype=np.float32)[:, None, None], (7, 7, 7))
    assert np.allclose(smooth_field(slope, (9, 2, 2))[:, 0, 0], np.linspace(1, 5, 9), atol=1e-5)
