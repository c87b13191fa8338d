"""Calibration: the temperature that makes class probabilities honest, and how honest they are, out of fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from autoseg.core.probabilities import NEGLIGIBLE
from autoseg.core.records import Calibration, CalibrationBin

BINS = 15
LOWEST, HIGHEST = 0.1, 10.0  # temperatures that are tried
AT_BOUND = 0.01  # share of a bound within which a temperature is at it, so the best one lies beyond
MAX_ERROR = 0.1  # expected calibration error above which probabilities promise nothing


def temper(probabilities: np.ndarray, temperature: float, *, overlap: bool) -> np.ndarray:
    """Probabilities after dividing the logits by a temperature; the most probable class stays the same.

    Negligible probabilities become 0, so that voxels outside the head stay certain.

    Source: Guo et al., arXiv:1706.04599.

    Args:
        probabilities: (K,...) float.
        temperature: above 1 makes them less certain.
        overlap: channels are regions, each on its own; else classes that sum to one.

    Returns:
        (K,...) float32.
    """
    tempered = probabilities.astype(np.float32)
    tempered[tempered < NEGLIGIBLE] = 0
    if temperature == 1:
        return tempered
    power = np.float32(1 / temperature)
    if overlap:
        tempered[tempered > 1 - NEGLIGIBLE] = 1
        raised, complement = tempered**power, (1 - tempered) ** power
        return raised / (raised + complement)
    raised = tempered**power
    return raised / raised.sum(axis=0)


def draw_voxels(
    probabilities: np.ndarray,
    truth: np.ndarray,
    counted: np.ndarray | None,
    *,
    count: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A uniform random sample of a case's voxels.

    Args:
        probabilities: (K,z,y,x) float32.
        truth: (K,z,y,x) bool, which classes or regions each voxel belongs to.
        counted: (z,y,x) bool, voxels that have a reference; None for all.
        count: largest sample.
        generator: of the sample.

    Returns:
        (n,K) float32 and (n,K) bool.
    """
    voxels = np.arange(probabilities[0].size) if counted is None else np.flatnonzero(counted)
    if len(voxels) > count:
        voxels = generator.choice(voxels, count, replace=False)
    return probabilities.reshape(len(probabilities), -1)[:, voxels].T, truth.reshape(len(truth), -1)[:, voxels].T


def calibrate(probabilities: np.ndarray, truth: np.ndarray, folds: np.ndarray, *, overlap: bool) -> Calibration:
    """Fit the temperature to all voxels, and measure out of fold what such a temperature gains.

    The calibration error with temperature is that of each fold's voxels with the temperature fitted to the other
    folds. With one fold, it is that of the voxels to which the temperature was fitted.

    Args:
        probabilities: (n,K) float32 of voxels.
        truth: (n,K) bool.
        folds: (n,) str, the fold that held out each voxel's case.
        overlap: channels are regions; else classes that exclude each other, background first.
    """
    temperature = fit_temperature(probabilities, truth, overlap=overlap)
    names = [str(name) for name in np.unique(folds)]
    fold_temperatures = {}
    if len(names) < 2:
        tempered = temper(probabilities.T, temperature, overlap=overlap)
    else:
        tempered = np.empty(probabilities.T.shape, np.float32)
        for name in names:
            held_out = folds == name
            fitted = fit_temperature(probabilities[~held_out], truth[~held_out], overlap=overlap)
            tempered[:, held_out] = temper(probabilities[held_out].T, fitted, overlap=overlap)
            fold_temperatures[name] = fitted
    before = make_bins(*_foreground(probabilities.T, truth.T, overlap=overlap))
    after = make_bins(*_foreground(tempered, truth.T, overlap=overlap))
    return Calibration(
        temperature=temperature,
        fold_temperatures=fold_temperatures,
        error_before=expected_error(before),
        error_after=expected_error(after),
        bins_before=before,
        bins_after=after,
    )


def is_reliable(temperature: float, error: float = 0.0) -> bool:
    """Whether calibrated probabilities may be taken at their word, so that a Dice can be expected from them.

    Args:
        temperature: fitted; at a bound of what is tried, the fit has failed.
        error: expected calibration error with it.
    """
    is_inside = LOWEST * (1 + AT_BOUND) < temperature < HIGHEST * (1 - AT_BOUND)
    return is_inside and error <= MAX_ERROR


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray, *, overlap: bool) -> float:
    """The temperature with the smallest negative log-likelihood of the truth.

    Args:
        probabilities, truth, overlap: as for ``calibrate``.
    """
    clipped = np.clip(probabilities.T.astype(np.float64), NEGLIGIBLE, 1 - NEGLIGIBLE)
    # Equal voxels are computed once; most are certain background.
    rows, counts = np.unique(np.concatenate([clipped.round(5), truth.T]), axis=1, return_counts=True)
    logs, complements = np.log(rows[: len(clipped)]), np.log1p(-rows[: len(clipped)])
    true = rows[len(clipped) :] > 0

    def loss(log_temperature: float) -> float:
        power = np.exp(-log_temperature)
        if overlap:
            scaled = np.where(true, complements - logs, logs - complements) * power
            return float((np.logaddexp(0, scaled).sum(axis=0) * counts).sum())
        scaled = logs * power
        return float(((np.logaddexp.reduce(scaled, axis=0) - (scaled * true).sum(axis=0)) * counts).sum())

    best = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(round(np.exp(best.x), 4)) if best.fun < loss(0.0) else 1.0


def make_bins(probability: np.ndarray, is_foreground: np.ndarray) -> tuple[CalibrationBin, ...]:
    """The reliability curve in bins of equal width.

    Args:
        probability: (n,) float, of being foreground.
        is_foreground: (n,) bool, in the reference.
    """
    number = np.minimum((probability * BINS).astype(int), BINS - 1)
    voxels = np.bincount(number, minlength=BINS)
    confidence = np.bincount(number, weights=probability, minlength=BINS)
    frequency = np.bincount(number, weights=is_foreground, minlength=BINS)
    return tuple(
        CalibrationBin(
            lower=i / BINS,
            upper=(i + 1) / BINS,
            voxels=int(voxels[i]),
            confidence=float(confidence[i] / voxels[i]) if voxels[i] else None,
            frequency=float(frequency[i] / voxels[i]) if voxels[i] else None,
        )
        for i in range(BINS)
    )


def expected_error(bins: Sequence[CalibrationBin]) -> float:
    """Expected calibration error: mean distance between confidence and frequency, weighted by voxels.

    Source: Naeini et al., doi:10.1609/aaai.v29i1.9602.
    """
    total = sum(group.voxels for group in bins)
    errors = (
        group.voxels * abs(group.confidence - group.frequency)
        for group in bins
        if group.confidence is not None and group.frequency is not None
    )
    return sum(errors) / total if total else 0.0


def _foreground(probabilities: np.ndarray, truth: np.ndarray, *, overlap: bool) -> tuple[np.ndarray, np.ndarray]:
    """(K,n) of classes: everything but background, (n,); of regions: one after the other, (K*n,)."""
    if overlap:
        return probabilities.ravel(), truth.ravel()
    return np.clip(1 - probabilities[0], 0, 1), ~truth[0]
