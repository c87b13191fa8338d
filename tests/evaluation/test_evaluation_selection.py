"""The choice among candidates: numbers worked by hand."""

import numpy as np
import pytest

from autoseg.core.errors import DataError
from autoseg.evaluation.selection import (
    bootstrap_bounds,
    choose_candidate,
    holm,
    list_candidates,
    signed_rank_p,
)

MEMBERS = {"2d": ("2d",), "3d": ("3d",), "2d+3d": ("2d", "3d")}


def choose(values, *, higher_is_better=True, groups=None, members=MEMBERS):
    count = len(next(iter(values.values())))
    return choose_candidate(
        values,
        members,
        metric="dice",
        higher_is_better=higher_is_better,
        groups=groups or [f"patient{number}" for number in range(count)],
        generator=np.random.default_rng(0),
    )


def test_candidates_are_each_two_and_all():
    assert list_candidates(["2d"]) == {"2d": ("2d",)}
    assert list(list_candidates(["3d", "2d"])) == ["3d", "2d", "3d+2d"]
    assert list(list_candidates(["a", "b", "c"])) == ["a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"]


def test_the_best_mean_wins_and_the_others_are_told_by_how_much():
    values = {"2d": [0.5, 0.6, 0.7], "3d": [0.6, 0.7, 0.8], "2d+3d": [0.7, 0.8, 0.9]}
    choice = choose(values)
    assert choice.winner == "2d+3d"
    assert choice.standings["2d+3d"].difference is None
    assert choice.standings["2d+3d"].p_value is None
    assert choice.standings["3d"].difference == pytest.approx(-0.1)
    assert choice.standings["2d"].difference == pytest.approx(-0.2)
    assert "2d+3d has the highest mean dice, 0.8000" in choice.reason
    assert "the next is 3d, 0.1000 lower" in choice.reason
    assert "within chance" in choice.reason  # of three cases nothing is


def test_lower_may_be_better():
    values = {"2d": [4.0, 6.0], "3d": [3.0, 5.0], "2d+3d": [5.0, 5.0]}
    choice = choose(values, higher_is_better=False)
    assert choice.winner == "3d"
    assert "3d has the lowest mean dice, 4.0000" in choice.reason
    assert "1.0000 higher" in choice.reason


def test_an_ensemble_that_is_only_as_good_as_its_member_does_not_win():
    values = {"2d": [0.2, 0.2], "3d": [0.6, 0.8], "2d+3d": [0.7, 0.7]}
    assert choose(values).winner == "3d"


def test_means_are_over_the_cases_that_every_candidate_scores():
    values = {"2d": [0.9, None, 0.1], "3d": [0.2, 0.9, 0.2], "2d+3d": [0.1, 0.9, 0.1]}
    choice = choose(values)
    assert choice.cases == 2
    assert choice.winner == "2d"  # 0.5 against 0.2 and 0.1; over all cases 3d would win
    assert choice.standings["3d"].target == pytest.approx(0.2)


def test_no_common_case_is_an_error_that_names_the_metric():
    with pytest.raises(DataError, match="no held-out case in which every candidate has a dice"):
        choose({"2d": [None, 0.5], "3d": [0.5, None], "2d+3d": [0.5, 0.5]})


def test_one_candidate_is_said_to_be_the_only_one():
    choice = choose({"3d": [0.5, 0.7]}, members={"3d": ("3d",)})
    assert choice.reason.endswith("it is the only candidate.")


def test_holm_steps_down_by_hand():
    # Sorted 0.01 x 3, 0.02 x 2, 0.5 x 1; never smaller than the one before.
    assert holm([0.02, 0.5, 0.01]) == pytest.approx([0.04, 0.5, 0.03])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_signed_rank_of_five_equal_signs_is_one_sixteenth():
    assert signed_rank_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 2**5)
    assert signed_rank_p(np.zeros(4)) == 1.0


def test_the_interval_resamples_patients():
    table = np.array([[0.0, 0.0, 0.0, 0.0, 1.0]])
    low, high = bootstrap_bounds(table, ["a", "a", "a", "a", "b"], np.random.default_rng(0))
    assert (low[0], high[0]) == (0.0, 1.0)  # patient b, or a, alone is drawn one time in four
    low, high = bootstrap_bounds(table, list("abcde"), np.random.default_rng(0))
    assert low[0] == 0.0
    assert 0.4 <= high[0] <= 0.8


def test_the_interval_of_equal_values_has_no_width():
    low, high = bootstrap_bounds(np.full((2, 6), 0.25), list("aabbcc"), np.random.default_rng(1))
    assert low.tolist() == high.tolist() == [0.25, 0.25]
