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


def test_top_k_counts_the_worst():
    assert value("top_k_ce", share=0.5) == pytest.approx(-(math.log(0.6) + math.log(0.7)) / 2, abs=1e-5)
    assert value("top_k_ce", share=0.01) == pytest.approx(-math.log(0.6), abs=1e-5)
