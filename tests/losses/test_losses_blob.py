"""Lesions of a batch, and the mean over them against the definition, one lesion at a time."""

import pytest
import torch

from autoseg.core.records import LossSettings
from autoseg.losses import build_loss
from autoseg.losses.blob import number_lesions


def as_target(*samples):
    return torch.tensor(samples, dtype=torch.int16)


def test_lesions_are_numbered_over_samples_and_labels():
    found = number_lesions(as_target([[1, 0, 2], [0, 0, 2]], [[0, 0, 0], [1, 1, 0]]), (), None)
    assert found is not None
    assert found.sizes.tolist() == [1, 2, 2]
    assert list(zip(found.sample.tolist(), found.channel.tolist(), found.voxel.tolist(), strict=True)) == [
        (0, 1, 0),
        (0, 2, 2),
        (0, 2, 5),
        (1, 1, 3),
        (1, 1, 4),
    ]
    assert found.number.tolist() == [0, 1, 1, 2, 2]
    assert found.channel[found.owner].tolist() == [1, 2, 1]


def test_voxels_that_share_a_corner_are_one_lesion():
    flat = number_lesions(as_target([[1, 0], [0, 1]]), (), None)
    assert flat is not None
    assert flat.sizes.tolist() == [2]
    deep = torch.zeros((1, 2, 2, 2), dtype=torch.int16)
    deep[0, 0, 0, 0] = deep[0, 1, 1, 1] = 1
    found = number_lesions(deep, (), None)
    assert found is not None
    assert found.sizes.tolist() == [2]


def test_labels_that_touch_are_lesions_of_their_own():
    found = number_lesions(as_target([[1, 1, 2]]), (), None)
    assert found is not None
    assert found.sizes.tolist() == [2, 1]


def test_regions_have_lesions_of_their_own():
    # Whole: both labels together are one lesion. Core: label 2 is two.
    found = number_lesions(as_target([[2, 1, 2]]), ((1, 2), (2,)), None)
    assert found is not None
    assert found.sizes.tolist() == [3, 1, 1]
    assert found.channel[found.owner].tolist() == [0, 1, 1]


def test_ignored_voxels_belong_to_no_lesion():
    found = number_lesions(as_target([[1, 9, 1, 0]]), (), 9)
    assert found is not None
    assert found.sizes.tolist() == [1, 1]
    assert number_lesions(as_target([[0, 9, 9, 0]]), (), 9) is None


@pytest.mark.parametrize("shape", [(20, 24), (8, 10, 12)])
def test_it_is_the_dice_of_each_lesion_with_the_others_ignored(shape):
    generator = torch.Generator().manual_seed(4)
    target = (torch.rand((3, *shape), generator=generator) > 0.96).to(torch.int16)
    target[2] = 0
    logits = torch.randn((3, 2, *shape), generator=generator)
    found = number_lesions(target, (), None)
    assert found is not None
    assert len(found.sizes) > 10
    dice = build_loss(LossSettings(options={"ce_weight": 0.0}), ignore_label=9)
    values = []
    for lesion in range(len(found.sizes)):
        own = found.number == lesion
        sample = found.sample[own][0]
        alone = torch.where(target[sample] == 1, 9, 0).flatten()
        alone[found.voxel[own]] = 1
        values.append(dice([logits[sample][None]], alone.reshape(1, *shape)))
    options = {"ce_weight": 0.0, "global_weight": 0.0}
    together = build_loss(LossSettings(name="blob_dice_ce", options=options))([logits], target)
    assert together == pytest.approx(torch.stack(values).mean().item(), abs=1e-5)


def test_a_small_lesion_pulls_as_hard_as_a_large_one():
    target = torch.zeros((1, 16, 16), dtype=torch.int16)
    target[0, 1, 1] = 1
    target[0, 4:12, 4:12] = 1
    logits = torch.zeros((1, 2, 16, 16), requires_grad=True)
    options = {"global_weight": 0.0, "dice_weight": 0.0}
    build_loss(LossSettings(name="blob_dice_ce", options=options))([logits], target).backward()
    pull = logits.grad[0, 1]
    assert pull[1, 1] == pytest.approx(pull[4:12, 4:12].sum().item())
