"""Changes of intensity, and the drawing of all parameters."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from autoseg.batches.augmentation import change_intensity, draw_change
from autoseg.batches.augmentation.intensity import adjust_contrast, apply_gamma, blur, simulate_low_resolution

SHAPE = (10, 20, 30)


@pytest.fixture
def channel():
    return np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)


def drawn(settings, seed=0, channels=2, flat=False):
    return draw_change(np.random.default_rng(seed), settings, channels=channels, shape=SHAPE, flat=flat)


def test_probability_zero_changes_nothing(make, channel):
    patch = np.stack([channel, 2 * channel])
    before = patch.copy()
    change = drawn(make.still())
    change_intensity(patch, change)
    assert change.matrix is None
    assert change.mirrored == (False, False, False)
    assert np.array_equal(patch, before)


@pytest.mark.parametrize("masked", [(), (0, 1)])
def test_a_channel_takes_the_place_of_another(make, channel, masked):
    channel[0] = 0  # outside the head
    patch = np.stack([channel, 2 * channel, 3 * channel])
    settings = make.still(substitution_probability=1.0, substitutions=((2, 1, 2),))
    change_intensity(patch, drawn(settings, channels=3), masked=masked)
    assert np.array_equal(patch, np.stack([3 * channel, 2 * channel, 3 * channel]))


def test_each_substitution_is_as_frequent_as_the_others(make):
    settings = make.still(substitution_probability=0.4, substitutions=((0, 0), (1, 1)))
    sources = [drawn(settings, seed).sources for seed in range(1000)]
    assert 540 < sources.count(()) < 660
    assert 150 < sources.count((0, 0)) < 250
    assert 150 < sources.count((1, 1)) < 250


def test_without_substitutions_the_other_draws_are_as_before(make):
    plain, with_copies = make.everything(substitution_probability=0.0), make.everything()
    first, second = drawn(plain), drawn(with_copies)
    assert first.sources == ()
    assert second.sources == (0, 0)
    assert first.noise_seed == second.noise_seed
    assert np.array_equal(first.gamma, second.gamma)


def test_everything_at_once_stays_finite_and_repeats(make, channel):
    patches = []
    for _ in range(2):
        patch = np.stack([channel, 2 * channel])
        change_intensity(patch, drawn(make.everything()))
        patches.append(patch)
    assert np.isfinite(patches[0]).all()
    assert np.array_equal(*patches)
    assert not np.allclose(patches[0][0], channel)


def test_probabilities_and_ranges_are_kept(make):
    settings = make.still(
        rotation_probability=0.2, blur_probability=0.2, noise_probability=0.1, gamma_probability=0.3, mirror_axes=(1,)
    )
    changes = [drawn(settings, seed) for seed in range(1000)]
    assert 150 < sum(c.matrix is not None for c in changes) < 250
    assert 60 < sum(c.noise_std > 0 for c in changes) < 140
    assert 160 < sum(c.blur.any(axis=1).sum() for c in changes) < 240  # 0.2 * 0.5 of 2000 channels
    assert 240 < sum(c.gamma[0] != 1 for c in changes) < 360
    assert 430 < sum(c.mirrored == (False, True, False) for c in changes) < 570
    gammas = np.array([c.gamma[0] for c in changes if c.gamma[0] != 1])
    assert gammas.min() >= 0.7
    assert gammas.max() <= 1.5
    assert 0.4 < (gammas < 1).mean() < 0.6


def test_mirror_axes_of_a_slice_count_within_it(make):
    mirrored = {drawn(make.still(mirror_axes=(0,)), seed, flat=True).mirrored for seed in range(20)}
    assert mirrored == {(False, False, False), (False, True, False)}


def test_flat_rotation_turns_the_plane_only(make):
    matrix = drawn(make.everything(), flat=True).matrix
    assert matrix[0].tolist() == [1, 0, 0]
    assert matrix[:, 0].tolist() == [1, 0, 0]
    assert 0.7 <= np.sqrt(np.linalg.det(matrix)) <= 1.4


def test_blur_is_a_gaussian(channel):
    blurred = channel.copy()
    blur(blurred, (0.6, 0.8, 1.0))
    expected = ndimage.gaussian_filter(channel, (0.6, 0.8, 1.0), mode="mirror", radius=(2, 3, 3))
    assert np.allclose(blurred, expected, atol=1e-5)


def test_blur_of_a_slice_and_of_two_voxels():
    for shape in ((1, 2, 6), (2, 6, 2)):
        voxels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        expected = ndimage.gaussian_filter(voxels, [0.0 if n == 1 else 1.0 for n in shape], mode="mirror", radius=3)
        blur(voxels, (1.0, 1.0, 1.0))
        assert np.allclose(voxels, expected, atol=1e-5)


def test_contrast_keeps_mean_and_range():
    values = np.array([[[0.0, 1.0, 2.0, 5.0]]], np.float32)
    adjust_contrast(values, 1.25)
    assert np.allclose(values, [[[0.0, 0.75, 2.0, 5.0]]])  # mean 2; -0.5 and 5.75 are clipped
    values = np.array([[[0.0, 1.0, 2.0, 5.0]]], np.float32)
    adjust_contrast(values, 0.75)
    assert np.allclose(values, [[[0.5, 1.25, 2.0, 4.25]]])


def test_low_resolution_takes_nearest_voxels_and_interpolates():
    ramp = np.arange(8, dtype=np.float32).reshape(1, 1, 8).copy()
    simulate_low_resolution(ramp, 0.5, first_axis=0)
    # coarse voxels 1 3 5 7 at positions 0.5 2.5 4.5 6.5
    assert np.allclose(ramp[0, 0], [1, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7])


def test_low_resolution_can_spare_the_first_axis(channel):
    flat = np.broadcast_to(channel[:, :1, :1], SHAPE).copy()
    before = flat.copy()
    simulate_low_resolution(flat, 0.5, first_axis=1)
    assert np.allclose(flat, before)
    simulate_low_resolution(flat, 0.5, first_axis=0)
    assert not np.allclose(flat, before)


def test_gamma_bends_and_keeps_mean_and_deviation(channel):
    bent = channel.copy()
    apply_gamma(bent, 1.5)
    assert bent.mean() == pytest.approx(channel.mean(), abs=1e-4)
    assert bent.std() == pytest.approx(channel.std(), abs=1e-4)
    unit = (channel - channel.min()) / np.ptp(channel)
    assert np.corrcoef(bent.ravel(), unit.ravel() ** 1.5)[0, 1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_gamma_is_a_power_of_the_share_of_the_range(channel, gamma, mean):
    values = channel + np.float32(mean)
    exact = values.astype(np.float64)
    power = ((exact - exact.min()) / np.ptp(exact)) ** gamma
    expected = (power - power.mean()) / power.std() * exact.std() + exact.mean()
    apply_gamma(values, gamma)
    assert np.allclose(values, expected, atol=1e-5 if mean == 0 else 2e-4)  # of float32 at 1000


def test_gamma_leaves_a_constant_alone():
    constant = np.full(SHAPE, 3.0, np.float32)
    apply_gamma(constant, 0.7)
    assert (constant == 3).all()


def test_noise_has_its_deviation_and_brightness_its_factor(make):
    patch = np.ones((2, *SHAPE), np.float32)
    change_intensity(patch, replace(drawn(make.still()), brightness=np.array([1.0, 0.75])))
    assert np.allclose(patch[0], 1)
    assert np.allclose(patch[1], 0.75)
    patch = np.zeros((2, *SHAPE), np.float32)
    change_intensity(patch, replace(drawn(make.still()), noise_std=0.1))
    assert patch.std() == pytest.approx(0.1, abs=0.003)
    assert not np.array_equal(patch[0], patch[1])


def test_masked_channels_stay_zero_outside(make, channel):
    channel[:, :5] = 0
    patch = np.stack([channel, channel])
    change_intensity(patch, drawn(make.everything()), masked=(1,))
    assert patch[0, :, :5].any()
    assert not patch[1, :, :5].any()
