"""Where patches come from."""

import numpy as np
import pytest

from autoseg.batches.sampling import draw_case, draw_point, draw_start, is_forced, make_case_schedule, sample_generator
from autoseg.core.records import Lesions, SamplingSettings

HALF = SamplingSettings(foreground_share=0.5, lesion_share=0.0)


def test_a_generator_is_its_own_for_every_sample_step_and_seed():
    draws = {
        sample_generator(seed, step, sample).integers(2**63)
        for seed in (0, 1, (0, 1), (1, 1))
        for step in range(5)
        for sample in range(5)
    }
    assert len(draws) == 100


def test_all_cases_pass_before_any_comes_again():
    order = [draw_case(7, 3, position) for position in range(21)]
    assert all(sorted(order[start : start + 7]) == list(range(7)) for start in (0, 7, 14))
    assert order[:7] != order[7:14]
    assert order != [draw_case(7, 4, position) for position in range(21)]


def lined_up(make, kinds, share, *, batch_size=2, **options):
    """The row of cases of which ``kinds`` says whether each holds lesions."""
    cases = [make.prepared(f"case{i}", empty=not holds).lesions for i, holds in enumerate(kinds)]
    settings = SamplingSettings(foreground_share=0.33, lesion_share=0.0, empty_case_share=share)
    return make_case_schedule(cases, settings, batch_size=batch_size, **options)


def test_without_a_share_cases_come_as_they_are(make):
    kinds = (True, False, False, True, False)
    row = lined_up(make, kinds, None)
    assert [row.draw(3, k, s) for k in range(10) for s in range(2)] == [draw_case(5, 3, p) for p in range(20)]
    for alike in ((True,) * 5, (False,) * 5):  # nothing to choose between
        row = lined_up(make, alike, 0.5)
        assert [row.draw(3, k, s) for k in range(10) for s in range(2)] == [draw_case(5, 3, p) for p in range(20)]


@pytest.mark.parametrize(("share", "batch_size"), [(0.25, 2), (0.25, 3), (0.1, 4), (0.0, 2), (1.0, 2), (0.5, 1)])
def test_cases_without_lesions_give_their_share(make, share, batch_size):
    kinds = (True, False, False, True, False, True, True)
    row = lined_up(make, kinds, share, batch_size=batch_size)
    steps = 120
    drawn = [row.draw(3, step, sample) for step in range(steps) for sample in range(batch_size)]
    empty = [case for case in drawn if not kinds[case]]
    lesioned = [case for case in drawn if kinds[case]]
    assert abs(len(empty) - share * len(drawn)) <= 1
    for found, own in ((empty, 3), (lesioned, 4)):  # all of a kind pass before any comes again
        rounds = [found[start : start + own] for start in range(0, len(found) - own + 1, own)]
        assert all(len(set(one)) == own for one in rounds)
        assert len({tuple(one) for one in rounds}) > 1 or not found
    assert drawn == [row.draw(3, step, sample) for step in range(steps) for sample in range(batch_size)]


def test_samples_that_need_a_lesion_get_a_case_that_has_one(make):
    kinds = (False, False, False, True)
    row = lined_up(make, kinds, 0.5)
    assert [kinds[row.draw(3, step, sample)] for step in range(9) for sample in range(2)] == [False, True] * 9


def test_a_case_with_nothing_but_the_ignored_label_counts_as_empty(make):
    row = lined_up(make, (True, True), 0.5, ignore_label=1)
    assert (row.lesioned, row.empty) == ((), (0, 1))


def test_voxel_share_follows_volume_and_lesion_share_does_not(make):
    lesions = make.prepared("a").lesions
    assert lesions.size.tolist() == [600, 1]
    rng = np.random.default_rng(0)
    tiny = {
        by_lesion: sum(draw_point(rng, lesions, by_lesion=by_lesion)[1] == 17 for _ in range(600))
        for by_lesion in (False, True)
    }
    assert tiny[False] < 10  # 1 in 601
    assert 240 < tiny[True] < 360  # 1 in 2


def test_labels_are_drawn_alike_and_the_ignored_one_never(make):
    label = np.zeros((10, 20, 30), np.int16)
    boxes = [np.s_[0:8, 0:9, 0:9], np.s_[9:10, 19:20, 29:30], np.s_[0:8, 11:18, 11:20]]
    for value, box in zip((1, 2, 9), boxes, strict=True):
        label[box] = value
    lesions = make.make_lesions(label, boxes)
    rng = np.random.default_rng(0)
    drawn = [int(label[tuple(draw_point(rng, lesions, by_lesion=False, ignore_label=9))]) for _ in range(400)]
    assert 160 < drawn.count(2) < 240
    assert 9 not in drawn


def test_thinned_points_do_not_change_a_lesions_weight():
    lesions = Lesions(
        label=np.ones(2, np.int16),
        size=np.array([1_000_000, 1_000_000]),
        start=np.array([0, 1, 4]),
        points=np.array([[0, 0, 0], [1, 1, 1], [1, 1, 2], [1, 1, 3]], np.int32),
    )
    rng = np.random.default_rng(0)
    first = sum(not draw_point(rng, lesions, by_lesion=False).any() for _ in range(400))
    assert 160 < first < 240


@pytest.mark.parametrize(
    ("batch_size", "shares", "forced"),
    [
        (2, (1 / 3, 0), 1),
        (1, (0.1, 0), 1),
        (12, (1 / 3, 0), 4),
        (12, (1 / 3, 1 / 3), 8),
        (4, (0, 0), 0),
        (3, (1, 0), 3),
    ],
)
def test_last_samples_of_a_batch_are_forced(batch_size, shares, forced):
    settings = SamplingSettings(foreground_share=shares[0], lesion_share=shares[1])
    chosen = [is_forced(sample, batch_size, settings) for sample in range(batch_size)]
    assert chosen == [False] * (batch_size - forced) + [True] * forced


def test_forced_patch_holds_the_lesion_and_stays_inside(make):
    lesions = make.prepared("a").lesions
    only_lesions = SamplingSettings(foreground_share=0, lesion_share=0.5)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        start = draw_start(rng, (10, 20, 30), (4, 8, 12), lesions, only_lesions, sample=1, batch_size=2)
        stop = np.add(start, (4, 8, 12))
        assert (np.array(start) >= 0).all()
        assert (stop <= (10, 20, 30)).all()
        assert ((lesions.points >= start) & (lesions.points < stop)).all(axis=1).any()


def test_free_patch_covers_every_position():
    rng = np.random.default_rng(0)
    starts = [draw_start(rng, (10, 20, 30), (9, 18, 29), None, HALF, sample=0, batch_size=2) for _ in range(300)]
    assert set(starts) == {(z, y, x) for z in (0, 1) for y in (0, 1, 2) for x in (0, 1)}


def test_small_volume_is_centred(make):
    rng = np.random.default_rng(0)
    start = draw_start(rng, (10, 20, 30), (16, 21, 30), make.prepared("a").lesions, HALF, sample=1, batch_size=2)
    assert start == (-3, 0, 0)


def test_case_without_lesions_gives_a_free_patch(make):
    lesions = make.prepared("a", empty=True).lesions
    starts = {
        draw_start(np.random.default_rng(seed), (10, 20, 30), (4, 8, 12), lesions, HALF, sample=1, batch_size=2)
        for seed in range(20)
    }
    assert len(starts) > 15
