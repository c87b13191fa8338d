"""Cases by reference volume, and the bootstrap."""

import numpy as np
import pytest

from autoseg.core.records import CaseScores
from autoseg.evaluation import STRATA, bootstrap_interval
from autoseg.evaluation.strata import name_stratum, stratify


def case(name, volume_ml, dice):
    volumes = {"lesion": volume_ml}
    scores = {"lesion": {"dice": dice}}
    return CaseScores(case=name, scores=scores, reference_volume_ml=volumes, prediction_volume_ml=volumes)


@pytest.mark.parametrize(
    ("volume_ml", "name"),
    [
        (0.0, "empty"),
        (0.001, "below 0.1 ml"),
        (0.0999, "below 0.1 ml"),
        (0.1, "0.1 to 1 ml"),
        (1000 * 0.1 * 0.001 - 1e-16, "0.1 to 1 ml"),
        (1.0, "1 to 10 ml"),
        (9.99, "1 to 10 ml"),
        (10.0, "10 ml and more"),
        (400.0, "10 ml and more"),
    ],
)
def test_a_volume_has_one_class(volume_ml, name):
    assert name_stratum(volume_ml) == name
    assert name in STRATA


def test_statistics_of_each_class_that_holds_a_case():
    cases = [case("a", 0.0, None), case("b", 0.05, 0.2), case("c", 0.06, 0.4), case("d", 30.0, 0.9)]
    found = stratify(cases, ["dice"])["lesion"]

    assert list(found) == ["empty", "below 0.1 ml", "10 ml and more"]
    assert found["below 0.1 ml"]["dice"].mean == pytest.approx(0.3)
    assert found["below 0.1 ml"]["dice"].count == 2
    assert (found["empty"]["dice"].count, found["empty"]["dice"].undefined) == (0, 1)


def test_interval_of_two_values_is_their_range():
    """A resample of two has both equal with probability 1/2, so the 2.5 % tails are the two values themselves."""
    assert bootstrap_interval([0.2, 0.6]) == (0.2, 0.6)


def test_interval_of_many_values_is_near_the_normal_one():
    """400 normal values: mean +- 1.96 s / sqrt(n)."""
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    lower, upper = bootstrap_interval(values)
    half = 1.96 * values.std() / 20

    assert lower == pytest.approx(values.mean() - half, abs=0.02)
    assert upper == pytest.approx(values.mean() + half, abs=0.02)


def test_interval_is_the_same_every_time_and_other_with_another_seed():
    values = np.random.default_rng(2).random(50)

    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_equal_values_have_no_width():
    assert bootstrap_interval([0.7] * 7) == (0.7, 0.7)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_cases_have_no_interval(values):
    assert bootstrap_interval(values) is None
