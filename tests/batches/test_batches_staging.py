"""Stages of a training and neighbouring slices: what a batch holds, and that it depends on seed, step and stage."""

from functools import partial

import numpy as np
import pytest
import torch

from autoseg.batches import Batches, StagedBatches, staging
from autoseg.batches.staging import coarsen_case
from autoseg.core.errors import MemoryShortageError
from autoseg.core.masks import stack_inputs
from autoseg.core.records import TrainingSettings, TrainingStage

HALF = TrainingStage(until=0.5, factors=(2, 2), patch_size=(8, 12), batch_size=4)


def staged(make, cases, **options):
    configuration = make.configured(patch=(16, 24), augmentation=make.everything())
    training = TrainingSettings(stages=(HALF,))
    configuration = configuration.model_copy(update={"training": training, **options})
    return StagedBatches(cases, configuration, partial(Batches, seed=1, workers=0))


def test_a_coarse_case_holds_means_and_the_most_frequent_label(make):
    case = make.prepared("case", shape=(3, 4, 5), empty=True)
    label = np.zeros((3, 4, 5), np.int16)
    label[0, :2, :2] = [[1, 1], [0, 0]]  # a tie, which goes to the larger value
    label[0, 2, 4] = 2  # alone of two voxels in the incomplete block
    label[2, :2, 2:4] = [[0, 0], [0, 1]]
    case = type(case)(**{**vars(case), "label": label})
    coarse = coarsen_case(case, (1, 2, 2))
    assert coarse.image.shape == (2, 3, 2, 3)
    assert coarse.image.dtype == np.float32
    np.testing.assert_allclose(coarse.image[1, 2, 1, 0], case.image[1, 2, 2:4, :2].mean(), rtol=1e-6)
    np.testing.assert_allclose(coarse.image[0, 0, 0, 2], case.image[0, 0, :2, 4].mean(), rtol=1e-6)
    assert coarse.label.dtype == np.int16
    assert coarse.label[0].tolist() == [[1, 0, 0], [0, 0, 2]]
    assert not coarse.label[2].any()


def test_a_lesion_stays_where_it_was(make):
    case = make.prepared("case")
    coarse = coarsen_case(case, (2, 2, 2))
    first = coarse.lesions.points[: coarse.lesions.start[1]]
    assert coarse.label[tuple(first.T)].all()
    assert first.min(axis=0).tolist() == [1, 2, 1]
    assert first.max(axis=0).tolist() == [3, 6, 5]


def test_each_stage_has_its_own_patch_and_batch(make, caplog):
    cases = [make.prepared(f"case{i}", seed=i) for i in range(3)]
    with caplog.at_level("INFO"), staged(make, cases) as batches:
        first, later = batches.batch(5, 0), batches.batch(6, 1)
    assert [message.split(":")[0] for message in caplog.messages] == ["stage 1 of 2", "stage 2 of 2"]
    assert first[0].shape == (4, 2, 8, 12)
    assert first[1].shape == (4, 8, 12)
    assert later[0].shape == (2, 2, 16, 24)
    with staged(make, cases) as resumed:
        assert torch.equal(resumed.batch(6, 1)[0], later[0])
        assert torch.equal(resumed.batch(5, 0)[0], first[0])


def test_copies_that_do_not_fit_in_memory_are_refused(make, monkeypatch):
    monkeypatch.setattr(staging, "free_memory_bytes", lambda: 1000)
    with (
        staged(make, [make.prepared("case")]) as batches,
        pytest.raises(MemoryShortageError, match="remove the stages from the plan"),
    ):
        batches.batch(0, 0)


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_neighbouring_slices_are_channels(make, device):
    case = make.prepared("case", channels=2)
    configuration = make.configured(patch=(20, 30), batch_size=6).model_copy(update={"context_slices": 1})
    expected = stack_inputs(case.image, None, (), context_slices=1)
    with Batches([case], configuration, seed=3, workers=0, device=device) as batches:
        draws = [batches.draw(0, sample) for sample in range(6)]
        image, target = batches.batch(0)
    assert image.shape == (6, 6, 20, 30)
    for draw, sample, label in zip(draws, image.numpy(), target.numpy(), strict=True):
        assert np.array_equal(sample, expected[:, draw.start[0]])
        assert np.array_equal(label, case.label[draw.start[0]])


def test_neighbours_beyond_the_ends_are_zero():
    image = np.arange(1.0, 9).reshape(2, 4, 1, 1)
    stacked = stack_inputs(image, None, (), context_slices=2)[:, :, 0, 0]
    assert stacked[:5].tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 0], [3, 4, 0, 0]]
    assert stacked[5:].tolist() == [[0, 0, 5, 6], [0, 5, 6, 7], [5, 6, 7, 8], [6, 7, 8, 0], [7, 8, 0, 0]]
    single = stack_inputs(image[:, :1], None, (), context_slices=2)[:, 0, 0, 0]
    assert single.tolist() == [0, 0, 1, 0, 0, 0, 0, 5, 0, 0]


def test_augmented_neighbours_move_together(make):
    # Equal slices stay equal, whatever is drawn but noise and what is smooth along all axes.
    case = make.prepared("case", channels=1)
    case.image[:] = case.image[:, :1]
    change = make.everything(
        substitution_probability=0.0,
        substitutions=(),
        noise_probability=0.0,
        bias_field_probability=0.0,
        elastic_probability=0.0,
    )
    configuration = make.configured(patch=(20, 30), channels=1, augmentation=change, batch_size=4)
    configuration = configuration.model_copy(update={"context_slices": 1})
    with Batches([case], configuration, seed=3, workers=0) as batches:
        inner = [n for n in range(4) if 0 < batches.draw(0, n).start[0] < 9]
        image, _ = batches.batch(0)
    assert inner
    for number in inner:
        assert torch.allclose(image[number, 0], image[number, 1], atol=1e-5)
        assert torch.allclose(image[number, 2], image[number, 1], atol=1e-5)
