"""Lesion counts worked by hand."""

import numpy as np
import pytest

from autoseg.metrics import METRICS, compare

SPACING = (3.0, 1.0, 2.0)


def lesions(*places):
    mask = np.zeros((10, 20, 30), bool)
    for z, y, x in places:
        mask[z, y, x : x + 2] = True
    return mask


def test_lesion_f1_counts_found_missed_and_invented_lesions():
    """Of 3 reference lesions 2 are touched; of 4 predicted lesions 2 touch none: 2 / (2 + (2 + 1) / 2)."""
    reference = lesions((1, 1, 1), (1, 10, 1), (8, 1, 20))
    prediction = lesions((1, 1, 2), (1, 10, 0), (5, 5, 5), (9, 19, 28))

    assert METRICS["lesion_f1"](compare(prediction, reference, SPACING)) == pytest.approx(2 / 3.5)


def test_one_predicted_lesion_may_find_two():
    reference = lesions((1, 1, 1), (1, 1, 5))
    prediction = np.zeros_like(reference)
    prediction[1, 1, 1:7] = True
    comparison = compare(prediction, reference, SPACING)

    assert METRICS["lesion_f1"](comparison) == 1.0
    assert METRICS["lesion_count_difference"](comparison) == 1.0


def test_voxels_that_share_only_a_corner_are_one_lesion():
    diagonal = np.zeros((4, 4, 4), bool)
    diagonal[1, 1, 1] = diagonal[2, 2, 2] = True
    apart = np.zeros_like(diagonal)
    apart[0, 0, 0] = apart[3, 3, 3] = True

    assert METRICS["lesion_count_difference"](compare(diagonal, apart, SPACING)) == 1.0


def test_touching_by_a_face_is_not_detecting():
    assert METRICS["lesion_f1"](compare(lesions((1, 1, 3)), lesions((1, 1, 1)), SPACING)) == 0.0
