"""What every loss in the table promises, in 2D and 3D, for labels and for overlapping regions."""

import gc
import math

import pytest
import torch

from autoseg.core.errors import PlanError
from autoseg.core.records import LossSettings
from autoseg.losses import LOSSES, build_loss

REGIONS = ((1, 2, 3), (2, 3), (3,))  # as whole tumour, core and enhancing tumour
IGNORED = 9
SHAPES = {"2d": (10, 14), "3d": (4, 6, 10)}
FLOORS = {"focal_tversky": 1e-6**0.75}  # what a perfect prediction leaves; 0 unless named here

# Losses for classes that exclude each other, or for regions, alone; the others take both.
LABELS_ALONE, REGIONS_ALONE = {"dice_ce"}, {"dice_bce"}
KINDS = [
    (name, regions)
    for name in LOSSES
    for regions in ((), REGIONS)
    if name not in (LABELS_ALONE if regions else REGIONS_ALONE)
]
every_kind = pytest.mark.parametrize(
    ("name", "regions"), KINDS, ids=[f"{name}-{'regions' if regions else 'labels'}" for name, regions in KINDS]
)
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def make_target(shape, *, batch=2, seed=0):
    """(B,*shape) int16: lesions of three labels on background, drawn coarsely so that they have an inside."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (batch, *((n + 1) // 2 for n in shape)), generator=generator)
    for axis, size in enumerate(shape, start=1):
        target = target.repeat_interleave(2, axis).narrow(axis, 0, size)
    return target.to(torch.int16)


def draw_logits(target, regions, *, seed=1, dtype=torch.float32):
    channels = len(regions) or 4
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((len(target), channels, *target.shape[1:]), generator=generator, dtype=dtype)


def favour(target, regions, strength):
    """Logits that favour the right answer by ``strength``."""
    groups = regions or [(label,) for label in range(4)]
    maps = [torch.isin(target, torch.tensor(labels, dtype=target.dtype)) for labels in groups]
    return (torch.stack(maps, 1).float() * 2 - 1) * strength


def judge(name, regions, logits, target, **settings):
    """Value as a float32's number, and slope."""
    logits = logits.clone().requires_grad_()
    value = build_loss(LossSettings(name=name, **settings), regions=regions, ignore_label=IGNORED)([logits], target)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    return value.item(), logits.grad


@every_shape
@every_kind
def test_it_falls_to_its_floor_with_better_predictions(name, regions, shape):
    target = make_target(shape)
    values = [judge(name, regions, favour(target, regions, strength), target)[0] for strength in (-3, 0, 3, 50)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.1
    assert values[-1] == pytest.approx(FLOORS.get(name, 0.0), abs=1e-5)


@every_shape
@every_kind
def test_a_step_against_its_slope_lowers_it(name, regions, shape):
    target = make_target(shape)
    logits = draw_logits(target, regions)
    value, slope = judge(name, regions, logits, target)
    lower, _ = judge(name, regions, logits - 0.01 * slope / slope.norm(), target)
    assert value > 0
    assert lower < value


@every_kind
def test_its_slope_reaches_every_sample_and_channel(name, regions):
    target = make_target(SHAPES["3d"])
    _, slope = judge(name, regions, draw_logits(target, regions), target)
    assert (slope.abs().amax((2, 3, 4)) > 0).all()


@every_shape
@every_kind
def test_its_slope_is_the_derivative(name, regions, shape):
    small = [min(n, 4) for n in shape]
    target = make_target(small)
    target[:, 0, 0] = IGNORED
    loss = build_loss(LossSettings(name=name), regions=regions, ignore_label=IGNORED)
    logits = draw_logits(target, regions, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda numbers: loss([numbers], target), (logits,), rtol=1e-4, atol=1e-7)


@every_kind
def test_ignored_voxels_change_nothing(name, regions):
    target = make_target(SHAPES["3d"])
    target[:, 1] = IGNORED
    logits = draw_logits(target, regions)
    other = logits.clone()
    other[:, :, 1] = 5 * draw_logits(target, regions, seed=2)[:, :, 1]
    value, slope = judge(name, regions, logits, target)
    assert judge(name, regions, other, target)[0] == pytest.approx(value, abs=1e-6)
    assert not slope[:, :, 1].any()
    assert slope[:, :, 0].any()


@every_kind
def test_a_wholly_ignored_patch_moves_nothing(name, regions):
    target = torch.full((2, *SHAPES["3d"]), IGNORED, dtype=torch.int16)
    value, slope = judge(name, regions, draw_logits(target, regions), target)
    assert math.isfinite(value)
    assert not slope.any()


@every_shape
@every_kind
def test_an_empty_and_a_full_sample_are_judged(name, regions, shape):
    target = torch.stack([torch.zeros(shape, dtype=torch.int16), torch.full(shape, 3, dtype=torch.int16)])
    bad, slope = judge(name, regions, favour(target, regions, -2.0) + draw_logits(target, regions), target)
    assert math.isfinite(bad)
    assert torch.isfinite(slope).all()
    assert slope[0].any()
    assert slope[1].any()
    assert judge(name, regions, favour(target, regions, 50.0), target)[0] == pytest.approx(
        FLOORS.get(name, 0.0), abs=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("strength", [60.0, -60.0])
@every_kind
def test_large_logits_of_half_precision_stay_finite(name, regions, strength, dtype):
    target = make_target(SHAPES["3d"])
    value, slope = judge(name, regions, favour(target, regions, strength).to(dtype), target)
    assert 0 <= value < math.inf
    assert slope.dtype == dtype
    assert torch.isfinite(slope).all()


@every_kind
def test_half_precision_is_summed_in_full(name, regions):
    target = make_target((20, 30, 40))
    logits = draw_logits(target, regions).half()
    assert judge(name, regions, logits, target)[0] == judge(name, regions, logits.float(), target)[0]


@every_kind
def test_every_output_counts_as_its_weight_says(name, regions):
    target = make_target((8, 12, 16))
    outputs = [draw_logits(target, regions), draw_logits(target[:, ::2, ::2, ::2], regions)]
    settings = LossSettings(name=name, deep_supervision_weights=(0.75, 0.25))
    alone = build_loss(LossSettings(name=name), regions=regions)
    coarse = target[:, 1::2, 1::2, 1::2]
    expected = 0.75 * alone(outputs[:1], target) + 0.25 * alone(outputs[1:], coarse)
    assert torch.allclose(build_loss(settings, regions=regions)(outputs, target), expected)


@every_kind
def test_samples_in_another_order_are_judged_alike(name, regions):
    target = make_target(SHAPES["3d"], batch=3)
    logits = draw_logits(target, regions)
    value, slope = judge(name, regions, logits, target)
    turned, turned_slope = judge(name, regions, logits.flip(0), target.flip(0))
    assert turned == pytest.approx(value, abs=1e-6)
    assert torch.allclose(turned_slope.flip(0), slope, atol=1e-7)


@pytest.mark.parametrize("name", LABELS_ALONE)
def test_a_loss_for_labels_refuses_regions(name):
    with pytest.raises(PlanError, match="needs one label per voxel, but the dataset has regions; use dice_bce"):
        build_loss(LossSettings(name=name), regions=REGIONS)


@pytest.mark.parametrize("name", REGIONS_ALONE)
def test_a_loss_for_regions_refuses_labels(name):
    with pytest.raises(PlanError, match="is for overlapping regions, but the dataset has none; use dice_ce"):
        build_loss(LossSettings(name=name))


@pytest.mark.parametrize("name", [name for name, regions in KINDS if regions])
def test_regions_follow_their_labels(name):
    target = torch.ones((1, 4, 4, 4), dtype=torch.int16)  # label 1: in the first region only
    right = torch.tensor([8.0, -8.0, -8.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 4, 4, 4)
    assert judge(name, REGIONS, right, target)[0] < judge(name, REGIONS, -right, target)[0]


@every_kind
def test_nothing_of_a_step_stays_in_memory(name, regions):
    """A circle through autograd is invisible to Python's collector: its memory would grow with every step."""
    target = make_target(SHAPES["3d"])
    judge(name, regions, draw_logits(target, regions), target)  # tables that are made once
    gc.collect()
    before = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    for _ in range(3):
        judge(name, regions, draw_logits(target, regions), target)
    gc.collect()
    assert sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()) <= before
