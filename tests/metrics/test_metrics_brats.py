"""Lesion-wise scores of BraTS 2023, worked by hand."""

import numpy as np
import pytest
from scipy import ndimage

from autoseg.metrics import METRICS, compare
from autoseg.metrics.brats import GLIOMA, METASTASES, dilate, score_lesions

SPACING = (1.0, 1.0, 1.0)
SHAPE = (20, 20, 60)


def cubes(*places, size=4):
    """Cubes of 4 x 4 x 4 voxels (64 mm3) that begin at x."""
    mask = np.zeros(SHAPE, bool)
    for x in places:
        mask[8 : 8 + size, 8 : 8 + size, x : x + size] = True
    return mask


@pytest.mark.parametrize("iterations", [1, 3])
def test_dilation_is_scipys(iterations):
    mask = np.random.default_rng(2).random((9, 10, 11)) > 0.97
    neighbours = ndimage.generate_binary_structure(3, 2)

    np.testing.assert_array_equal(dilate(mask, iterations), ndimage.binary_dilation(mask, neighbours, iterations))


def test_found_missed_and_invented_lesions_share_the_mean():
    """One found exactly, one missed, one invented: Dice (1 + 0) / 3, HD95 (0 + 374 + 374) / 3."""
    comparison = compare(cubes(0, 50), cubes(0, 25), SPACING)

    assert METRICS["lesionwise_dice"](comparison) == pytest.approx(1 / 3)
    assert METRICS["lesionwise_hd95"](comparison) == pytest.approx(2 * 374 / 3)


def test_lesions_whose_dilations_touch_are_one():
    """Six voxels apart: 3 dilations of each leave no gap, one does. Only the first is predicted.

    Glioma: one lesion of 128 voxels, Dice 2 x 64 / (64 + 128). Meningioma: two lesions, Dice (1 + 0) / 2.
    """
    comparison = compare(cubes(10), cubes(10, 20), SPACING)

    assert METRICS["lesionwise_dice"](comparison) == pytest.approx(2 / 3)
    assert METRICS["lesionwise_dice_meningioma"](comparison) == pytest.approx(1 / 2)


def test_all_that_touches_the_dilated_lesion_belongs_to_it():
    """A predicted lesion two voxels beside the reference lies in its dilation: Dice 2 x 64 / (128 + 64), no FP."""
    found = score_lesions(compare(cubes(10, 16), cubes(10), SPACING), GLIOMA)

    assert found.false_positives == 0
    assert found.dice == pytest.approx((2 / 3,))


def test_hd95_of_a_lesion_is_the_larger_direction():
    """The prediction is the lesion shifted by one voxel: of 56 surface voxels 16 lie 1 mm from the other."""
    found = score_lesions(compare(cubes(11), cubes(10), SPACING), GLIOMA)

    assert found.hd95_mm == (1.0,)


def test_small_lesions_are_dropped_with_what_was_predicted_for_them():
    """27 mm3 is below 50 and above 2; the invented lesion of 27 mm3 counts whatever its size."""
    comparison = compare(cubes(0, 40, size=3), cubes(0, 20, size=3), SPACING)

    assert METRICS["lesionwise_dice"](comparison) == 0.0  # no lesion, one FP
    assert METRICS["lesionwise_hd95"](comparison) == 374.0
    assert METRICS["lesionwise_dice_metastases"](comparison) == pytest.approx(1 / 3)
    assert score_lesions(comparison, METASTASES).false_positives == 1


def test_a_lesion_of_exactly_the_least_volume_is_dropped():
    reference = np.zeros(SHAPE, bool)
    reference[5, 5:10, 0:10] = True  # 50 voxels
    assert score_lesions(compare(reference, reference, SPACING), GLIOMA).count == 0
    reference[5, 10, 0] = True
    assert score_lesions(compare(reference, reference, SPACING), GLIOMA).dice == (1.0,)


def test_nothing_left_and_nothing_invented_is_perfect():
    comparison = compare(np.zeros(SHAPE, bool), cubes(0, size=3), SPACING)

    assert METRICS["lesionwise_dice"](comparison) == 1.0
    assert METRICS["lesionwise_hd95"](comparison) == 0.0


def test_the_least_volume_is_in_mm3():
    """27 voxels of 2 mm3 are 54 mm3."""
    comparison = compare(cubes(0, size=3), cubes(0, size=3), (2.0, 1.0, 1.0))

    assert score_lesions(comparison, GLIOMA).dice == (1.0,)


def test_the_rule_is_applied_once_for_both_metrics():
    comparison = compare(cubes(0), cubes(0), SPACING)

    assert score_lesions(comparison, GLIOMA) is score_lesions(comparison, GLIOMA)
