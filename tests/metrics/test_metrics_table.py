"""What holds for every metric of the table."""

import math

import numpy as np
import pytest

from autoseg.core.errors import UsageError
from autoseg.metrics import METRICS, compare

SPACING = (3.0, 1.0, 2.0)
EMPTY = np.zeros((10, 20, 30), bool)
LESION = EMPTY.copy()
LESION[2:4, 5:8, 9:13] = True  # 24 voxels of 6 mm3 in a grid of 6000

# name: (both empty, both empty with empty_score="one", only the reference empty, only the prediction empty, equal)
VALUES = {
    "dice": (None, 1, 0, 0, 1),
    "iou": (None, 1, 0, 0, 1),
    "precision": (None, 1, 0, None, 1),
    "sensitivity": (None, 1, None, 0, 1),
    "specificity": (1, 1, 1 - 24 / 6000, 1, 1),
    "accuracy": (1, 1, 1 - 24 / 6000, 1 - 24 / 6000, 1),
    "hd95": (0, 0, None, None, 0),
    "hd95_pooled": (0, 0, None, None, 0),
    "hd95_in_plane": (0, 0, None, None, 0),
    "assd": (0, 0, None, None, 0),
    "nsd_1mm": (1, 1, 0, 0, 1),
    "nsd_2mm": (1, 1, 0, 0, 1),
    "volume_difference_ml": (0, 0, 0.144, 0.144, 0),
    "volume_difference_percent": (0, 0, None, 100, 0),
    "volume_difference_voxels": (0, 0, 24, 24, 0),
    "lesion_f1": (1, 1, 0, 0, 1),
    "lesion_f1_faces": (1, 1, 0, 0, 1),
    "lesion_f1_iou20": (1, 1, 0, 0, 1),
    "lesion_f1_wmh": (1, 1, 0, 0, 1),
    "lesion_recall": (1, 1, 1, 0, 1),
    "lesion_precision": (1, 1, 0, 1, 1),
    "lesion_count_difference": (0, 0, 1, 1, 0),
    "lesion_count_difference_faces": (0, 0, 1, 1, 0),
    "lesion_recall_tiny": (None, None, None, 0, 1),
    "lesion_recall_small": (None, None, None, 0, 1),
    "lesion_recall_medium": (None, None, None, 0, 1),
    "lesion_recall_large": (None, None, None, 0, 1),
    "recognition_quality": (None, None, 0, 0, 1),
    "segmentation_quality": (None, None, None, None, 1),
    "panoptic_quality": (None, None, 0, 0, 1),
    "cc_dice": (1, 1, 0, 0, 1),
    "lesionwise_dice": (1, 1, 0, 0, 1),
    "lesionwise_hd95": (0, 0, 374, 374, 0),
    "lesionwise_dice_meningioma": (1, 1, 0, 0, 1),
    "lesionwise_hd95_meningioma": (0, 0, 374, 374, 0),
    "lesionwise_dice_metastases": (1, 1, 0, 0, 1),
    "lesionwise_hd95_metastases": (0, 0, 374, 374, 0),
    "average_precision": (None, None, None, 24 / 6000, 1),
}
# What a missing prediction scores: with a lesion in the reference, and without one.
DIAGONAL = math.hypot(30.0, 20.0, 60.0)
MISSING = {
    "precision": (0, 0),
    "sensitivity": (0, None),
    "specificity": (0, 0),
    "accuracy": (0, 0),
    "hd95": (DIAGONAL, DIAGONAL),
    "hd95_pooled": (DIAGONAL, DIAGONAL),
    "hd95_in_plane": (DIAGONAL, DIAGONAL),
    "assd": (DIAGONAL, DIAGONAL),
    "volume_difference_ml": (0.144, None),
    "volume_difference_percent": (100, None),
    "volume_difference_voxels": (24, None),
    "lesion_count_difference": (1, None),
    "lesion_count_difference_faces": (1, None),
    "lesion_recall_tiny": (0, None),
    "lesion_recall_small": (0, None),
    "lesion_recall_medium": (0, None),
    "lesion_recall_large": (0, None),
    "lesionwise_hd95": (374, 374),
    "lesionwise_hd95_meningioma": (374, 374),
    "lesionwise_hd95_metastases": (374, 374),
    "average_precision": (24 / 6000, None),
}
# Spacings that bring the lesion into the class of size that a metric looks at.
SPACINGS = {
    "lesion_recall_tiny": (1.0, 1.0, 1.0),
    "lesion_recall_medium": (30.0, 5.0, 2.0),
    "lesion_recall_large": (30.0, 10.0, 5.0),
}


def test_every_metric_has_its_values_here():
    assert set(METRICS) == set(VALUES)


@pytest.mark.parametrize("name", METRICS.names())
def test_empty_and_equal_masks(name):
    metric = METRICS[name]
    spacing = SPACINGS.get(name, SPACING)
    found = (
        metric(compare(EMPTY, EMPTY, spacing)),
        metric(compare(EMPTY, EMPTY, spacing), empty_score="one"),
        metric(compare(LESION, EMPTY, spacing)),
        metric(compare(EMPTY, LESION, spacing)),
        metric(compare(LESION, LESION, spacing)),
    )

    for value, expected in zip(found, VALUES[name], strict=True):
        assert value == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("name", METRICS.names())
def test_missing_prediction(name):
    """The worst there is; where there is none, as an empty mask, and never better than a prediction could be."""
    metric = METRICS[name]
    spacing = SPACINGS.get(name, SPACING)
    found = [metric.score_missing(compare(EMPTY, reference, spacing)) for reference in (LESION, EMPTY)]

    for value, expected in zip(found, MISSING.get(name, (0, 0)), strict=True):
        assert value == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("name", ["hd95", "hd95_pooled", "hd95_in_plane", "assd"])
def test_distances_take_a_penalty_where_one_mask_is_empty(name):
    metric = METRICS[name]

    assert metric(compare(EMPTY, LESION, SPACING), penalty_mm=374.0) == 374.0
    assert metric(compare(EMPTY, EMPTY, SPACING), penalty_mm=374.0) == 0.0
    assert metric.score_missing(compare(EMPTY, EMPTY, SPACING), penalty_mm=374.0) == 374.0
    assert metric.describe("one", 374.0).endswith("; 374 mm where one mask is empty")
    assert metric.describe("one").endswith("; undefined where one mask is empty")


@pytest.mark.parametrize(
    ("name", "words"),
    [("dice", "0"), ("lesionwise_hd95", "374 mm"), ("hd95", "the diagonal of the case's grid"), ("lesion_f1", "0")],
)
def test_worst_score_in_words(name, words):
    assert METRICS[name].describe_worst() == words


@pytest.mark.parametrize("name", METRICS.names())
def test_declaration_is_complete(name):
    metric = METRICS[name]

    assert metric.name == name
    assert metric.both_empty in ("selectable", "undefined") or isinstance(metric.both_empty, float)
    assert metric.worst in ("diagonal", "empty") or isinstance(metric.worst, float)
    direction = "higher" if metric.higher_is_better else "lower"
    description = metric.describe("undefined")
    assert description.startswith(f"{metric.unit or 'ratio'}, {direction} is better, both masks empty: ")
    assert "\n" not in description


@pytest.mark.parametrize("name", METRICS.names())
def test_value_is_a_plain_number_and_masks_stay_as_they_were(name):
    prediction, reference = np.roll(LESION, 1, axis=1), LESION.copy()
    before = prediction | reference, reference.copy()
    spacing = SPACINGS.get(name, SPACING)
    prediction |= reference  # so that a score of matched lesions has one

    assert type(METRICS[name](compare(prediction, reference, spacing))) is float
    np.testing.assert_array_equal((prediction, reference), before)


@pytest.mark.parametrize("name", METRICS.names())
def test_direction_is_the_one_declared(name):
    """A good prediction scores no worse than a bad one."""
    bad = np.roll(LESION, (3, 7, 11), axis=(0, 1, 2)) | np.roll(LESION, 14, axis=2)
    if name == "segmentation_quality":  # judges matched lesions alone
        bad = LESION | np.roll(LESION, 1, axis=1)
    metric = METRICS[name]
    spacing = SPACINGS.get(name, SPACING)
    good_score, bad_score = (metric(compare(mask, LESION, spacing)) for mask in (LESION, bad))

    assert good_score > bad_score if metric.higher_is_better else good_score < bad_score


def test_description_states_the_chosen_empty_score():
    assert "both masks empty: undefined;" in METRICS["dice"].describe("undefined")
    assert "both masks empty: 1;" in METRICS["dice"].describe("one")


def test_unknown_metric_names_the_known_ones():
    with pytest.raises(
        UsageError, match=r"unknown metric 'dce' \(did you mean 'dice' or 'cc_dice'\?\); choose from: dice, iou"
    ):
        METRICS["dce"]
