"""How far probabilities can be believed, and the one number that makes them more believable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from autoseg.core.cropped_probabilities import NEGLIGIBLE
from autoseg.core.records import Calibration, CalibrationBin

BINS = 15
COLDEST, HOTTEST = 0.1, 10.0  # temperatures that are tried


def temper(probabilities: np.ndarray, temperature: float, *, overlap: bool) -> np.ndarray:
    """Probabilities as if the logits had been divided by a temperature; the most probable class stays.

    What is negligible is 0 afterwards, so that voxels outside the head stay certain.

    Source: Guo et al., arXiv:1706.04599.

    Args:
        probabilities: (K,...) float.
        temperature: above 1 makes them less certain.
        overlap: channels are regions, each on its own; else classes that sum to one.

    Returns:
        (K,...) float32.
    """
    shares = probabilities.astype(np.float32)
    shares[shares < NEGLIGIBLE] = 0
    if temperature == 1:
        return shares
    power = np.float32(1 / temperature)
    if overlap:
        shares[shares > 1 - NEGLIGIBLE] = 1
        raised, other = shares**power, (1 - shares) ** power
        return raised / (raised + other)
    raised = shares**power
    return raised / raised.sum(axis=0)


def draw_voxels(
    probabilities: np.ndarray,
    truth: np.ndarray,
    counted: np.ndarray | None,
    *,
    count: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Some voxels of a case, each as likely as any other.

    Args:
        probabilities: (K,z,y,x) float32.
        truth: (K,z,y,x) bool, which classes or regions each voxel belongs to.
        counted: (z,y,x) bool, voxels that have a reference; None for all.
        count: at most.
        generator: draws them.

    Returns:
        (n,K) float32 and (n,K) bool.
    """
    places = np.arange(probabilities[0].size) if counted is None else np.flatnonzero(counted)
    if len(places) > count:
        places = generator.choice(places, count, replace=False)
    return probabilities.reshape(len(probabilities), -1)[:, places].T, truth.reshape(len(truth), -1)[:, places].T


def calibrate(probabilities: np.ndarray, truth: np.ndarray, *, overlap: bool) -> Calibration:
    """The temperature with the smallest negative log-likelihood, and the calibration error without and with it.

    Args:
        probabilities: (n,K) float32 of voxels.
        truth: (n,K) bool.
        overlap: channels are regions; else classes that exclude each other, background first.
    """
    temperature = fit_temperature(probabilities, truth, overlap=overlap)
    before = make_bins(*_foreground(probabilities.T, truth.T, overlap=overlap))
    tempered = temper(probabilities.T, temperature, overlap=overlap)
    after = make_bins(*_foreground(tempered, truth.T, overlap=overlap))
    return Calibration(
        temperature=temperature,
        error_before=expected_error(before),
        error_after=expected_error(after),
        bins_before=before,
        bins_after=after,
    )


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray, *, overlap: bool) -> float:
    """The temperature with the smallest negative log-likelihood of what is true.

    Args:
        probabilities, truth, overlap: as for ``calibrate``.
    """
    shares = np.clip(probabilities.T.astype(np.float64), NEGLIGIBLE, 1 - NEGLIGIBLE)
    # Voxels that say the same need be computed once only; most are certain background.
    rows, counts = np.unique(np.concatenate([shares.round(5), truth.T]), axis=1, return_counts=True)
    logs, rests, true = np.log(rows[: len(shares)]), np.log1p(-rows[: len(shares)]), rows[len(shares) :] > 0

    def loss(log_temperature: float) -> float:
        power = np.exp(-log_temperature)
        if overlap:
            scaled = np.where(true, rests - logs, logs - rests) * power
            return float((np.logaddexp(0, scaled).sum(axis=0) * counts).sum())
        scaled = logs * power
        return float(((np.logaddexp.reduce(scaled, axis=0) - (scaled * true).sum(axis=0)) * counts).sum())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(round(np.exp(found.x), 4)) if found.fun < loss(0.0) else 1.0


def make_bins(probability: np.ndarray, is_foreground: np.ndarray) -> tuple[CalibrationBin, ...]:
    """The reliability curve over bins of equal width.

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
    total = sum(found.voxels for found in bins)
    apart = (
        found.voxels * abs(found.confidence - found.frequency)
        for found in bins
        if found.confidence is not None and found.frequency is not None
    )
    return sum(apart) / total if total else 0.0


def _foreground(probabilities: np.ndarray, truth: np.ndarray, *, overlap: bool) -> tuple[np.ndarray, np.ndarray]:
    """(K,n) of classes: everything but background, (n,); of regions: one after the other, (K*n,)."""
    if overlap:
        return probabilities.ravel(), truth.ravel()
    return np.clip(1 - probabilities[0], 0, 1), ~truth[0]
