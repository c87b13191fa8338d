"""Content of a report: records, rows of history and slices; missing parts are None or empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoseg.core.records import (
    CaseScores,
    Experiment,
    Fingerprint,
    Folds,
    ModelPostProcessing,
    Plan,
    Scores,
    TrainedFold,
)
from autoseg.reporting.slices import Slices

Row = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One trained fold.

    Attributes:
        configuration: its name.
        facts: its record.
        history: one row per epoch.
        scores: of its held-out cases; None without any.
    """

    configuration: str
    facts: TrainedFold
    history: tuple[Row, ...]
    scores: Scores | None


@dataclass(frozen=True, kw_only=True)
class ShownScores:
    """The scores that the report shows case by case.

    Attributes:
        name: of the configuration or candidate.
        scores: of all its held-out cases.
        folds: case -> the fold that held it out.
        target: the metric that ranks cases.
    """

    name: str
    scores: Scores
    folds: Mapping[str, str]
    target: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One case, shown slice by slice.

    Attributes:
        role: worst, median or best.
        scores: of the case.
        stack: its slices, with reference and prediction.
        channels: names, as ``stack.image``.
    """

    role: str
    scores: CaseScores
    stack: Slices
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything that the page shows.

    Attributes:
        made_at: date and time, as shown.
        version: of autoseg.
        plan: of the models.
        fingerprint, folds: as far as their files exist.
        trainings: by configuration and fold.
        summaries: configuration or candidate -> scores of all its held-out cases.
        shown: scores to show case by case; None if no fold has any.
        experiment: result of ``autoseg_run``.
        postprocessing: configuration -> what its held-out cases chose.
        pictures: of some cases of ``shown``.
        notes: section -> sentences on what is missing, and why.
    """

    made_at: str
    version: str
    plan: Plan
    fingerprint: Fingerprint | None = None
    folds: Folds | None = None
    trainings: tuple[Training, ...]
    summaries: Mapping[str, Scores]
    shown: ShownScores | None = None
    experiment: Experiment | None = None
    postprocessing: Mapping[str, ModelPostProcessing] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    notes: Mapping[str, tuple[str, ...]]
