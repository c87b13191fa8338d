"""Scores with more training cases: a power law through a learning curve, with an interval over patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.records import Forecast
from autoseg.core.text import six_digits
from autoseg.evaluation.statistics import LEVEL, draw_patients, sum_by_patient

LEAST_SIZES = 4  # the law has three numbers, and needs one more size to show whether it holds
FACTORS = (2, 4)  # times as many cases as the largest size
WIDEST = 0.1  # interval of a score, of which one could still plan by
EXPONENTS = np.arange(0.1, 2.01, 0.05)  # a score that follows no limit falls below, one that has reached it above


def forecast(configuration: str, sizes: Sequence[float], values: np.ndarray, patients: Sequence[str]) -> Forecast:
    """Mean score with 2 and 4 times as many training cases, where the curve can tell.

    The mean score of n cases is ``limit - scale * n ** -exponent``, with a limit of at most 1. It is
    fitted by least squares to all sizes, and again to the means over patients drawn with replacement; percentiles of
    these are the interval.

    Source: Figueroa et al. 2012, doi:10.1186/1472-6947-12-8, for the law; by patient as in ``bootstrap_interval``.

    Args:
        configuration: its name.
        sizes: (S,) training cases, increasing.
        values: (S,n) float, scores of the same n held-out cases at each size.
        patients: of each of the n cases.
    """
    cases = tuple(round(factor * sizes[-1]) for factor in FACTORS)
    if not values.size:
        return Forecast(configuration=configuration, reason="no case has a score at every size")
    if len(sizes) < LEAST_SIZES:
        return Forecast(
            configuration=configuration,
            reason=f"{len(sizes)} sizes are too few for a forecast; train {LEAST_SIZES} or more, all cases included",
        )
    means = values.mean(axis=1)
    sums = np.stack([sum_by_patient(row, patients)[0] for row in values])
    counts = sum_by_patient(values[0], patients)[1]
    if len(counts) < 2:
        return Forecast(configuration=configuration, reason="scores of one patient do not show how patients vary")
    draws = draw_patients(len(counts))
    resampled = (draws @ sums.T) / (draws @ counts)[:, None]  # (R,S)
    predicted = _extrapolate(np.asarray(sizes, float), np.vstack([means, resampled]), np.asarray(cases, float))
    tail = 100 * (1 - LEVEL) / 2
    lower, upper = np.percentile(predicted[1:], (tail, 100 - tail), axis=0)
    if upper[0] - lower[0] > WIDEST:
        return Forecast(
            configuration=configuration,
            reason=f"with {cases[0]} cases the score would lie between {lower[0]:.2f} and {upper[0]:.2f}, which is too "
            f"wide to plan by; score more cases (more folds) or train more sizes",
        )
    return Forecast(
        configuration=configuration,
        cases=cases,
        means=tuple(six_digits(value) for value in predicted[0]),
        lower=tuple(six_digits(value) for value in lower),
        upper=tuple(six_digits(value) for value in upper),
        reason=None if np.median(resampled[:, -1] - resampled[:, 0]) > 0 else "the score does not rise with the cases",
    )


def _extrapolate(sizes: np.ndarray, curves: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Scores of the fitted laws.

    Args:
        sizes: (S,).
        curves: (R,S) mean scores.
        cases: (T,) numbers of cases to extrapolate to.

    Returns:
        (R,T).
    """
    least = np.full(len(curves), np.inf)
    predicted = np.zeros((len(curves), len(cases)))
    for exponent in EXPONENTS:
        powers, beyond = sizes**-exponent, cases**-exponent
        centred = powers - powers.mean()
        scale = np.maximum(-(curves @ centred) / (centred @ centred), 0)
        limit = curves.mean(axis=1) + scale * powers.mean()
        over = limit > 1
        scale = np.where(over, np.maximum((1 - curves) @ powers / (powers @ powers), 0), scale)
        limit = np.where(over, 1.0, limit)
        errors = np.square(limit[:, None] - np.outer(scale, powers) - curves).sum(axis=1)
        better = errors < least
        least[better] = errors[better]
        predicted[better] = (limit[:, None] - np.outer(scale, beyond))[better]
    return predicted
