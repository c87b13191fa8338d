"""Summary of scores per case: statistics by label, metric and volume; undefined scores are counted, never averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.records import CaseScores, Scores, Statistics
from autoseg.core.text import join_names
from autoseg.evaluation.statistics import describe_values, list_patients
from autoseg.metrics import METRICS, EmptyScore

MEAN = "mean"

# Scores in which one shared voxel detects a lesion, however far the masks differ; and a value that does not belong
# together with such a Dice.
DETECTING = ("lesion_f1", "lesion_f1_faces", "lesion_f1_wmh")
DETECTED, BARELY = 0.8, 0.3  # a lesion score and a Dice that do not belong together

# Classes of the reference's volume: a mean over small and large lesions hides how the small ones fare.
EMPTY = "empty"
# Upper bound in ml of each class but the last; a volume of exactly that much is in the next class.
BOUNDS_ML = {"below 0.1 ml": 0.1, "0.1 to 1 ml": 1.0, "1 to 10 ml": 10.0}
LARGEST = "10 ml and more"
STRATA = (EMPTY, *BOUNDS_ML, LARGEST)


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
    patients = list_patients(cases)
    summary = {
        label: {name: describe_values([_score(case, label, name) for case in cases], patients) for name in metrics}
        for label in labels
    }
    if len(labels) > 1:
        summary[MEAN] = {
            name: describe_values([mean_over_labels(case, labels, name) for case in cases], patients)
            for name in metrics
        }
    missing = tuple(case.case for case in cases if case.missing)
    return Scores(
        conventions={name: METRICS[name].describe(empty_score, penalty_mm) for name in metrics},
        empty_references={label: sum(case.reference_volume_ml.get(label) == 0 for case in cases) for label in labels},
        cases=tuple(cases),
        summary=summary,
        strata=stratify(cases, metrics),
        remarks=remark_detection(cases, labels, metrics),
        missing=missing,
        worst={name: METRICS[name].describe_worst(penalty_mm) for name in metrics} if missing else {},
    )


def remark_detection(cases: Sequence[CaseScores], labels: Sequence[str], metrics: Sequence[str]) -> tuple[str, ...]:
    """One sentence for each label whose lesions are detected in cases that barely overlap.

    Args:
        cases: scores per case.
        labels: names.
        metrics: names from the METRICS table.
    """
    detecting = [name for name in metrics if name in DETECTING]
    remarks = []
    for label in labels if "dice" in metrics else ():
        marked: dict[str, str] = {}
        for case in cases:
            dice = _score(case, label, "dice")
            found = [name for name in detecting if (_score(case, label, name) or 0) >= DETECTED]
            if dice is not None and dice < BARELY and found:
                marked[case.case] = f"{found[0]} {_score(case, label, found[0]):.2f} beside dice {dice:.2f}"
        if marked:
            remarks.append(
                f"{label}: {len(marked)} of {len(cases)} cases have a high lesion score beside a dice below {BARELY:g} "
                f"({join_names((f'{case}: {words}' for case, words in marked.items()), limit=3)}), because one shared "
                f"voxel detects a lesion; read both together"
            )
    return tuple(remarks)


def name_stratum(volume_ml: float) -> str:
    """The class of a reference of that volume."""
    if volume_ml == 0:
        return EMPTY
    # A volume is a product of spacings: 100 voxels of 1 mm3 must not fall short of 0.1 ml by the last digit.
    return next((name for name, bound in BOUNDS_ML.items() if round(volume_ml, 9) < bound), LARGEST)


def stratify(cases: Sequence[CaseScores], metrics: Sequence[str]) -> dict[str, dict[str, dict[str, Statistics]]]:
    """Statistics of each label and metric in each class of the label's volume that holds a case.

    Args:
        cases: scores per case.
        metrics: names from the METRICS table.
    """
    strata: dict[str, dict[str, dict[str, Statistics]]] = {}
    for label in dict.fromkeys(label for case in cases for label in case.scores):
        by_class: dict[str, list[CaseScores]] = {name: [] for name in STRATA}
        for case in cases:
            if label in case.scores:
                by_class[name_stratum(case.reference_volume_ml[label])].append(case)
        strata[label] = {
            name: {
                metric: describe_values([case.scores[label].get(metric) for case in members], list_patients(members))
                for metric in metrics
            }
            for name, members in by_class.items()
            if members
        }
    return strata


def mean_over_labels(case: CaseScores, labels: Sequence[str], metric: str) -> float | None:
    """The mean over those labels for which the case defines the metric, or None."""
    values = [value for label in labels if (value := _score(case, label, metric)) is not None]
    return float(np.mean(values)) if values else None


def _score(case: CaseScores, label: str, metric: str) -> float | None:
    return case.scores.get(label, {}).get(metric)
