"""Which slice a 2D sample shows: all alike, those with a lesion, in proportion to its area, within margins."""

import numpy as np
import pytest

from autoseg.batches.sampling import draw_slice, draw_start
from autoseg.core.records import Lesions, SamplingSettings

# Lesion 1 has 1 voxel in slice 4 and 3 in slice 5; lesion 2, of the ignored label, lies in slice 0.
LESIONS = Lesions(
    label=np.array([1, 9], np.int16),
    size=np.array([4, 2], np.int64),
    start=np.array([0, 4, 6], np.int64),
    points=np.array([[4, 1, 1], [5, 1, 1], [5, 1, 2], [5, 2, 1], [0, 0, 0], [0, 0, 1]], np.int32),
)


def sampling(**changes):
    return SamplingSettings(**{"foreground_share": 0.0, "lesion_share": 0.0, **changes})


def draws(settings, count=8, lesions=LESIONS, times=2000):
    rng = np.random.default_rng(1)
    found = [draw_slice(rng, count, lesions, settings, ignore_label=9) for _ in range(times)]
    return {slice_: found.count(slice_) / times for slice_ in sorted(set(found))}


def test_all_slices_come_alike():
    shares = draws(sampling())
    assert list(shares) == list(range(8))
    assert max(shares.values()) < 1 / 8 + 0.03


def test_lesion_slices_come_alike_and_no_others():
    assert draws(sampling(slices="lesion")) == pytest.approx({4: 0.5, 5: 0.5}, abs=0.04)


def test_by_area_a_slice_comes_as_often_as_it_holds_voxels():
    assert draws(sampling(slices="area")) == pytest.approx({4: 0.25, 5: 0.75}, abs=0.04)


def test_points_that_stand_for_many_voxels_weigh_as_these():
    thinned = Lesions(
        label=np.array([1, 1], np.int16),
        size=np.array([6, 2], np.int64),
        start=np.array([0, 2, 4], np.int64),
        points=np.array([[1, 0, 0], [1, 0, 1], [2, 0, 0], [2, 0, 1]], np.int32),
    )
    assert draws(sampling(slices="area"), lesions=thinned) == pytest.approx({1: 0.75, 2: 0.25}, abs=0.04)


def test_a_case_without_lesion_gives_all_its_slices():
    assert list(draws(sampling(slices="lesion"), count=3, lesions=None)) == [0, 1, 2]


@pytest.mark.parametrize(("margin", "found"), [((2, 3), [2, 3, 4]), ((4, 4), [4]), ((9, 0), [4]), ((0, 7), [0])])
def test_margins_are_left_out_and_the_middle_is_kept(margin, found):
    assert list(draws(sampling(slice_margin=margin))) == found


def test_a_margin_may_leave_no_lesion():
    assert list(draws(sampling(slices="lesion", slice_margin=(0, 4)))) == [0, 1, 2, 3]


def test_a_sample_that_is_centred_on_a_lesion_stays_so():
    settings = sampling(foreground_share=1.0, slices="area", slice_margin=(6, 0))
    rng = np.random.default_rng(2)
    for _ in range(20):
        start = draw_start(rng, (8, 4, 4), (1, 4, 4), LESIONS, settings, sample=0, batch_size=1, ignore_label=9)
        assert start[0] in (4, 5)


def test_where_nothing_is_asked_for_the_draws_are_what_they_were():
    starts = [
        draw_start(np.random.default_rng(3), (8, 9, 9), (1, 4, 4), LESIONS, settings, sample=0, batch_size=1)
        for settings in (sampling(), sampling(slices="all"))
    ]
    rng = np.random.default_rng(3)
    assert starts == [tuple(int(rng.integers(n)) for n in (8, 6, 6))] * 2
