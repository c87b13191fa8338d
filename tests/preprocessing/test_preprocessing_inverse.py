"""Logits that come row by row: the same mask as all at once, and no more memory than the rows in hand."""

import tracemalloc

import numpy as np
import pytest
from restoring import restore_logits, restore_probabilities

from autoseg.core.records import ChannelNormalization, Grid, Placement, PreprocessingSettings
from autoseg.preprocessing import LogitRestorer

RNG = np.random.default_rng(0)


def settings(spacing=(None, None, None), **changes):
    return PreprocessingSettings(spacing=spacing, channels=(ChannelNormalization(),), **changes)


def placed(shape, *, scan=(12, 20, 16), crop=None, transpose=(0, 1, 2), flips=(False, False, False), spacing=(1, 1, 1)):
    turned = [scan[axis] for axis in transpose]
    return Placement(
        grid=Grid(shape=scan, spacing=tuple(float(spacing[transpose.index(axis)]) for axis in range(3))),
        transpose=transpose,
        flips=flips,
        crop=crop or tuple((0, n) for n in turned),
        cropped_spacing=tuple(map(float, spacing)),
        shape=shape,
    )


def smooth_logits(classes, shape):
    """Lobes of every class on background, so that winners form regions and not noise."""
    logits = RNG.normal(size=(classes, *shape)).astype(np.float32)
    for axis in (1, 2, 3):
        logits = logits + np.roll(logits, 1, axis)
    logits[0] += 1
    return logits


def give(logits, placement, chosen, sizes, **options):
    restorer = LogitRestorer(placement, chosen, **options)
    done = 0
    for size in sizes:
        restorer.add(logits[:, done : done + size])
        done += size
    assert done == logits.shape[1]
    return restorer


CASES = {
    "as it is": ((12, 20, 16), settings(), {}),
    "finer": ((19, 27, 23), settings((0.63, 0.74, 0.7)), {}),
    "coarser": ((7, 11, 9), settings((1.7, 1.8, 1.8)), {}),
    "slices apart": ((7, 33, 27), settings((1.7, 0.6, 0.6), coarse_axis_ratio=1.5), {}),
    "nearest": ((19, 27, 23), settings((0.63, 0.74, 0.7), probability_order=0), {}),
    "turned and cropped": (
        (17, 9, 14),
        settings((0.9, 1.1, 1.0)),
        {"crop": ((2, 18), (1, 11), (1, 15)), "transpose": (1, 0, 2), "flips": (True, False, True)},
    ),
}


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 3, 16])
def test_rows_one_after_the_other_give_what_all_at_once_gives(name, overlap, size):
    shape, chosen, where = CASES[name]
    placement = placed(shape, **where)
    logits = smooth_logits(3, shape)
    if overlap:
        logits = logits[1:] - 2
    options = {"values": (1, 2) if overlap else (0, 1, 5), "overlap": overlap}
    sizes = [size] * (shape[0] // size) + [shape[0] % size] * bool(shape[0] % size)
    rows = give(logits, placement, chosen, sizes, probabilities=np.dtype(np.float32), **options)
    whole = restore_logits(logits, placement, chosen, **options)
    shares = restore_probabilities(logits, placement, chosen, overlap=overlap)
    assert len(np.unique(whole.voxels)) == 3
    # A slab's matrix product may add in another order, so voxels that are as good as undecided may differ.
    clear = _is_decided(shares, overlap)
    assert np.array_equal(rows.finish().voxels[clear], whole.voxels[clear])
    assert np.allclose(rows.probabilities, shares, atol=1e-5)


def _is_decided(shares, overlap):
    if overlap:
        return np.all(np.abs(shares - 0.5) > 1e-5, axis=0)
    ordered = np.sort(shares, axis=0)
    return ordered[-1] - ordered[-2] > 1e-5


def test_a_row_between_two_by_hand():
    """Two rows become four: linear between centres, so the inner ones are 3/4 of the near row and 1/4 of the far."""
    placement = placed((2, 1, 1), scan=(4, 1, 1), spacing=(1, 1, 1))
    logits = np.array([[[[0]], [[0]]], [[[4]], [[-8]]]], np.float32)
    restorer = give(
        logits, placement, settings((2, 1, 1)), [1, 1], values=(0, 7), overlap=False, probabilities=np.dtype("float32")
    )
    assert restorer.finish().voxels.ravel().tolist() == [7, 7, 0, 0]
    expected = 1 / (1 + np.exp(-np.array([4, 4 * 0.75 - 8 * 0.25, 4 * 0.25 - 8 * 0.75, -8])))
    assert np.allclose(restorer.probabilities[1].ravel(), expected, rtol=1e-5)
    assert np.allclose(restorer.probabilities.sum(axis=0), 1)


def test_outside_the_crop_is_background_for_certain():
    placement = placed((4, 5, 6), crop=((3, 7), (2, 7), (1, 7)))
    logits = np.stack([np.zeros((4, 5, 6)), np.full((4, 5, 6), 2.0)]).astype(np.float32)
    shares = restore_probabilities(logits, placement, settings(), overlap=False)
    inside = np.zeros(placement.grid.shape, bool)
    inside[3:7, 2:7, 1:7] = True
    assert np.all(shares[0][~inside] == 1)
    assert np.allclose(shares[1][inside], 1 / (1 + np.exp(-2)))
    regions = restore_probabilities(logits, placement, settings(), overlap=True)
    assert not regions[:, ~inside].any()
    assert np.allclose(regions[0][inside], 0.5)


def test_large_logits_do_not_overflow():
    placement = placed((2, 2, 2), scan=(2, 2, 2))
    logits = np.full((2, 2, 2, 2), -500, np.float32)
    logits[1] = 500
    with np.errstate(all="raise"):
        assert np.all(restore_probabilities(logits, placement, settings(), overlap=True)[1] == 1)


def peak_bytes(classes, rows):
    """Peak of restoring so many rows, given 8 at a time, to a scan of twice as many."""
    plane = (48, 48)
    placement = placed((rows, *plane), scan=(2 * rows, *plane))
    logits = np.zeros((classes, 8, *plane), np.float32)
    logits[1:, :, 10:40, 10:40] = RNG.normal(size=(classes - 1, 8, 30, 30))
    chosen = settings((2, 1, 1))
    give_all = [logits] * (rows // 8)
    restorer = LogitRestorer(placement, chosen, values=tuple(range(classes)), overlap=False)
    tracemalloc.start()
    for part in give_all:
        restorer.add(part)
    restorer.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_classes_times_the_volume():
    peak_bytes(2, 64)  # matrices are made once
    few, many = peak_bytes(2, 64), peak_bytes(40, 64)
    slab, scan = 40 * 8 * 48 * 48 * 4, 40 * 128 * 48 * 48 * 4
    assert many < few + 2.5 * slab  # the slab in hand and the rows that wait for the next one
    assert many < scan / 5
    longer = peak_bytes(40, 192)
    assert longer - many < 3 * 128 * 2 * 48 * 48  # the mask itself, turned: bytes per voxel, not per class
