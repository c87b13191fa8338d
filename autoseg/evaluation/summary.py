"""From scores per case to statistics over cases; undefined scores are counted, never averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.records import CaseScores, Scores
from autoseg.evaluation.statistics import describe_values
from autoseg.evaluation.strata import stratify
from autoseg.metrics import METRICS, EmptyScore

MEAN = "mean"


def summarize(
    cases: Sequence[CaseScores],
    metrics: Sequence[str],
    *,
    empty_score: EmptyScore = "undefined",
    penalty_mm: float | None = None,
) -> Scores:
    """Statistics of every label and metric, by the volume of the reference too, and of the mean over several labels.

    Args:
        cases: scores per case, made with the same metrics, ``empty_score`` and ``penalty_mm``.
        metrics: names from the METRICS table.
        empty_score: what the overlap scores gave where both masks were empty; stated in the conventions.
        penalty_mm: what distances gave where one mask was empty; stated, too.

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
    missing = tuple(case.case for case in cases if case.missing)
    return Scores(
        conventions={name: METRICS[name].describe(empty_score, penalty_mm) for name in metrics},
        empty_references={label: sum(case.reference_volume_ml.get(label) == 0 for case in cases) for label in labels},
        cases=tuple(cases),
        summary=summary,
        strata=stratify(cases, metrics),
        missing=missing,
        worst={name: METRICS[name].describe_worst(penalty_mm) for name in metrics} if missing else {},
    )


def mean_over_labels(case: CaseScores, labels: Sequence[str], metric: str) -> float | None:
    """The mean over those labels for which the case defines the metric, or None."""
    found = [value for label in labels if (value := _score(case, label, metric)) is not None]
    return float(np.mean(found)) if found else None


def _score(case: CaseScores, label: str, metric: str) -> float | None:
    return case.scores.get(label, {}).get(metric)
