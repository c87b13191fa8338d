"""Masked blocks, and the loss that looks at nothing else."""

import numpy as np
import pytest
import torch

from autoseg.core.errors import UsageError
from autoseg.transfer.masking import MaskedBatches, choose_block, draw_mask, masked_loss


class Bright:
    def batch(self, step, stage=0):
        return torch.full((2, 1, 8, 8, 8), float(step + 1)), torch.zeros(2, 8, 8, 8)


def batches(share=0.75):
    return MaskedBatches(Bright(), block=(2, 2, 2), share=share, seed=(1, 2))


def test_an_eighth_of_the_patch_is_a_block():
    assert choose_block((64, 20, 4)) == (8, 3, 1)


@pytest.mark.parametrize(("share", "expected"), [(0.75, 48), (0.5, 32), (0.001, 1), (0.999, 63)])
def test_the_share_of_masked_blocks_is_exact_and_never_none_or_all(share, expected):
    mask = draw_mask(np.random.default_rng(0), (8, 8, 8), (2, 2, 2), share)
    assert mask.sum() == expected * 8
    assert mask.reshape(4, 2, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5).reshape(64, 8).std(1).max() == 0  # whole blocks


def test_a_patch_that_is_no_multiple_of_its_blocks_has_thinner_ones_at_its_end():
    assert draw_mask(np.random.default_rng(0), (5, 7), (2, 3), 0.5).shape == (5, 7)


def test_a_patch_of_one_block_is_refused():
    with pytest.raises(UsageError, match="is a single block"):
        draw_mask(np.random.default_rng(0), (2, 2), (2, 2), 0.5)


def test_masked_voxels_are_hidden_and_asked_for():
    image, target = batches().batch(3)
    mask = target[:, 1:] == 1
    assert torch.equal(target[:, :1], torch.full_like(image, 4.0))
    assert (image[mask] == 0).all()
    assert (image[~mask] == 4).all()
    assert mask.float().mean() == 0.75
    assert not torch.equal(mask[0], mask[1])


def test_a_step_has_its_own_blocks_whatever_was_asked_before():
    first, again = batches(), batches()
    first.batch(0)
    assert torch.equal(first.batch(1)[1], again.batch(1)[1])
    assert not torch.equal(again.batch(1)[0] == 0, again.batch(2)[0] == 0)


def test_the_loss_is_the_mean_square_of_masked_voxels_alone():
    truth = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    found = torch.tensor([[[[2.0, 90.0], [90.0, 1.0]]]], requires_grad=True)
    loss = masked_loss([found], torch.cat((truth, mask), 1))
    assert float(loss.detach()) == (1 + 9) / 2
    loss.backward()
    assert torch.equal(found.grad != 0, mask != 0)
