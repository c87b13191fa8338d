"""The cells of lesions: which voxels they hold, and what is measured in them."""

import pytest
import torch

from autoseg.core.records import LossSettings
from autoseg.losses import LossContext, build_loss
from autoseg.losses.cells import add_cells

CELLS_ALONE = {"global_weight": 0.0}


def judge(logits, target, *, regions=(), ignore_label=None, **options):
    settings = LossSettings(name="cc_dice_ce", options=CELLS_ALONE | options)
    return build_loss(settings, regions=regions, ignore_label=ignore_label)([logits], target).item()


def certain(mask, strength=50.0):
    """Two-class logits that are sure of a (B,*spatial) mask."""
    inside = (mask.float() * 2 - 1) * strength
    return torch.stack([-inside, inside], dim=1)


def cells_of(target, *, ignore_label=None):
    return add_cells(LossContext(logits=target[:, None], target=target, ignore_label=ignore_label)).cells


def test_every_voxel_goes_to_the_nearest_lesion():
    (cell,) = cells_of(torch.tensor([[[1, 0, 0, 0, 0, 0, 1, 1]]], dtype=torch.int16))
    assert (cell.sample, cell.channel) == (0, 1)
    assert cell.voxels == slice(None)
    assert cell.lesion.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_ignored_voxels_are_in_no_cell():
    (cell,) = cells_of(torch.tensor([[[1, 0, 9, 0, 0, 0, 1, 9]]], dtype=torch.int16), ignore_label=9)
    assert cell.voxels.tolist() == [0, 1, 3, 4, 5, 6]
    assert cell.lesion.tolist() == [0, 0, 0, 1, 1, 1]


def test_classes_have_cells_of_their_own():
    first, second = cells_of(torch.tensor([[[1, 0, 0, 2, 0, 2]]], dtype=torch.int16))
    assert first.channel == 1
    assert first.lesion.tolist() == [0] * 6  # one lesion of class 1: everything is nearest to it
    assert second.channel == 2
    assert second.lesion.tolist()[3:] == [1, 1, 2] or second.lesion.tolist()[3:] == [1, 2, 2]


def test_a_missed_small_lesion_costs_as_much_as_a_missed_large_one():
    target = torch.zeros((1, 4, 20), dtype=torch.int16)
    target[0, 1, 1] = 1
    target[0, 0:4, 10:20] = 1
    small, large = target.clone(), target.clone()
    small[0, 1, 1] = 0
    large[0, :, 10:] = 0
    # One of two lesions has Dice 1, the other 0.
    for missed in (small, large):
        assert judge(certain(missed), target, ce_weight=0.0) == pytest.approx(0.5, abs=1e-4)


def test_a_false_positive_counts_against_the_lesion_beside_it_alone():
    target = torch.zeros((1, 1, 12), dtype=torch.int16)
    target[0, 0, [1, 10]] = 1
    guess = target.clone()
    guess[0, 0, 3] = 1
    # Nearest to the first lesion, whose Dice becomes 2 * 1 / (2 + 1); the other's stays 1.
    assert judge(certain(guess), target, ce_weight=0.0) == pytest.approx((1 / 3) / 2, abs=1e-4)


def test_cross_entropy_is_the_mean_of_the_means_of_the_cells():
    target = torch.zeros((1, 1, 10), dtype=torch.int16)
    target[0, 0, [0, 9]] = 1
    target[0, 0, 5] = 9
    logits = torch.randn((1, 2, 1, 10), generator=torch.Generator().manual_seed(2))
    answers = torch.nn.functional.cross_entropy(logits, target.long(), ignore_index=9, reduction="none")[0, 0]
    expected = (answers[:5].mean() + answers[6:].mean()) / 2
    assert judge(logits, target, ignore_label=9, dice_weight=0.0) == pytest.approx(expected.item(), abs=1e-6)


def test_one_lesion_is_judged_as_the_whole_is():
    target = torch.zeros((1, 4, 6, 8), dtype=torch.int16)
    target[0, 1:3, 2:4, 3:6] = 1
    logits = torch.randn((1, 2, 4, 6, 8), generator=torch.Generator().manual_seed(3))
    assert judge(logits, target) == pytest.approx(build_loss(LossSettings())([logits], target).item(), abs=1e-6)


def test_without_lesions_the_whole_is_alone():
    target = torch.zeros((2, 4, 6), dtype=torch.int16)
    logits = torch.randn((2, 2, 4, 6), generator=torch.Generator().manual_seed(3))
    whole = build_loss(LossSettings())([logits], target).item()
    assert judge(logits, target, global_weight=2.0) == pytest.approx(2 * whole, abs=1e-6)
