"""Bootstrap by patient, signed-rank test and Holm's correction, worked by hand."""

import numpy as np
import pytest

from autoseg.core.records import CaseScores
from autoseg.evaluation.statistics import bootstrap_interval, describe_values, holm, list_patients, signed_rank_p


def each(values):
    """Every case its own patient."""
    return [str(number) for number in range(len(values))]


def test_interval_of_two_values_is_their_range():
    """A resample of two has both equal with probability 1/2, so the 2.5 % tails are the two values themselves."""
    assert bootstrap_interval([0.2, 0.6], ["a", "b"]) == (0.2, 0.6)


def test_interval_of_many_values_is_near_the_normal_one():
    """400 normal values: mean +- 1.96 s / sqrt(n)."""
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    lower, upper = bootstrap_interval(values, each(values))
    half = 1.96 * values.std() / 20

    assert lower == pytest.approx(values.mean() - half, abs=0.02)
    assert upper == pytest.approx(values.mean() + half, abs=0.02)


def test_two_scans_of_each_patient_widen_the_interval_by_root_two():
    """400 scans that are two equal ones of 200 patients: half the independent values, so sqrt(2) times the width."""
    values = np.repeat(np.random.default_rng(3).normal(5.0, 2.0, 200), 2)
    patients = [str(number // 2) for number in range(400)]
    lower, upper = bootstrap_interval(values, patients)
    lower_by_case, upper_by_case = bootstrap_interval(values, each(values))

    assert (upper - lower) / (upper_by_case - lower_by_case) == pytest.approx(2**0.5, rel=0.05)


def test_a_drawn_patient_brings_all_its_cases():
    """Patient a has 0, 0, 0, 0 and b has 1: the means are 0 (a twice), 1/5 (both) and 1 (b twice)."""
    values = [0.0, 0.0, 0.0, 0.0, 1.0]

    assert bootstrap_interval(values, ["a", "a", "a", "a", "b"]) == (0.0, 1.0)
    lower, upper = bootstrap_interval(values, each(values))
    assert lower == 0.0
    assert 0.4 <= upper <= 0.8  # five patients: b drawn three times has probability 1/20, four times 1/150


def test_interval_is_the_same_every_time():
    values = np.random.default_rng(2).random(50)

    assert bootstrap_interval(values, each(values)) == bootstrap_interval(values, each(values))


def test_equal_values_have_no_width():
    assert bootstrap_interval([0.7] * 7, each([0.7] * 7)) == (0.7, 0.7)
    assert bootstrap_interval([0.1] * 3, ["a", "a", "b"]) == (0.1, 0.1)


@pytest.mark.parametrize(("values", "patients"), [([], []), ([0.5], ["a"]), ([0.5, 0.7], ["a", "a"])])
def test_fewer_than_two_patients_have_no_interval(values, patients):
    assert bootstrap_interval(values, patients) is None


def test_undefined_cases_take_their_patient_with_them():
    """Patient b defines nothing, so only a is left, whose spread says nothing about patients."""
    found = describe_values([0.2, 0.4, None], ["a", "a", "b"])

    assert (found.count, found.undefined, found.interval) == (2, 1, None)


def test_a_case_without_a_known_patient_is_its_own():
    cases = [
        CaseScores(case=name, scores={}, reference_volume_ml={}, prediction_volume_ml={}, group=group)
        for name, group in (("a1", "a"), ("a2", "a"), ("x", None))
    ]
    assert list_patients(cases) == ["a", "a", "x"]


def test_signed_rank_of_five_equal_signs_is_one_sixteenth():
    differences = np.array([1.0, 2.0, 3.0, 4.0, 5.0])

    assert signed_rank_p(differences, each(differences)) == pytest.approx(2 / 2**5)
    assert signed_rank_p(np.zeros(4), each(np.zeros(4))) == 1.0


def test_signed_rank_takes_one_mean_difference_per_patient():
    """Three patients with the means 1, 2 and 3; differences that cancel within every patient are none."""
    assert signed_rank_p(np.array([0.0, 2.0, 2.0, 3.0]), ["a", "a", "b", "c"]) == pytest.approx(2 / 2**3)
    assert signed_rank_p(np.array([1.0, -1.0]), ["a", "a"]) == 1.0


def test_holm_steps_down_by_hand():
    # Sorted 0.01 x 3, 0.02 x 2, 0.5 x 1; never smaller than the one before.
    assert holm([0.02, 0.5, 0.01]) == pytest.approx([0.04, 0.5, 0.03])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
