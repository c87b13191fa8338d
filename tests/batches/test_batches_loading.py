"""Batches depend on seed and step alone, whoever makes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.batches import Batches
from autoseg.core.errors import DataError, TrainingError


def collect(cases, configuration, steps, *, workers, seed=1):
    with Batches(cases, configuration, seed=seed, workers=workers) as batches:
        return {step: batches.batch(step) for step in steps}


@pytest.fixture
def cases(make):
    return [make.prepared(f"case{i}", seed=i, empty=i == 2) for i in range(3)]


def test_shapes_and_types(make, cases):
    image, target = collect(cases, make.configured(), [0], workers=0)[0]
    assert image.shape == (2, 2, 4, 8, 12)
    assert image.dtype == torch.float32
    assert target.shape == (2, 4, 8, 12)
    assert target.dtype == torch.int16


@pytest.mark.parametrize("patch", [(4, 8, 12), (16, 24)])
def test_workers_and_order_do_not_change_a_batch(make, cases, patch):
    configuration = make.configured(patch=patch, augmentation=make.everything())
    alone = collect(cases, configuration, range(6), workers=0)
    many = collect(cases, configuration, range(6), workers=4)
    resumed = collect(cases, configuration, [4, 1, 5], workers=2)
    for step, (image, target) in alone.items():
        for other in (many[step], resumed.get(step, (image, target))):
            assert torch.equal(image, other[0])
            assert torch.equal(target, other[1])


def test_seeds_differ(make, cases):
    configuration = make.configured(augmentation=make.everything())
    images = [collect(cases, configuration, [0], workers=0, seed=seed)[0][0] for seed in (1, 2, (1, 2))]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize(("ranks", "device"), [(1, None), (2, None), (2, torch.device("cpu"))])
def test_no_two_of_200_samples_are_alike(make, cases, ranks, device):
    # Forked workers that share one random stream draw the same changes over and over; here no two may be the same.
    configuration = make.configured(augmentation=make.everything(), batch_size=4)
    patches = set()
    for rank in range(ranks):
        options = {"seed": 1, "workers": 4, "share": (rank, ranks), "device": device}
        with Batches(cases, configuration, **options) as batches:
            patches |= {sample.numpy().tobytes() for step in range(50) for sample in batches.batch(step)[0]}
    assert len(patches) == 200


def test_no_two_of_200_samples_are_drawn_alike(make, cases):
    changes = make.everything(blur_per_channel=1.0, low_resolution_per_channel=1.0)
    configuration = make.configured(augmentation=changes, batch_size=4)
    with Batches(cases, configuration, seed=1, workers=4) as batches:
        drawn = [batches.draw(step, sample).change for step in range(50) for sample in range(4)]
        assert batches.draw(49, 3).change.noise_seed == drawn[-1].noise_seed
    for name in ("matrix", "elastic", "blur", "brightness", "contrast", "low_resolution", "bias", "gamma"):
        assert len({getattr(change, name).tobytes() for change in drawn}) == 200, name
    for name in ("noise_std", "noise_seed"):
        assert len({getattr(change, name) for change in drawn}) == 200, name


def test_2d_patches_are_slices(make, cases):
    image, target = collect(cases, make.configured(patch=(20, 30), batch_size=8), [3], workers=2)[3]
    assert image.shape == (8, 2, 20, 30)
    slices = np.concatenate([case.image.transpose(1, 0, 2, 3) for case in cases])
    assert all(any(np.array_equal(sample, one) for one in slices) for sample in image.numpy())
    assert target.shape == (8, 20, 30)


def test_forced_samples_show_a_lesion(make, cases):
    batches = collect(cases[:2], make.configured(), range(20), workers=0)
    assert all((target[-1] != 0).any() for _, target in batches.values())


def test_ignored_label_is_not_sought(make):
    case = make.prepared("a", channels=2)
    label = np.where(case.label == 1, 3, 0).astype(np.int16)
    ignored = replace(case, label=label, lesions=replace(case.lesions, label=np.array([3, 3], np.int16)))
    with Batches([ignored], make.configured(), seed=0, workers=0, ignore_label=3) as batches:
        assert any(not (batches.batch(step)[1][-1]).any() for step in range(30))


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_case_is_named(make, cases, workers):
    class Broken(np.ndarray):
        def __getitem__(self, key):
            raise OSError("unreadable")

    bad = replace(cases[1], image=cases[1].image.view(Broken))
    with (
        Batches([bad], make.configured(), seed=0, workers=workers) as batches,
        pytest.raises(TrainingError, match=r"case case1: no patch could be cut at step 0 .*unreadable"),
    ):
        batches.batch(0)


def test_unusable_cases_are_refused(make, cases):
    with pytest.raises(TrainingError, match="the fold has no training case"):
        Batches([], make.configured(), seed=0, workers=0)
    with pytest.raises(DataError, match="case case0 has no label"):
        Batches([replace(cases[0], label=None)], make.configured(), seed=0, workers=0)
    with pytest.raises(DataError, match="the plan has 3 channels"):
        Batches(cases, make.configured(channels=3), seed=0, workers=0)


def test_masked_channels_stay_zero_outside(make):
    case = make.prepared("a")
    case.image[:, :, :10] = 0
    configuration = make.configured(
        patch=(10, 20, 30), inside_mask=True, augmentation=make.still(noise_probability=1, noise_variance=(0.1, 0.1))
    )
    image, _ = collect([case], configuration, [0], workers=0)[0]
    assert not image[:, :, :, :10].any()
    assert image[:, :, :, 10:].all()


@pytest.mark.parametrize("workers", [0, 2])
def test_shares_of_a_batch_add_up_to_it(make, cases, workers):
    configuration = make.configured(augmentation=make.everything(), batch_size=4)
    whole = collect(cases, configuration, [2], workers=workers)[2]
    for number in range(2):
        with Batches(cases, configuration, seed=1, workers=workers, share=(number, 2)) as batches:
            image, target = batches.batch(2)
        assert torch.equal(image, whole[0][number::2])
        assert torch.equal(target, whole[1][number::2])
