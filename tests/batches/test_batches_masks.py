"""A cascade's masks: moved as the label is, split into channels, and made imperfect."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.batches import Batches
from autoseg.batches.augmentation import change_masks, cut_label, draw_change
from autoseg.batches.augmentation.draws import MaskChange, rotation
from autoseg.batches.augmentation.masks import MORPHOLOGY, dilate, erode, remove_component
from autoseg.core.errors import DataError
from autoseg.core.masks import split_mask, stack_inputs

CLASSES = ((1,), (2,))
REGIONS = ((1, 2), (2,))


def ball(radius):
    """(2r+1, ...) bool, voxels within the radius of the centre."""
    axes = np.ogrid[tuple(slice(-radius, radius + 1) for _ in range(3))]
    return sum(axis**2 for axis in axes) <= radius**2


def collect(cases, configuration, members, steps=range(6), workers=0):
    with Batches(cases, configuration, seed=3, workers=workers, mask_values=members) as batches:
        return [batches.batch(step) for step in steps]


@pytest.fixture
def fed(make):
    """Three cases with labels 1 and 2, whose prior is the label itself."""
    cases = []
    for number in range(3):
        case = make.prepared(f"case{number}", seed=number)
        label = case.label.copy()
        label[:, 10:] *= 2
        cases.append(replace(case, label=label, prior=label.astype(np.uint8)))
    return cases


def test_split_by_hand():
    mask = np.array([0, 1, 2, 3], np.uint8)
    channels = np.full((2, 4), np.nan, np.float32)
    split_mask(mask, CLASSES, channels)
    assert channels.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    split_mask(mask, ((1, 2, 3), (2, 3)), channels)
    assert channels.tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]


def test_a_network_sees_the_scan_and_then_the_masks():
    image, prior = np.full((1, 1, 1, 3), 0.5, np.float16), np.array([[[0, 1, 2]]], np.uint8)
    assert stack_inputs(image, None, ()) is image
    inputs = stack_inputs(image, prior, REGIONS)
    assert inputs.dtype == np.float32
    assert inputs[:, 0, 0].tolist() == [[0.5, 0.5, 0.5], [0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("patch", [(4, 8, 12), (16, 24)])
@pytest.mark.parametrize("members", [CLASSES, REGIONS])
def test_a_prior_equal_to_the_label_stays_equal_to_it_wherever_the_patch_is_moved(make, fed, patch, members):
    moves = {"rotation_probability": 1, "scale_probability": 1, "elastic_probability": 1, "mirror_axes": (0, 1)}
    configuration = make.configured(patch=patch, augmentation=make.still(**moves))
    seen = 0
    for image, target in collect(fed, configuration, members):
        for number, values in enumerate(members):
            expected = np.isin(target.numpy(), values)
            assert np.array_equal(image[:, 2 + number].numpy(), expected)
            seen += expected.sum()
    assert seen > 100


def test_a_prior_follows_a_quarter_turn_and_a_mirror(make):
    prior = np.random.default_rng(0).integers(0, 3, (10, 20, 30)).astype(np.uint8)
    still = draw_change(np.random.default_rng(0), make.still(), channels=2, shape=(6, 6, 6), flat=False, masks=2)
    moved = np.full((6, 6, 6), -9, np.int16)
    cut_label(prior, (2, 7, 12), replace(still, mirrored=(True, False, False)), moved)
    assert np.array_equal(moved, prior[2:8, 7:13, 12:18][::-1])
    cut_label(prior, (2, 7, 12), replace(still, matrix=rotation(0, np.pi / 2)), moved)
    assert np.array_equal(moved, np.rot90(prior[2:8, 7:13, 12:18], k=-1, axes=(1, 2)))


def test_without_masks_a_batch_is_what_it_was(make, fed):
    configuration = make.configured(augmentation=make.everything())
    plain = [replace(case, prior=None) for case in fed]
    for (image, target), (masked, same) in zip(
        collect(plain, configuration, ()), collect(fed, configuration, CLASSES), strict=True
    ):
        assert torch.equal(target, same)
        assert torch.equal(image, masked[:, :2])  # what concerns masks is drawn last, and intensities spare them
        assert set(masked[:, 2:].unique().tolist()) <= {0, 1}


def test_masks_do_not_depend_on_workers_or_order(make, fed):
    configuration = make.configured(augmentation=make.everything())
    alone = collect(fed, configuration, CLASSES)
    many = collect(fed, configuration, CLASSES, workers=4)
    resumed = collect(fed, configuration, CLASSES, steps=[4], workers=2)
    assert all(torch.equal(one[0], other[0]) for one, other in zip(alone, many, strict=True))
    assert torch.equal(alone[4][0], resumed[0][0])


def test_probabilities_are_kept(make):
    settings = make.still(mask_shape_probability=0.4, mask_removal_probability=0.2, mask_shape_radius=(2, 3))
    draws = [
        draw_change(np.random.default_rng(seed), settings, channels=1, shape=(4, 4, 4), flat=False, masks=3)
        for seed in range(1000)
    ]
    assert 0.35 < np.mean([bool(draw.mask_morphology) for draw in draws]) < 0.45
    assert 0.16 < np.mean([bool(draw.component_draws) for draw in draws]) < 0.24
    shaped = [change for draw in draws for change in draw.mask_morphology]
    assert {change.operation for change in shaped} == set(MORPHOLOGY)
    assert {change.radius for change in shaped} == {2, 3}
    assert all(sorted(c.channel for c in draw.mask_morphology) == [0, 1, 2] for draw in draws if draw.mask_morphology)
    assert {len(draw.component_draws) for draw in draws} == {0, 3}


def test_a_dilated_voxel_is_a_ball_and_an_eroded_ball_a_voxel():
    mask = np.zeros((9, 11, 13), bool)
    mask[4, 5, 6] = True
    dilated = dilate(mask, 2)
    assert dilated.sum() == 33  # whole points with z2 + y2 + x2 <= 4
    assert np.array_equal(dilated[2:7, 3:8, 4:9], ball(2))
    assert np.array_equal(erode(dilated, 2), mask)
    assert erode(dilated, 3).sum() == 0


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_every_shaping_equals_scipy_s(radius):
    rng = np.random.default_rng(radius)
    mask = ndimage.gaussian_filter(rng.random((12, 20, 24)), 2) > 0.5
    mask[:3] = False
    dilated = ndimage.binary_dilation(mask, ball(radius))
    eroded = ndimage.binary_erosion(mask, ball(radius), border_value=1)
    expected = {
        "dilate": dilated,
        "erode": eroded,
        "open": ndimage.binary_dilation(eroded, ball(radius)),
        "close": ndimage.binary_erosion(dilated, ball(radius), border_value=1),
    }
    for name, shaping in MORPHOLOGY.items():
        assert np.array_equal(shaping(mask, radius), expected[name]), name


@pytest.mark.parametrize("name", MORPHOLOGY)
def test_an_empty_and_a_full_mask_stay_so(name):
    for mask in (np.zeros((1, 5, 6), bool), np.ones((1, 5, 6), bool)):
        assert np.array_equal(MORPHOLOGY[name](mask, 3), mask)


@pytest.mark.parametrize("exclusive", [True, False])
def test_of_classes_a_voxel_that_one_gains_the_others_lose(exclusive):
    masks = np.zeros((2, 1, 1, 5), np.float32)
    masks[:, 0, 0] = [[0, 1, 0, 0, 0], [0, 0, 1, 1, 0]]
    change = MaskChange(channel=0, operation="dilate", radius=1)
    change_masks(masks, (change,), (), exclusive=exclusive)
    assert masks[0, 0, 0].tolist() == [1, 1, 1, 0, 0]
    assert masks[1, 0, 0].tolist() == ([0, 0, 0, 1, 0] if exclusive else [0, 0, 1, 1, 0])


def test_one_of_the_small_components_is_removed():
    mask = np.zeros((1, 10, 10), np.float32)
    mask[0, 0:3, 0:5] = 1  # 15 of 100 voxels: not less than 15 %
    mask[0, 5, 5] = mask[0, 6, 6] = 1  # touch by a corner: one
    mask[0, 9, 0] = 1
    first, second = mask.copy(), mask.copy()
    remove_component(first, 0.49)
    remove_component(second, 0.5)
    assert np.argwhere(first != mask).tolist() == [[0, 5, 5], [0, 6, 6]]
    assert np.argwhere(second != mask).tolist() == [[0, 9, 0]]
    large = mask * (np.arange(10) < 5) * (np.arange(10)[:, None] < 5)
    before = large.copy()
    remove_component(large, 0)
    assert np.array_equal(large, before)
    assert large.any()


def test_a_mapped_prior_gives_the_same_batches(make, fed, tmp_path):
    np.save(tmp_path / "prior.npy", fed[0].prior)
    mapped = replace(fed[0], prior=np.load(tmp_path / "prior.npy", mmap_mode="r"))
    configuration = make.configured(augmentation=make.everything())
    for (image, _), (other, _) in zip(
        collect(fed[:1], configuration, CLASSES), collect([mapped], configuration, CLASSES), strict=True
    ):
        assert torch.equal(image, other)


def test_cases_without_a_fitting_prior_are_refused(make, fed):
    configuration = make.configured().model_copy(update={"cascade_from": "3d_lowres"})
    with pytest.raises(DataError, match=r"case case0 needs a mask of 3d_lowres of its label's shape .* and has none"):
        collect([replace(fed[0], prior=None)], configuration, CLASSES)
    with pytest.raises(DataError, match=r"and has one of shape \(9, 20, 30\); delete"):
        collect([replace(fed[0], prior=fed[0].prior[1:])], configuration, CLASSES)
