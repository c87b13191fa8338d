"""Lesion counts worked by hand, in each challenge's way."""

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


def test_wmh_form_takes_recall_and_precision_apart():
    """2 of 3 reference lesions are touched, 2 of 4 predicted lesions touch one: F1 = 2 (2/3 1/2) / (2/3 + 1/2)."""
    reference = lesions((1, 1, 1), (1, 10, 1), (8, 1, 20))
    prediction = lesions((1, 1, 2), (1, 10, 0), (5, 5, 5), (9, 19, 28))
    comparison = compare(prediction, reference, SPACING)

    assert METRICS["lesion_recall"](comparison) == pytest.approx(2 / 3)
    assert METRICS["lesion_precision"](comparison) == pytest.approx(1 / 2)
    assert METRICS["lesion_f1_wmh"](comparison) == pytest.approx(4 / 7)


def test_wmh_form_is_zero_where_no_lesion_is_touched():
    assert METRICS["lesion_f1_wmh"](compare(lesions((1, 1, 3)), lesions((1, 1, 1)), SPACING)) == 0.0


def test_atlas_form_counts_voxels_that_share_an_edge_as_two():
    """Two voxels along a diagonal are one lesion with 26 neighbours, two with 6; one of the two is found."""
    reference, prediction = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    reference[1, 1, 1] = reference[1, 2, 2] = prediction[1, 1, 1] = True
    comparison = compare(prediction, reference, SPACING)

    assert METRICS["lesion_f1"](comparison) == 1.0
    assert METRICS["lesion_f1_faces"](comparison) == pytest.approx(1 / 1.5)
    assert METRICS["lesion_count_difference"](comparison) == 0.0
    assert METRICS["lesion_count_difference_faces"](comparison) == 1.0


def line(*stretches):
    """(1, 1, 40) bool: voxels from start to stop along x."""
    mask = np.zeros((1, 1, 40), bool)
    for start, stop in stretches:
        mask[..., start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ((0, 2), 1.0),  # IoU 2/10 is enough
        ((9, 11), 0.0),  # IoU 1/11 is not
        ((0, 10), 1.0),
    ],
)
def test_isles24_form_asks_for_a_fifth_of_overlap(predicted, expected):
    assert METRICS["lesion_f1_iou20"](compare(line(predicted), line((0, 10)), SPACING)) == expected


def test_isles24_form_matches_one_to_one():
    """One prediction of 20 covers two lesions of 9 and 10: it takes the larger, so TP 1, FP 0, FN 1."""
    comparison = compare(line((0, 20)), line((0, 9), (10, 20)), SPACING)

    assert METRICS["lesion_f1_iou20"](comparison) == pytest.approx(1 / 1.5)
    assert METRICS["lesion_f1"](comparison) == 1.0


def test_recall_by_size():
    """Voxels of 10 mm3: lesions of 0.02, 0.1, 0.3, 1 and 11 ml; found are those of 0.1 and 11 ml."""
    reference = np.zeros((40, 40, 40), bool)
    reference[0, 0, 0:2] = True
    reference[4, 0, 0:10] = True
    reference[8, 0:3, 0:10] = True
    reference[12, 0:10, 0:10] = True
    reference[16:27, 0:10, 0:10] = True
    prediction = np.zeros_like(reference)
    prediction[4, 0, 9] = prediction[20, 5, 5] = True
    comparison = compare(prediction, reference, (10.0, 1.0, 1.0))

    found = {size: METRICS[f"lesion_recall_{size}"](comparison) for size in ("tiny", "small", "medium", "large")}
    assert found == {"tiny": 0.0, "small": 0.5, "medium": 0.0, "large": 1.0}


def test_a_lesion_at_the_bound_is_in_the_upper_class_whatever_the_last_digit_says():
    """1000 voxels of 0.1 mm3 (0.1 x 1 x 1): 0.1 ml, although 1000 * 0.1 * 1e-3 rounds."""
    mask = np.ones((10, 10, 10), bool)
    comparison = compare(mask, mask, (0.1, 1.0, 1.0))

    assert METRICS["lesion_recall_small"](comparison) == 1.0
    assert METRICS["lesion_recall_tiny"](comparison) is None
