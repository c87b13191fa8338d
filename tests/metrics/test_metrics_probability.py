"""Average precision, worked by hand."""

import numpy as np
import pytest

from autoseg.metrics import METRICS, compare

SPACING = (1.0, 1.0, 1.0)


def precision_of(probability, positive):
    probability = np.array(probability, np.float16).reshape(1, 1, -1)
    positive = np.array(positive, bool).reshape(1, 1, -1)
    comparison = compare(probability > 0.5, positive, SPACING, probability=(probability.ravel(), positive.ravel()))
    return METRICS["average_precision"](comparison)


def test_worked_by_hand():
    """Falling: 0.9 right, 0.7 wrong, 0.6 right, 0.2 right: (1/1 + 2/3 + 3/4) / 3."""
    assert precision_of([0.6, 0.9, 0.7, 0.2, 0.1], [1, 1, 0, 1, 0]) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_equal_probabilities_are_asked_together():
    """0.5 holds one right and one wrong voxel: recall 0 -> 1/2 at precision 1/2, then 1/2 -> 1 at 2/4."""
    assert precision_of([0.5, 0.5, 0.0, 0.0], [1, 0, 1, 0]) == pytest.approx(0.5 * 0.5 + 0.5 * 0.5)


def test_perfect_order_is_one_whatever_the_threshold():
    assert precision_of([0.4, 0.3, 0.2, 0.1], [1, 1, 0, 0]) == 1.0


def test_a_mask_is_its_own_map():
    """P 4 voxels, 2 of them right, R 4, 60 in all: recall 1/2 at precision 1/2, the rest at 4/60."""
    prediction, reference = np.zeros((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    prediction[0, 0, 0:4] = reference[0, 0, 2:5] = reference[1, 0, 0] = True
    comparison = compare(prediction, reference, SPACING)
    as_map = compare(
        prediction, reference, SPACING, probability=(prediction.ravel().astype(np.float32), reference.ravel())
    )

    assert METRICS["average_precision"](comparison) == pytest.approx(0.25 + 0.5 * 4 / 60)
    assert METRICS["average_precision"](as_map) == pytest.approx(0.25 + 0.5 * 4 / 60)


def test_undefined_without_a_lesion():
    assert precision_of([0.9, 0.1], [0, 0]) is None
