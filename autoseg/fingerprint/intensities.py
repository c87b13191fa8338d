"""Intensities of a region: of one case, and of all cases together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.records import IntensityFacts

# Levels of a region's distribution in IntensityFacts: minimum, 0.5 %, quantiles, median, quantiles, 99.5 %, maximum.
_LEVELS = np.array([0, 0.5, 2, 5, 10, 25, 50, 75, 90, 95, 98, 99.5, 100]) / 100
_NAMED_LEVELS = (0, 1, 6, 11, 12)
_QUANTILES = [i for i in range(len(_LEVELS)) if i not in _NAMED_LEVELS]


def measure_intensities(values: np.ndarray) -> IntensityFacts:
    """Mean, spread and quantiles of a region; all 0 when it is empty.

    Args:
        values: (N,) float32, scanner units.
    """
    if values.size == 0:
        return _intensities(0, 0.0, 0.0, np.zeros(len(_LEVELS)))
    levels = np.quantile(values, _LEVELS)
    mean = float(values.mean(dtype=np.float64))
    return _intensities(values.size, mean, float(values.std(dtype=np.float64)), levels)


def _intensities(count: int, mean: float, std: float, levels: np.ndarray) -> IntensityFacts:
    minimum, low, median, high, maximum = (float(levels[i]) for i in _NAMED_LEVELS)
    return IntensityFacts(
        count=count,
        mean=mean,
        std=std,
        minimum=minimum,
        maximum=maximum,
        percentile_00_5=low,
        median=median,
        percentile_99_5=high,
        # Five digits keep the quantiles on one line of the file.
        quantiles=tuple(float(f"{levels[i]:.5g}") for i in _QUANTILES),
    )


def pool_intensities(cases: Sequence[IntensityFacts]) -> IntensityFacts:
    """Intensities of a dataset, each case weighted alike however large its foreground.

    The variance is the mean variance within cases plus the variance of their means. The quantiles are those of the
    mean of the cases' distribution functions, each taken as straight lines between its measured quantiles.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, pools equally many foreground voxels of each case.
    """
    means = np.array([case.mean for case in cases])
    variance = np.mean(np.array([case.std for case in cases]) ** 2) + means.var()
    sketches = [_sketch(case) for case in cases]
    at = np.unique(np.concatenate(sketches))
    share = np.zeros(at.size)
    for sketch in sketches:  # one after the other: all at once would take memory by the square of the cases
        share += _distribution(sketch, at)
    levels = np.interp(_LEVELS, share / len(sketches), at)
    levels[0], levels[-1] = at[0], at[-1]
    count = sum(case.count for case in cases)
    return _intensities(count, float(means.mean()), float(np.sqrt(variance)), levels)


def _sketch(case: IntensityFacts) -> np.ndarray:
    sketch = np.zeros(len(_LEVELS))
    named = (case.minimum, case.percentile_00_5, case.median, case.percentile_99_5, case.maximum)
    sketch[list(_NAMED_LEVELS)] = named
    sketch[_QUANTILES] = case.quantiles
    return np.maximum.accumulate(sketch)  # the rounding may have swapped neighbours


def _distribution(sketch: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The share of voxels at or below each value; where values tie, the largest share."""
    values, first = np.unique(sketch[::-1], return_index=True)
    return np.interp(at, values, _LEVELS[::-1][first], left=0.0)
