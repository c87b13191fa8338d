"""Panoptic quality and Voronoi cells, worked by hand on lines of voxels."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from autoseg.metrics import METRICS, compare
from autoseg.metrics.voronoi import find_nearest_lesions

SPACING = (3.0, 1.0, 2.0)


def line(*stretches):
    """(1, 1, 40) bool: voxels from start to stop along x."""
    mask = np.zeros((1, 1, 40), bool)
    for start, stop in stretches:
        mask[..., start:stop] = True
    return mask


def test_panoptic_quality_is_recognition_times_segmentation():
    """IoU 8/10 and 5/10 match, a third lesion is missed, one is invented: RQ = 2 / (2 + 1), SQ = 0.65."""
    comparison = compare(line((0, 8), (12, 17), (25, 27)), line((0, 10), (12, 22), (30, 40)), SPACING)

    assert METRICS["recognition_quality"](comparison) == pytest.approx(2 / 3)
    assert METRICS["segmentation_quality"](comparison) == pytest.approx(0.65)
    assert METRICS["panoptic_quality"](comparison) == pytest.approx(2 / 3 * 0.65)


def test_lesions_that_overlap_too_little_are_not_recognised():
    comparison = compare(line((0, 4)), line((0, 10)), SPACING)

    assert METRICS["panoptic_quality"](comparison) == METRICS["recognition_quality"](comparison) == 0.0
    assert METRICS["segmentation_quality"](comparison) is None


def test_cc_dice_is_the_mean_over_cells():
    """Lesions at 0-3 and 20-29; predicted 0-1, 8-9 and 20-29.

    8-9 lies nearer to the first lesion. Its cell: 2 x 2 / (4 + 4) = 0.5; the other's: 1. One lesion apart, plain Dice
    is 2 x 12 / (14 + 14).
    """
    comparison = compare(line((0, 2), (8, 10), (20, 30)), line((0, 4), (20, 30)), SPACING)

    assert METRICS["cc_dice"](comparison) == pytest.approx(0.75)
    assert METRICS["dice"](comparison) == pytest.approx(24 / 28)


def test_an_overlooked_lesion_counts_as_much_as_a_large_one():
    assert METRICS["cc_dice"](compare(line((0, 20)), line((0, 20), (30, 31)), SPACING)) == 0.5


def test_cells_are_measured_in_mm():
    """From (0, 5, 0) it is 4 mm to the lesion two voxels along x and 3 mm to the one a voxel along z."""
    reference, prediction = np.zeros((2, 11, 8), bool), np.zeros((2, 11, 8), bool)
    reference[0, 5, 2] = reference[1, 5, 0] = prediction[0, 5, 0] = True
    comparison = compare(prediction, reference, SPACING)
    far, near = comparison.lesions(6).n_reference, find_nearest_lesions(comparison)

    assert far == 2
    assert comparison.lesions(26).reference[2, 1, 1] == near.item()  # z 1 and x 0 after cropping and padding


def test_nearest_lesion_equals_all_pairs_and_ties_go_to_the_lowest_number():
    generator = np.random.default_rng(4)
    reference = generator.random((9, 10, 11)) > 0.97
    prediction = generator.random((9, 10, 11)) > 0.5
    comparison = compare(prediction, reference, (1.0, 1.0, 1.0))
    numbers = comparison.lesions(26).reference
    lesions = np.argwhere(comparison.reference)
    pairs = cdist(np.argwhere(comparison.prediction & ~comparison.reference), lesions)
    own = numbers[tuple(lesions.T)].astype(int)
    nearest = [own[np.isclose(row, row.min())].min() for row in pairs]

    assert numbers.max() > 5
    assert find_nearest_lesions(comparison).tolist() == nearest
