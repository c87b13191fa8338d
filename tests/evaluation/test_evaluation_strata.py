"""Cases by reference volume."""

import pytest

from autoseg.core.records import CaseScores
from autoseg.evaluation.summary import STRATA, name_stratum, stratify


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
