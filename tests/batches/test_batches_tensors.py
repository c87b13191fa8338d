"""The same drawn changes, made by torch: equal to the compiled loops but for rounding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.batches import Batches
from autoseg.batches.augmentation import (
    change_intensity,
    change_tensors,
    cut_patch,
    cut_tensors,
    draw_change,
    find_box,
    tensor_spatial,
)
from autoseg.batches.augmentation.draws import rotation
from autoseg.core.errors import MemoryShortageError, TrainingError

SHAPE = (10, 20, 30)
IMAGE = np.random.default_rng(0).standard_normal((2, *SHAPE), dtype=np.float32)
LABEL = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)
CPU = torch.device("cpu")

TURNED = {"matrix": rotation(0, 0.3) @ rotation(1, -0.2) @ rotation(2, 0.4) * 1.2}
SPATIAL = {
    "nothing": {},
    "mirrored": {"mirrored": (True, False, True)},
    "turned": TURNED,
    "turned and mirrored": {**TURNED, "mirrored": (False, True, True)},
    "halfway": {"matrix": np.diag([1, 1, 0.5])},  # equal shares: the smaller label wins
    "quarter": {"matrix": rotation(1, np.pi / 2)},
}
INTENSITY = {
    "nothing": {},
    "blur": {"blur_probability": 1.0, "blur_per_channel": 1.0},
    "wide blur": {"blur_probability": 1.0, "blur_per_channel": 1.0, "blur_sigma": (4.0, 5.0)},
    "brightness": {"brightness_probability": 1.0},
    "contrast": {"contrast_probability": 1.0},
    "low resolution": {"low_resolution_probability": 1.0, "low_resolution_per_channel": 1.0},
    "low resolution in the plane": {"low_resolution_probability": 1.0, "in_plane": True},
    "bias field": {"bias_field_probability": 1.0},
    "inverted gamma": {"inverted_gamma_probability": 1.0},
    "gamma": {"gamma_probability": 1.0},
    "substitution": {"substitution_probability": 1.0, "substitutions": ((1, 1),), "gamma_probability": 1.0},
}


def cut_both(change, start, size, image=IMAGE, label=LABEL):
    """A patch and its target by the loops, and by torch from the box that it needs."""
    loops = np.full((len(image), *size), np.nan, np.float32), np.full(size, -9, np.int16)
    cut_patch(image, label, start, change, *loops)
    margin = None if change.elastic is None else np.abs(change.elastic).max(axis=(1, 2, 3))
    box = find_box(start, change, size, label.shape, margin=margin)
    tensors = torch.full((len(image), *size), torch.nan), torch.full(size, -9, dtype=torch.int16)
    low = [part.start for part in box]
    parts = torch.from_numpy(image[(slice(None), *box)]), torch.from_numpy(label[box])
    cut_tensors(*parts, low, start, change, *tensors)
    return loops, tuple(tensor.numpy() for tensor in tensors)


def drawn(settings, seed=0, size=SHAPE, channels=2):
    return draw_change(np.random.default_rng(seed), settings, channels=channels, shape=size, flat=False)


@pytest.mark.parametrize("slab", [50, 2**19])
@pytest.mark.parametrize("start", [(2, 3, 4), (-3, 15, -1), (100, 0, 0)], ids=["inside", "over the edge", "beyond"])
@pytest.mark.parametrize("name", SPATIAL)
def test_cutting_equals_the_loop(make, monkeypatch, name, start, slab):
    monkeypatch.setattr(tensor_spatial, "SLAB", slab)
    change = replace(drawn(make.still()), **SPATIAL[name])
    (patch, target), (other, labels) = cut_both(change, start, (5, 9, 12))
    assert np.allclose(patch, other, atol=1e-6)
    assert np.array_equal(target, labels)
    assert start == (100, 0, 0) or target.any()


def test_half_precision_is_read_as_it_is(make):
    change = replace(drawn(make.still()), **TURNED)
    (patch, target), (other, labels) = cut_both(change, (2, 3, 4), (5, 9, 12), image=IMAGE.astype(np.float16))
    assert np.allclose(patch, other, atol=1e-6)
    assert np.array_equal(target, labels)


def test_a_displacement_equals_the_loop(make):
    label = np.zeros(SHAPE, np.uint8)
    label[3:7, 6:14, 8:22] = 2
    for seed in range(5):
        change = drawn(make.still(elastic_probability=1), seed)
        (patch, target), (other, labels) = cut_both(change, (0, 0, 0), SHAPE, label=label)
        assert np.allclose(patch, other, atol=1e-4)
        assert (target != labels).mean() < 1e-3  # positions differ in the last digit of float32
        assert (target == 2).sum() > 50


@pytest.mark.parametrize("name", INTENSITY)
def test_every_change_of_intensity_equals_the_loops(make, name):
    changes = [drawn(make.still(**INTENSITY[name]), seed) for seed in range(4)]
    batch = np.stack([IMAGE * (seed + 1) for seed in range(4)])
    tensors = torch.from_numpy(batch.copy())
    change_tensors(tensors, changes)
    for patch, change in zip(batch, changes, strict=True):
        before = patch.copy()
        change_intensity(patch, change)
        assert np.array_equal(patch, before) == (name == "nothing")
    assert np.allclose(tensors.numpy(), batch, atol=2e-5)


def test_only_the_chosen_channels_change(make):
    change = replace(drawn(make.still()), gamma=np.array([1.0, 1.4]), blur=np.array([[0.0] * 3, [1.0, 0.0, 0.7]]))
    tensors = torch.from_numpy(IMAGE[None].copy())
    change_tensors(tensors, [change])
    assert np.array_equal(tensors[0, 0], IMAGE[0])
    patch = IMAGE.copy()
    change_intensity(patch, change)
    assert np.allclose(tensors[0].numpy(), patch, atol=2e-5)


def test_a_constant_channel_survives_gamma_and_contrast(make):
    change = replace(drawn(make.still()), gamma=np.full(2, 1.4), contrast=np.full(2, 0.8))
    tensors = torch.full((1, 2, *SHAPE), 3.0)
    change_tensors(tensors, [change])
    assert torch.allclose(tensors, torch.tensor(3.0))


def test_noise_has_its_deviation_and_repeats(make):
    changes = [replace(drawn(make.still(), seed), noise_std=std) for seed, std in enumerate((0.0, 0.1, 0.2))]
    batches = [torch.zeros((3, 2, *SHAPE)) for _ in range(2)]
    for batch in batches:
        change_tensors(batch, changes)
    assert torch.equal(*batches)
    assert not batches[0][0].any()
    assert batches[0][1].std() == pytest.approx(0.1, abs=0.003)
    assert batches[0][2].std() == pytest.approx(0.2, abs=0.006)
    assert not torch.allclose(2 * batches[0][1], batches[0][2])


def test_masked_channels_stay_zero_outside(make):
    batch = torch.from_numpy(np.stack([IMAGE, IMAGE]))
    batch[:, :, :, :5] = 0
    change_tensors(batch, [drawn(make.everything(), seed) for seed in range(2)], masked=(1,))
    assert batch[:, 0, :, :5].any()
    assert not batch[:, 1, :, :5].any()
    assert batch[:, 1, :, 5:].all()


def collect(cases, configuration, *, steps=range(6), workers=0, **options):
    with Batches(cases, configuration, seed=3, workers=workers, **options) as batches:
        return [batches.batch(step) for step in steps]


@pytest.fixture
def cases(make):
    made = [make.prepared(f"case{i}", seed=i, empty=i == 2) for i in range(3)]
    return [replace(case, prior=case.label.astype(np.uint8)) for case in made]


@pytest.mark.parametrize("members", [(), ((1,),)], ids=["alone", "cascade"])
@pytest.mark.parametrize("patch", [(4, 8, 12), (16, 24)], ids=["3d", "2d"])
def test_batches_of_both_engines_are_equal(make, cases, patch, members):
    changes = make.everything(noise_probability=0.0, elastic_probability=0.0)
    configuration = make.configured(patch=patch, augmentation=changes, batch_size=3)
    loops = collect(cases, configuration, mask_values=members)
    tensors = collect(cases, configuration, mask_values=members, device=CPU)
    for (image, target), (other, labels) in zip(loops, tensors, strict=True):
        assert torch.allclose(image, other, atol=1e-4)
        assert torch.equal(target, labels)
        assert other.dtype == torch.float32
        assert labels.dtype == torch.int16
    assert any(target.any() for _, target in loops)


def test_workers_do_not_change_a_batch_of_tensors(make, cases):
    configuration = make.configured(augmentation=make.everything(), batch_size=3)
    for (image, target), (other, labels) in zip(
        collect(cases, configuration, device=CPU), collect(cases, configuration, workers=3, device=CPU), strict=True
    ):
        assert torch.equal(image, other)
        assert torch.equal(target, labels)


def test_a_broken_case_is_named(make, cases):
    class Broken(np.ndarray):
        def __getitem__(self, key):
            raise OSError("unreadable")

    bad = replace(cases[1], image=cases[1].image.view(Broken))
    with pytest.raises(TrainingError, match=r"case case1: no patch could be cut at step 0 .*unreadable"):
        collect([bad], make.configured(), device=CPU)


def test_a_gpu_that_is_full_says_what_to_do(make, cases, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("autoseg.batches.engines.change_tensors", fail)
    with pytest.raises(MemoryShortageError, match=r"batch of step 1; set augmentation.device to cpu in the plan"):
        collect(cases, make.configured(), device=CPU)
