"""Statistics over cases, and how far their mean can be trusted: the bootstrap, seeded, so that the same scores give the
same interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from autoseg.core.records import Statistics

SEED = 0
RESAMPLES = 5000
LEVEL = 0.95


def describe_values(values: Sequence[float | None]) -> Statistics:
    """Statistics of the defined values.

    The standard deviation is the sample's (n - 1), so one value has none; quartiles are interpolated linearly.
    """
    defined = np.array([value for value in values if value is not None], dtype=np.float64)
    count = len(defined)
    lower, median, upper = np.percentile(defined, (25, 50, 75)).tolist() if count else (None, None, None)
    return Statistics(
        count=count,
        undefined=len(values) - count,
        mean=float(defined.mean()) if count else None,
        std=float(defined.std(ddof=1)) if count > 1 else None,
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        minimum=float(defined.min()) if count else None,
        maximum=float(defined.max()) if count else None,
        interval=bootstrap_interval(defined),
    )


def bootstrap_interval(values: Sequence[float] | np.ndarray, *, seed: int = SEED) -> tuple[float, float] | None:
    """The 95 % percentile interval of the mean: cases drawn with replacement, the mean taken, 5000 times.

    Source: Efron, doi:10.1214/aos/1176344552.

    Args:
        values: (n,) float, one per case.
        seed: of the draws.

    Returns:
        Lower and upper bound; None with fewer than two cases, which cannot tell how they spread.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return None
    means = _draw_shares(len(values), seed) @ values
    tail = 100 * (1 - LEVEL) / 2
    lower, upper = np.percentile(means, (tail, 100 - tail))
    # A mean of equal values is that value, whatever the sum of their shares rounds to.
    lower, upper = (float(np.clip(bound, values.min(), values.max())) for bound in (lower, upper))
    return lower, upper


@lru_cache(maxsize=2)
def _draw_shares(count: int, seed: int) -> np.ndarray:
    """(RESAMPLES, count) float64, the share of each case in each resample; the same for all metrics of a run."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
