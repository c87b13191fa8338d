"""Temperature and calibration error: numbers worked by hand."""

import numpy as np
import pytest

from autoseg.evaluation.calibration import (
    calibrate,
    draw_voxels,
    expected_error,
    fit_temperature,
    is_reliable,
    make_bins,
    temper,
)


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=0))
    return shares / shares.sum(axis=0)


def test_tempering_classes_divides_their_logits():
    logits = np.array([[2.0, 0.0], [1.0, 0.5], [0.0, -1.0]])
    assert temper(softmax(logits), 2.0, overlap=False) == pytest.approx(softmax(logits / 2), abs=1e-6)
    assert temper(softmax(logits), 1.0, overlap=False) == pytest.approx(softmax(logits), abs=1e-6)


def test_tempering_regions_divides_each_logit():
    logits = np.array([[2.0, -3.0], [0.0, 4.0]])
    found = temper(1 / (1 + np.exp(-logits)), 0.5, overlap=True)
    assert found == pytest.approx(1 / (1 + np.exp(-2 * logits)), abs=1e-6)


def test_what_is_certain_stays_so_and_the_winner_too():
    shares = np.array([[1.0, 0.99995, 0.3], [0.0, 0.00005, 0.7]])
    found = temper(shares, 3.0, overlap=False)
    assert found[:, :2].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert found[1, 2] > 0.5
    assert temper(shares[1:], 3.0, overlap=True)[0, :2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_overconfident_probabilities_is_found(overlap, temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 40_000))
    if overlap:
        honest = 1 / (1 + np.exp(-logits))
        truth = rng.random(honest.shape) < honest
        claimed = 1 / (1 + np.exp(-logits * temperature))
    else:
        honest = softmax(logits)
        first = rng.random(40_000) < honest[0]
        truth = np.stack([first, ~first])
        claimed = softmax(logits * temperature)
    found = fit_temperature(claimed.T, truth.T, overlap=overlap)
    assert found == pytest.approx(temperature, rel=0.05)
    folds = np.repeat(["0", "1"], 20_000)
    calibration = calibrate(claimed.T.astype(np.float32), truth.T, folds, overlap=overlap)
    assert calibration.error_after < 0.01
    assert calibration.error_after <= calibration.error_before + 1e-3


def test_a_fold_is_measured_with_the_temperature_of_the_others():
    """Fold a claims 0.9 where 3 of 4 are foreground, b claims 0.9 where all are: a needs a temperature above 1 and b
    one below, so that each makes the other worse; fitted to themselves, both errors would fall."""
    probabilities = np.tile(np.float32([0.1, 0.9]), (800, 1))
    truth = np.ones((800, 2), bool)
    truth[0:400:4, 1] = False
    truth[:, 0] = ~truth[:, 1]
    folds = np.repeat(["a", "b"], 400)
    found = calibrate(probabilities, truth, folds, overlap=False)

    assert found.fold_temperatures["a"] < 1 < found.fold_temperatures["b"]
    assert found.fold_temperatures["b"] == pytest.approx(np.log(9) / np.log(3), abs=1e-3)  # 0.9 becomes 3/4
    assert found.error_before == pytest.approx(0.025, abs=1e-6)  # of all, 7/8 are foreground
    alone = calibrate(probabilities[:400], truth[:400], folds[:400], overlap=False)
    assert alone.fold_temperatures == {}
    assert alone.error_after == pytest.approx(0.0, abs=1e-3)
    assert found.error_after > found.error_before


def test_calibration_error_by_hand():
    probability = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1])
    truth = np.array([True, True, True, False, False, True])
    bins = make_bins(probability, truth)
    assert len(bins) == 15
    upper, lower = bins[13], bins[1]
    assert (upper.voxels, upper.confidence, upper.frequency) == (4, pytest.approx(0.9), 0.75)
    assert (lower.voxels, lower.confidence, lower.frequency) == (2, pytest.approx(0.1), 0.5)
    assert bins[5].confidence is None
    assert expected_error(bins) == pytest.approx((4 * 0.15 + 2 * 0.4) / 6)


def test_the_last_bin_holds_what_is_certain():
    bins = make_bins(np.array([1.0, 0.0]), np.array([True, False]))
    assert (bins[14].voxels, bins[0].voxels) == (1, 1)
    assert expected_error(bins) == 0


def test_ignored_voxels_are_never_drawn():
    shares = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    counted = np.zeros((2, 2, 2), bool)
    counted[0, 0] = True
    drawn, truth = draw_voxels(shares, shares > 0, counted, count=5, generator=np.random.default_rng(0))
    assert drawn.ravel().tolist() == [0.0, 1.0]
    assert truth.ravel().tolist() == [False, True]
    drawn, _ = draw_voxels(shares, shares > 0, None, count=3, generator=np.random.default_rng(0))
    assert len(set(drawn.ravel().tolist())) == 3


@pytest.mark.parametrize(
    ("temperature", "error", "reliable"),
    [(1.0, 0.0, True), (2.5, 0.1, True), (2.5, 0.11, False), (9.9999, 0.0, False), (0.1001, 0.0, False)],
)
def test_a_fit_at_its_bound_or_with_a_large_error_promises_nothing(temperature, error, reliable):
    assert is_reliable(temperature, error) is reliable


def test_a_temperature_at_its_bound_is_what_a_hopeless_model_gets():
    rng = np.random.default_rng(0)
    foreground = np.full(500, 0.999)  # certain, and right in one voxel of two
    truth = rng.random(500) < 0.5
    probabilities = np.stack([1 - foreground, foreground], axis=1)
    calibration = calibrate(probabilities, np.stack([~truth, truth], axis=1), np.array(["0"] * 500), overlap=False)
    assert not is_reliable(calibration.temperature, calibration.error_after)
