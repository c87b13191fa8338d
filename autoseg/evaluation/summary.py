"""From scores per case to statistics over cases; undefined scores are counted, never averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.records import CaseScores, Scores, Statistics
from autoseg.metrics import METRICS, EmptyScore

MEAN = "mean"


def summarize(cases: Sequence[CaseScores], metrics: Sequence[str], *, empty_score: EmptyScore = "undefined") -> Scores:
    """Statistics of every label and metric, and of the mean over labels where there are several.

    Args:
        cases: scores per case, made with the same metrics and ``empty_score``.
        metrics: names from the METRICS table.
        empty_score: what the overlap scores gave where both masks were empty; stated in the conventions.

    Raises:
        DataError: there is no case, or a label is called ``mean``.
    """
    if not cases:
        raise DataError("there is no case to summarise; score at least one")
    labels = list(dict.fromkeys(label for case in cases for label in case.scores))
    if MEAN in labels and len(labels) > 1:
        raise DataError(f"a label is called '{MEAN}', which names the mean over labels; rename it in the dataset")
    summary = {
        label: {name: describe_values([_score(case, label, name) for case in cases]) for name in metrics}
        for label in labels
    }
    if len(labels) > 1:
        summary[MEAN] = {
            name: describe_values([mean_over_labels(case, labels, name) for case in cases]) for name in metrics
        }
    return Scores(
        conventions={name: METRICS[name].describe(empty_score) for name in metrics},
        empty_references={label: sum(case.reference_volume_ml.get(label) == 0 for case in cases) for label in labels},
        cases=tuple(cases),
        summary=summary,
    )


def mean_over_labels(case: CaseScores, labels: Sequence[str], metric: str) -> float | None:
    """The mean over those labels for which the case defines the metric, or None."""
    found = [value for label in labels if (value := _score(case, label, metric)) is not None]
    return float(np.mean(found)) if found else None


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
    )


def _score(case: CaseScores, label: str, metric: str) -> float | None:
    return case.scores.get(label, {}).get(metric)
