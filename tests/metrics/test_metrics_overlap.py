"""Shares of voxels, worked by hand: P has 4 voxels, R has 6, 3 are common, the grid has 60."""

import numpy as np
import pytest

from autoseg.metrics import METRICS, compare

SPACING = (3.0, 1.0, 2.0)


@pytest.fixture
def comparison():
    prediction, reference = np.zeros((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    prediction[1, 1, 1:5] = True
    reference[1, 1, 0:4] = True
    reference[2, 1, 0:2] = True
    return compare(prediction, reference, SPACING)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dice", 6 / 10),
        ("iou", 3 / 7),
        ("precision", 3 / 4),
        ("sensitivity", 3 / 6),
        ("specificity", 53 / 54),
        ("accuracy", 56 / 60),
        ("volume_difference_ml", 2 * 6 / 1000),
        ("volume_difference_percent", 100 * 2 / 6),
    ],
)
def test_value_worked_by_hand(comparison, name, expected):
    assert METRICS[name](comparison) == pytest.approx(expected)


def test_specificity_and_accuracy_leave_ignored_voxels_out_of_the_domain():
    prediction, reference = np.zeros((1, 1, 10), bool), np.zeros((1, 1, 10), bool)
    prediction[..., 0:2] = reference[..., 0:1] = True

    comparison = compare(prediction, reference, SPACING, voxels=5)

    assert METRICS["specificity"](comparison) == pytest.approx(3 / 4)
    assert METRICS["accuracy"](comparison) == pytest.approx(4 / 5)


def test_specificity_is_undefined_where_the_reference_fills_the_grid():
    full = np.ones((2, 2, 2), bool)

    assert METRICS["specificity"](compare(full, full, SPACING)) is None


def test_overlap_does_not_depend_on_where_the_grid_ends():
    small = np.ones((2, 2, 2), bool)
    large = np.pad(small, 7)

    assert METRICS["dice"](compare(small, small, SPACING)) == METRICS["dice"](compare(large, large, SPACING)) == 1.0
