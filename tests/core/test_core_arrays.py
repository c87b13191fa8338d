"""Priors on disk: there whole or not at all, mapped when they are many."""

import numpy as np
import pytest

from autoseg.core import arrays
from autoseg.core.arrays import is_prepared, read_priors, write_prior
from autoseg.core.errors import StaleError
from autoseg.core.records import Grid, Placement, PreparedCase

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
    (case,) = read_priors(tmp_path / "priors", [CASE], remedy="")
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
        read_priors(tmp_path, [CASE], remedy="do this")
    path.unlink()
    with pytest.raises(StaleError, match=r"is missing or damaged .*; do this"):
        read_priors(tmp_path, [CASE], remedy="do this")
