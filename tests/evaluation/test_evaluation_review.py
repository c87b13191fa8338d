"""Cases worth a look: numbers worked by hand."""

import numpy as np
import pytest

from autoseg.core.records import Grid
from autoseg.evaluation.review import disagreement, doubt_case, rank_doubts

GRID = Grid(shape=(10, 20, 30), spacing=(5.0, 2.0, 1.0), origin=(7.0, 0.0, 0.0))  # voxels of 0.01 ml
BOX = ((1, 4), (2, 5), (3, 8))


def make(case="a", value=0.9, others=(), target=None):
    """A lesion of two voxels, (0,0,0) and (0,0,1) of the box."""
    foreground = np.zeros((3, 3, 5))
    foreground[0, 0, :2] = value
    mask = foreground > 0
    return doubt_case(case, foreground, mask, [mask, *others] if others else [mask], grid=GRID, box=BOX, target=target)


def test_masks_that_share_half_of_two_voxels():
    one, two = np.zeros((1, 1, 3), bool), np.zeros((1, 1, 3), bool)
    one[..., :2] = two[..., 1:] = True
    assert disagreement([one, two]) == pytest.approx(0.5)
    assert disagreement([one, one, two]) == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert disagreement([one]) is None
    assert disagreement([np.zeros(3, bool)] * 2) == 0


def test_a_certain_lesion_leaves_no_doubt():
    found = make(value=0.9)
    assert found.uncertain_ml == 0
    assert found.uncertain_lesions == 0
    assert found.lesions == ()
    assert found.disagreement is None
    assert found.expected_dice == pytest.approx(2 * 1.8 / (1.8 + 2))


def test_an_uncertain_lesion_is_told_with_its_place_in_mm():
    found = make(value=0.55, others=[np.zeros((3, 3, 5), bool)])
    assert found.uncertain_ml == pytest.approx(0.02)
    assert found.uncertain_lesions == 1
    (lesion,) = found.lesions
    assert lesion.volume_ml == pytest.approx(0.02)
    assert lesion.probability == pytest.approx(0.55)
    assert lesion.agreement == 0.5
    assert lesion.centre == (7 + 3.5, 2 * 2.0, 1 * 5.0)  # x, y, z of voxel (1, 2, 3.5)


def test_a_lesion_that_one_mask_lacks_is_told_however_probable():
    found = make(value=0.95, others=[np.zeros((3, 3, 5), bool)])
    assert found.uncertain_lesions == 0
    assert [lesion.agreement for lesion in found.lesions] == [0.5]
    assert found.disagreement == 1


def test_an_empty_mask_where_nothing_is_possible_is_expected_to_be_right():
    nothing = np.zeros((3, 3, 5))
    found = doubt_case("a", nothing, nothing > 0, [nothing > 0] * 2, grid=GRID, box=BOX)
    assert found.expected_dice is None
    assert found.disagreement == 0


def test_the_most_doubtful_tenth_is_told_and_whatever_the_masks_differ_in():
    sure = [make(f"sure{number:02d}", 0.99) for number in range(40)]
    unsure = [make(f"unsure{number}", 0.5 + number / 100) for number in range(4)]
    apart = make("apart", 0.999, others=[np.zeros((3, 3, 5), bool)])
    told = rank_doubts([*sure, apart, *unsure])
    assert [doubt.case for doubt in told] == ["apart", "unsure0", "unsure1", "unsure2"]
    assert told[1].reason == (
        "Expected Dice 0.67 from its probabilities; 0.02 ml are uncertain; 1 lesion has a mean probability below 0.6."
    )
    assert "the networks disagree (1 - Dice 1.00)" in told[0].reason
    assert len(rank_doubts(sure[:5])) == 3
