"""Losses of four voxels, worked by hand."""

import math

import pytest
import torch

from autoseg.core.records import LossSettings
from autoseg.losses import build_loss

# Four voxels, the first two are lesion; the lesion's probabilities are 0.8, 0.6, 0.3, 0.1.
PROBABILITY = torch.tensor([0.8, 0.6, 0.3, 0.1])
TARGET = torch.tensor([[1, 1, 0, 0]], dtype=torch.int16)
LOGITS = torch.stack([1 - PROBABILITY, PROBABILITY]).log()[None]
REGION_LOGITS = PROBABILITY.logit()[None, None]
RIGHT = [0.8, 0.6, 0.7, 0.9]  # probability of the right answer
CROSS_ENTROPY = -sum(math.log(p) for p in RIGHT) / 4


def value(name: str, *, logits=LOGITS, target=TARGET, regions=(), ignore_label=None, **options) -> float:
    settings = LossSettings(name=name, options=options)
    return build_loss(settings, regions=regions, ignore_label=ignore_label)([logits], target).item()


def test_dice_is_twice_the_overlap_over_the_sum():
    # overlap 1.4, prediction 1.8, reference 2
    assert value("dice_ce", ce_weight=0.0) == pytest.approx(1 - 2.8 / 3.8, abs=1e-5)


def test_dice_ce_adds_the_cross_entropy():
    assert value("dice_ce") == pytest.approx(1 - 2.8 / 3.8 + CROSS_ENTROPY, abs=1e-5)


def test_background_can_join_the_dice():
    # background: overlap 1.6, prediction 2.2, reference 2
    assert value("dice_ce", ce_weight=0.0, background=True) == pytest.approx(1 - (2.8 / 3.8 + 3.2 / 4.2) / 2, abs=1e-5)


def test_one_region_equals_one_label():
    assert value("dice_bce", logits=REGION_LOGITS, regions=((1,),)) == pytest.approx(value("dice_ce"), abs=1e-5)


def test_batch_dice_sums_before_it_divides():
    logits = torch.cat([LOGITS, LOGITS])
    target = torch.cat([TARGET, torch.zeros_like(TARGET)])
    apart = value("dice_ce", logits=logits, target=target, ce_weight=0.0)
    together = value("dice_ce", logits=logits, target=target, ce_weight=0.0, batch_dice=True)
    assert apart == pytest.approx(1 - (2.8 / 3.8 + 0) / 2, abs=1e-4)  # the empty sample's Dice is 0
    assert together == pytest.approx(1 - 2.8 / (3.6 + 2), abs=1e-5)


def test_ignored_voxel_leaves_three():
    target = torch.tensor([[1, 9, 0, 0]], dtype=torch.int16)
    expected = 1 - 1.6 / (1.2 + 1) - sum(math.log(p) for p in (0.8, 0.7, 0.9)) / 3
    assert value("dice_ce", target=target, ignore_label=9) == pytest.approx(expected, abs=1e-5)


def test_class_weights_count_in_both_parts():
    # Dice of background 3.2/4.2 and lesion 2.8/3.8; with 1:3 the lesion has three quarters.
    dice = 1 - (3.2 / 4.2 + 3 * 2.8 / 3.8) / 4
    assert value("dice_ce", ce_weight=0, background=True, class_weights=[1, 3]) == pytest.approx(dice, abs=1e-5)
    assert value("dice_ce", ce_weight=0, background=True, class_weights=[2, 6]) == pytest.approx(dice, abs=1e-5)
    # Without a Dice of the background its weight is left out.
    assert value("dice_ce", ce_weight=0, class_weights=[1, 3]) == pytest.approx(1 - 2.8 / 3.8, abs=1e-5)
    # lesion 0.8, 0.6 with weight 3 each, background 0.7, 0.9 with 1 each: 8 in all
    entropy = -(3 * (math.log(0.8) + math.log(0.6)) + math.log(0.7) + math.log(0.9)) / 8
    assert value("dice_ce", dice_weight=0, class_weights=[1, 3]) == pytest.approx(entropy, abs=1e-5)


def test_class_weights_leave_ignored_voxels_out():
    target = torch.tensor([[1, 9, 0, 0]], dtype=torch.int16)
    entropy = -(3 * math.log(0.8) + math.log(0.7) + math.log(0.9)) / 5
    found = value("dice_ce", target=target, ignore_label=9, dice_weight=0, class_weights=[1, 3])
    assert found == pytest.approx(entropy, abs=1e-5)


def test_class_weights_of_regions_weigh_regions():
    # Region 1 is as before; region 2 is the first voxel alone, with probability 0.5 everywhere.
    target = torch.tensor([[2, 1, 0, 0]], dtype=torch.int16)
    logits = torch.cat([REGION_LOGITS, torch.zeros_like(REGION_LOGITS)], 1)
    second = 1 - 2 * 0.5 / (2 + 1)
    expected = (1 - 2.8 / 3.8 + 3 * second) / 4 + (CROSS_ENTROPY + 3 * math.log(2)) / 4
    found = value("dice_bce", logits=logits, target=target, regions=((1, 2), (2,)), class_weights=[1, 3])
    assert found == pytest.approx(expected, abs=1e-5)


def test_tversky_weighs_both_errors():
    # true positive 1.4, false positive 0.4, false negative 0.6
    index = 1.4 / (1.4 + 0.3 * 0.4 + 0.7 * 0.6)
    assert value("tversky") == pytest.approx(1 - index, abs=1e-5)
    assert value("focal_tversky") == pytest.approx((1 - index) ** 0.75, abs=1e-5)
    assert value("tversky", alpha=0.5, beta=0.5) == pytest.approx(1 - 2.8 / 3.8, abs=1e-5)


def test_generalized_dice_weighs_by_volume():
    target = torch.tensor([[1, 0, 0, 0]], dtype=torch.int16)
    # lesion: volume 1, overlap 0.8, sum 2.8; background: volume 3, weight 1/9, overlap 2.0, sum 5.2
    expected = 1 - 2 * (0.8 + 2.0 / 9) / (2.8 + 5.2 / 9)
    assert value("generalized_dice", target=target) == pytest.approx(expected, abs=1e-5)


def test_focal_damps_what_is_known():
    expected = -sum((1 - p) ** 2 * math.log(p) for p in RIGHT) / 4
    assert value("focal") == pytest.approx(expected, abs=1e-5)
    assert value("focal", gamma=0.0) == pytest.approx(CROSS_ENTROPY, abs=1e-5)


def test_focal_alpha_weighs_lesion_against_background():
    lesion = -sum((1 - p) ** 2 * math.log(p) for p in (0.8, 0.6))
    background = -sum((1 - p) ** 2 * math.log(p) for p in (0.7, 0.9))
    expected = (0.25 * lesion + 0.75 * background) / 4
    assert value("focal", alpha=0.25) == pytest.approx(expected, abs=1e-6)
    assert value("focal", logits=REGION_LOGITS, regions=((1,),), alpha=0.25) == pytest.approx(expected, abs=1e-6)
    assert value("dice_focal") == pytest.approx(1 - 2.8 / 3.8 + expected, abs=1e-5)
    assert value("focal", class_weights=[1, 3]) == pytest.approx((3 * lesion + background) / 8, abs=1e-6)


def test_focal_with_a_small_gamma_has_a_finite_slope_where_nothing_is_wrong():
    logits = torch.tensor([-60.0, 60.0]).reshape(1, 2, 1).repeat(1, 1, 4).requires_grad_()
    loss = build_loss(LossSettings(name="focal", options={"gamma": 0.5}))
    loss([logits], torch.ones_like(TARGET)).backward()
    assert torch.isfinite(logits.grad).all()


def test_top_k_counts_the_worst():
    assert value("top_k_ce", share=0.5) == pytest.approx(-(math.log(0.6) + math.log(0.7)) / 2, abs=1e-5)
    assert value("top_k_ce", share=0.01) == pytest.approx(-math.log(0.6), abs=1e-5)


def test_boundary_weighs_voxels_near_an_edge():
    # The edge lies between the second and the third voxel, and both are near it.
    near, far = -(math.log(0.6) + math.log(0.7)), -(math.log(0.8) + math.log(0.9))
    expected = (5 * near + far) / 12
    assert value("boundary_dice_ce", dice_weight=0) == pytest.approx(expected, abs=1e-5)
    # overlap 0.8 + 5 * 0.6, prediction 0.8 + 5 * (0.6 + 0.3) + 0.1, reference 1 + 5
    dice = 1 - 2 * 3.8 / (5.4 + 6)
    assert value("boundary_dice_ce", ce_weight=0) == pytest.approx(dice, abs=1e-5)
    assert value("boundary_dice_ce") == pytest.approx(dice + expected, abs=1e-5)
    found = value("boundary_dice_ce", logits=REGION_LOGITS, regions=((1,),))
    assert found == pytest.approx(dice + expected, abs=1e-5)


def test_boundary_of_equal_weights_is_dice_ce():
    found = value("boundary_dice_ce", inside_weight=2, outside_weight=2, dice_weight=0)
    assert found == pytest.approx(CROSS_ENTROPY, abs=1e-5)
    assert value("boundary_dice_ce", inside_weight=1, outside_weight=1) == pytest.approx(value("dice_ce"), abs=1e-5)


def test_boundary_can_be_all_that_counts():
    near = -(math.log(0.6) + math.log(0.7)) / 2
    assert value("boundary_dice_ce", inside_weight=1, outside_weight=0, dice_weight=0) == pytest.approx(near, abs=1e-5)
    # Without an edge nothing counts then.
    empty = torch.zeros_like(TARGET)
    found = value("boundary_dice_ce", target=empty, inside_weight=1, outside_weight=0, dice_weight=0)
    assert found == 0


# Two lesions of label 1 in a plane, of one and of three voxels, 7 voxels of background with one false alarm.
PLANE = torch.tensor([[[1, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]], dtype=torch.int16)
PLANE_PROBABILITY = torch.full((1, 3, 4), 1e-6)
PLANE_PROBABILITY[0, 0] = torch.tensor([0.2, 1e-6, 0.9, 0.9])
PLANE_PROBABILITY[0, 1, 3] = 0.9
PLANE_PROBABILITY[0, 2, 0] = 0.5
PLANE_LOGITS = torch.stack([1 - PLANE_PROBABILITY, PLANE_PROBABILITY], 1).log()


def test_blob_gives_every_lesion_the_same_say():
    # whole: overlap 2.9, prediction 3.4, reference 4
    whole = 1 - 5.8 / 7.4
    # The small lesion: overlap 0.2, prediction 0.2 + 0.5, reference 1; the large one: 2.7, 2.7 + 0.5, 3.
    each = 1 - (0.4 / 1.7 + 5.4 / 6.2) / 2
    found = value("blob_dice_ce", logits=PLANE_LOGITS, target=PLANE, ce_weight=0)
    assert found == pytest.approx(2 * whole + each, abs=1e-4)
    found = value("blob_dice_ce", logits=PLANE_LOGITS, target=PLANE, ce_weight=0, global_weight=0, blob_weight=3)
    assert found == pytest.approx(3 * each, abs=1e-4)


def test_blob_cross_entropy_is_a_mean_over_lesions():
    found = value("blob_dice_ce", logits=PLANE_LOGITS, target=PLANE, dice_weight=0, global_weight=0)
    assert found == pytest.approx(-(math.log(0.2) + math.log(0.9)) / 2, abs=1e-5)


def test_blob_of_one_region_equals_one_label():
    labels = value("blob_dice_ce", logits=PLANE_LOGITS, target=PLANE)
    region = value("blob_dice_ce", logits=PLANE_PROBABILITY[:, None].logit(), target=PLANE, regions=((1,),))
    assert region == pytest.approx(labels, abs=1e-4)


def test_blob_without_lesions_is_the_whole_alone():
    empty = torch.zeros_like(PLANE)
    found = value("blob_dice_ce", logits=PLANE_LOGITS, target=empty)
    assert found == pytest.approx(2 * value("dice_ce", logits=PLANE_LOGITS, target=empty), abs=1e-5)
