"""Arrays on disk: rounded only where that loses nothing, there whole or not at all, mapped when they are many."""

import numpy as np
import pytest

from autoseg.core import arrays
from autoseg.core.arrays import is_prepared, read_prepared, read_priors, store_image, write_prepared, write_prior
from autoseg.core.errors import StaleError
from autoseg.core.records import Grid, Placement, PreparedCase
from autoseg.core.store import read_array, write_array

SHAPE = (2, 3, 4)
PLACE = Placement(
    grid=Grid(shape=SHAPE, spacing=(1, 1, 1)),
    transpose=(0, 1, 2),
    flips=(False, False, False),
    crop=tuple((0, n) for n in SHAPE),
    cropped_spacing=(1, 1, 1),
    shape=SHAPE,
)
PRIOR = np.arange(24, dtype=np.uint8).reshape(SHAPE) % 3
CASE = PreparedCase(id="a", image=np.zeros((1, *SHAPE), np.float32), label=None, placement=PLACE, lesions=None)


@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_prior_comes_back_and_is_mapped_when_many(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(arrays, "MAPPED_ABOVE_BYTES", limit)
    write_prior(tmp_path / "priors", "a", PRIOR, PLACE, "key")
    (case,) = read_priors(tmp_path / "priors", [CASE], advice="")
    assert case.prior.dtype == np.uint8
    assert np.array_equal(case.prior, PRIOR)
    assert isinstance(case.prior, np.memmap) == (limit == 0)
    assert case.image is CASE.image


def test_a_prior_belongs_to_its_key(tmp_path):
    write_prior(tmp_path, "a", PRIOR, PLACE, "key")
    assert is_prepared(tmp_path, "a", "key")
    assert not is_prepared(tmp_path, "a", "other")
    assert not is_prepared(tmp_path, "b", "key")


def test_a_damaged_or_missing_prior_is_said(tmp_path):
    write_prior(tmp_path, "a", PRIOR, PLACE, "key")
    path = tmp_path / "a.prior.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StaleError, match=r"is missing or damaged .*; do this"):
        read_priors(tmp_path, [CASE], advice="do this")
    path.unlink()
    with pytest.raises(StaleError, match=r"is missing or damaged .*; do this"):
        read_priors(tmp_path, [CASE], advice="do this")


NORMAL = np.random.default_rng(0).standard_normal((2, 10, 20, 30), dtype=np.float32)


def test_float32_is_stored_as_it_is():
    assert store_image(NORMAL, "float32") is NORMAL


def test_rounding_to_half_precision_moves_a_value_by_at_most_its_2048th():
    image = NORMAL * np.float32(1000)
    image[0, 0] = 0
    stored = store_image(image, "float16")
    assert stored.dtype == np.float16
    error = np.abs(stored.astype(np.float64) - image)
    assert np.all(error <= np.maximum(np.abs(image) / 2048, 3e-8))
    assert error.max() > 0.1  # and no less than that is promised
    assert not stored[0, 0].any()


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1e5, 0), (-1e5, 0), (1e-8, 0), (1, 3000)],
    ids=["too large", "too small", "too close to zero", "too far from zero"],
)
def test_what_half_precision_cannot_hold_stays_float32(scale, offset):
    image = NORMAL.copy()
    image[1] = image[1] * np.float32(scale) + np.float32(offset)  # one such channel is enough
    assert store_image(image, "float16") is image


def test_background_does_not_hide_what_rounding_loses():
    image = np.zeros((1, 10, 20, 30), np.float32)
    image[0, 5] = 5000 + NORMAL[0, 5]
    assert store_image(image, "float16") is image


def test_a_flat_or_empty_channel_is_stored_exactly():
    flat = np.full((1, 2, 3, 4), 0.5, np.float32)
    assert store_image(flat, "float16").dtype == np.float16
    assert store_image(np.zeros_like(flat), "float16").dtype == np.float16
    assert store_image(flat * np.float32(0.1), "float16").dtype == np.float32  # 0.05 is no half


@pytest.mark.parametrize("limit", [0, 10**9])
def test_cases_of_either_precision_come_back_side_by_side(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(arrays, "MAPPED_ABOVE_BYTES", limit)
    images = {"a": NORMAL, "b": NORMAL.astype(np.float16)}
    for name, image in images.items():
        case = PreparedCase(id=name, image=image, label=None, placement=PLACE, lesions=None)
        write_prepared(tmp_path, case, "key")
    for case in read_prepared(tmp_path, ["a", "b"], advice=""):
        assert case.image.dtype == images[case.id].dtype
        assert np.array_equal(case.image, images[case.id])
        assert isinstance(case.image, np.memmap) == (limit == 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, bool])
@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 3), (7,)])
def test_any_array_is_written_as_numpy_reads_it(tmp_path, dtype, shape):
    array = np.asarray(NORMAL.ravel()[: int(np.prod(shape))].reshape(shape) * 9).astype(dtype)
    write_array(tmp_path / "x.npy", array.T)
    found = read_array(tmp_path / "x.npy")
    assert found.dtype == array.dtype
    assert found.shape == array.T.shape
    assert np.array_equal(found, array.T)
