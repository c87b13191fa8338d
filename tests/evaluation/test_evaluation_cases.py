"""Scoring one case."""

import numpy as np
import pytest

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import Dataset
from autoseg.evaluation import DEFAULT_METRICS, Convention, score_case
from autoseg.metrics import METRICS

SHAPE = (10, 20, 30)
LABELS = {"background": 0, "core": 1, "oedema": 2}


def score(
    prediction, reference, *, probabilities=None, metrics=("dice",), empty_score="undefined", penalty_mm=None, **dataset
):
    """Scores of case a, on voxels of 6 mm3."""
    return score_case(
        "a",
        prediction,
        reference,
        spacing=(3.0, 1.0, 2.0),
        dataset=Dataset(**{"name": "Tiny", "kind": "nnunet", "channels": ("T1",), "labels": LABELS} | dataset),
        convention=Convention(metrics=metrics, empty_score=empty_score, penalty_mm=penalty_mm),
        probabilities=probabilities,
    )


@pytest.fixture
def masks():
    """Core: 4 predicted, 4 referenced, 2 common. Oedema: 2 predicted, 4 referenced, 2 common."""
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[5, 5, 0:4], reference[5, 5, 4:8] = 1, 2
    prediction[5, 5, 2:6], prediction[5, 5, 6:8] = 1, 2
    return prediction, reference


def test_every_label_but_the_background_is_scored(masks):
    found = score(*masks)

    assert found.case == "a"
    assert found.scores == {"core": {"dice": 0.5}, "oedema": {"dice": pytest.approx(4 / 6)}}
    assert found.reference_volume_ml == pytest.approx({"core": 0.024, "oedema": 0.024})
    assert found.prediction_volume_ml == pytest.approx({"core": 0.024, "oedema": 0.012})


def test_regions_replace_labels(masks):
    """Whole: 6 predicted, 8 referenced, 6 common."""
    found = score(*masks, regions={"whole": (1, 2), "core": (1,)})

    assert found.scores == {"whole": {"dice": pytest.approx(12 / 14)}, "core": {"dice": 0.5}}


def test_ignored_voxels_leave_both_masks_and_the_domain(masks):
    prediction, reference = masks
    reference[5, 5, 4:6] = 9  # two voxels predicted as core, and not counted
    ignored = {"ignore_label": 9, "labels": LABELS | {"ignore": 9}}

    found = score(prediction, reference, metrics=("dice", "accuracy"), **ignored)

    assert list(found.scores) == ["core", "oedema"]
    assert found.scores["core"] == {"dice": pytest.approx(4 / 6), "accuracy": pytest.approx(1 - 2 / 5998)}
    assert found.scores["oedema"] == {"dice": 1.0, "accuracy": 1.0}
    assert found.prediction_volume_ml["core"] == pytest.approx(0.012)


def test_empty_masks_are_undefined_unless_asked_otherwise():
    empty = np.zeros(SHAPE, np.uint8)

    assert score(empty, empty).scores["core"]["dice"] is None
    assert score(empty, empty, empty_score="one").scores["core"]["dice"] == 1.0


def test_default_metrics_exist():
    assert set(DEFAULT_METRICS) <= set(METRICS)
    assert Convention().metrics == DEFAULT_METRICS


@pytest.mark.parametrize("kind", [bool, np.int16, np.uint64])
def test_integer_kinds_are_alike(kind):
    mask = np.zeros(SHAPE, kind)
    mask[1, 2, 3] = 1

    assert score(mask, mask).scores["core"]["dice"] == 1.0


def test_other_shape_names_the_case_and_both_shapes(masks):
    with pytest.raises(DataError, match=r"case a: the prediction has shape \(9, 20, 30\) and the reference \(10, 20"):
        score(masks[0][1:], masks[1])


@pytest.mark.parametrize("value", [255, -1, 70000])
def test_unknown_value_is_refused_instead_of_scored_as_empty(masks, value):
    prediction = np.where(masks[0] > 0, np.int32(value), 0)

    with pytest.raises(DataError, match=f"case a: the prediction has the value {value}, which .*0, 1, 2"):
        score(prediction, masks[1])


def test_probabilities_are_refused(masks):
    with pytest.raises(DataError, match="case a: the prediction has float64 values; save it as integers"):
        score(masks[0] * 0.5, masks[1])


def test_unknown_metric_is_refused(masks):
    with pytest.raises(UsageError, match="unknown metric 'dise'"):
        score(*masks, metrics=("dise",))


def test_a_case_without_a_prediction_gets_the_worst_of_every_metric(masks):
    """The grid is 30 x 20 x 60 mm; core holds 4 voxels of 6 mm3."""
    metrics = ("dice", "hd95", "volume_difference_ml")
    found = score(None, masks[1], metrics=metrics)

    assert found.missing
    assert found.scores["core"] == pytest.approx({"dice": 0.0, "hd95": 70.0, "volume_difference_ml": 0.024})
    assert found.prediction_volume_ml == {"core": 0.0, "oedema": 0.0}
    assert score(None, masks[1], metrics=metrics, penalty_mm=374.0).scores["core"]["hd95"] == 374.0


def test_a_metric_that_ranks_voxels_asks_for_probabilities(masks):
    with pytest.raises(UsageError, match="average_precision needs probabilities of case a; predict it with --prob"):
        score(*masks, metrics=("dice", "average_precision"))


def test_probabilities_of_ignored_voxels_do_not_count(masks):
    """The likeliest voxel is wrong, and ignored."""
    prediction, reference = masks
    probability = (reference == 1) * 0.5
    probability[9, 19, 29], reference[9, 19, 29] = 0.9, 9
    counted = score(
        prediction,
        reference,
        probabilities={"core": probability, "oedema": probability},
        metrics=("average_precision",),
        labels=LABELS | {"ignore": 9},
        ignore_label=9,
    )
    assert counted.scores["core"]["average_precision"] == 1.0
