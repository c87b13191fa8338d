"""What holds for every metric of the table."""

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
    "assd": (0, 0, None, None, 0),
    "nsd_2mm": (1, 1, 0, 0, 1),
    "volume_difference_ml": (0, 0, 0.144, 0.144, 0),
    "volume_difference_percent": (0, 0, None, 100, 0),
    "lesion_f1": (1, 1, 0, 0, 1),
    "lesion_count_difference": (0, 0, 1, 1, 0),
}


def test_every_metric_has_its_values_here():
    assert set(METRICS) == set(VALUES)


@pytest.mark.parametrize("name", METRICS.names())
def test_empty_and_equal_masks(name):
    metric = METRICS[name]
    found = (
        metric(compare(EMPTY, EMPTY, SPACING)),
        metric(compare(EMPTY, EMPTY, SPACING), empty_score="one"),
        metric(compare(LESION, EMPTY, SPACING)),
        metric(compare(EMPTY, LESION, SPACING)),
        metric(compare(LESION, LESION, SPACING)),
    )

    for value, expected in zip(found, VALUES[name], strict=True):
        assert value == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("name", METRICS.names())
def test_declaration_is_complete(name):
    metric = METRICS[name]

    assert metric.name == name
    assert metric.both_empty == "selectable" or isinstance(metric.both_empty, float)
    direction = "higher" if metric.higher_is_better else "lower"
    description = metric.describe("undefined")
    assert description.startswith(f"{metric.unit or 'ratio'}, {direction} is better, both masks empty: ")
    assert "\n" not in description


@pytest.mark.parametrize("name", METRICS.names())
def test_value_is_a_plain_number_and_masks_stay_as_they_were(name):
    prediction, reference = np.roll(LESION, 1, axis=1), LESION.copy()
    before = prediction.copy(), reference.copy()

    assert type(METRICS[name](compare(prediction, reference, SPACING))) is float
    np.testing.assert_array_equal((prediction, reference), before)


@pytest.mark.parametrize("name", METRICS.names())
def test_direction_is_the_one_declared(name):
    """A good prediction scores no worse than a bad one."""
    bad = np.roll(LESION, (3, 7, 11), axis=(0, 1, 2)) | np.roll(LESION, 14, axis=2)
    metric = METRICS[name]
    good_score, bad_score = (metric(compare(mask, LESION, SPACING)) for mask in (LESION, bad))

    assert good_score > bad_score if metric.higher_is_better else good_score < bad_score


def test_description_states_the_chosen_empty_score():
    assert "both masks empty: undefined;" in METRICS["dice"].describe("undefined")
    assert "both masks empty: 1;" in METRICS["dice"].describe("one")


def test_unknown_metric_names_the_known_ones():
    with pytest.raises(UsageError, match="there is no metric 'dce'; known are: dice, iou"):
        METRICS["dce"]
