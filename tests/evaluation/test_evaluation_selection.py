"""The choice among candidates: numbers worked by hand."""

import pytest

from autoseg.core.errors import DataError
from autoseg.evaluation.selection import choose_candidate, list_candidates

MEMBERS = {"2d": ("2d",), "3d": ("3d",), "2d+3d": ("2d", "3d")}


def choose(values, *, higher_is_better=True, patients=None, members=MEMBERS):
    count = len(next(iter(values.values())))
    return choose_candidate(
        values,
        members,
        metric="dice",
        higher_is_better=higher_is_better,
        patients=patients or [f"patient{number}" for number in range(count)],
    )


def test_candidates_are_each_two_and_all():
    assert list_candidates(["2d"]) == {"2d": ("2d",)}
    assert list(list_candidates(["3d", "2d"])) == ["3d", "2d", "3d+2d"]
    assert list(list_candidates(["a", "b", "c"])) == ["a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"]


def test_the_best_mean_wins_and_the_others_are_told_by_how_much():
    values = {"2d": [0.5, 0.6, 0.7], "3d": [0.6, 0.7, 0.8], "2d+3d": [0.7, 0.8, 0.9]}
    choice = choose(values)
    assert choice.winner == "2d+3d"
    assert choice.scores["2d+3d"].difference is None
    assert choice.scores["2d+3d"].p_value is None
    assert choice.scores["3d"].difference == pytest.approx(-0.1)
    assert choice.scores["2d"].difference == pytest.approx(-0.2)
    assert "2d+3d has the highest mean dice, 0.8000" in choice.reason
    assert "the next is 3d, 0.1000 lower" in choice.reason
    assert "not significant at 5 %" in choice.reason  # of three cases nothing is


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
    assert choice.scores["3d"].target == pytest.approx(0.2)


def test_no_common_case_is_an_error_that_names_the_metric():
    with pytest.raises(DataError, match="no held-out case has a dice for every candidate"):
        choose({"2d": [None, 0.5], "3d": [0.5, None], "2d+3d": [0.5, 0.5]})


def test_one_candidate_is_said_to_be_the_only_one():
    choice = choose({"3d": [0.5, 0.7]}, members={"3d": ("3d",)})
    assert choice.reason.endswith("it is the only candidate.")


def test_two_scans_of_one_patient_count_once_in_interval_and_test():
    """3d scores 0.6 and 0.7 in patient a and 0.9 in b; drawing a twice or b twice has probability 1/4 each, so the
    bounds are the patients' means. Two differences have p = 2 / 2**2, three p = 2 / 2**3."""
    values = {"2d": [0.5, 0.5, 0.2], "3d": [0.6, 0.7, 0.9]}
    members = {"2d": ("2d",), "3d": ("3d",)}
    each = choose(values, members=members)
    paired = choose(values, members=members, patients=["a", "a", "b"])

    assert each.scores["2d"].p_value == pytest.approx(2 / 2**3)
    assert paired.scores["2d"].p_value == pytest.approx(2 / 2**2)
    assert (paired.scores["3d"].lower, paired.scores["3d"].upper) == (pytest.approx(0.65), pytest.approx(0.9))


def test_one_patient_has_no_interval():
    choice = choose({"3d": [0.5, 0.7]}, members={"3d": ("3d",)}, patients=["a", "a"])

    assert (choice.scores["3d"].lower, choice.scores["3d"].upper) == (None, None)
    assert "interval" not in choice.reason
