"""What a report is made from: records, rows of history and slices; whatever is missing is None or empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoseg.core.records import CaseScores, Experiment, Fingerprint, Folds, Plan, Scores, TrainedFold
from autoseg.reporting.slices import Slices

Row = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One trained fold.

    Attributes:
        configuration: its name.
        facts: what became of it.
        history: one row per epoch.
        scores: of the cases that it held out; None where there are none.
    """

    configuration: str
    facts: TrainedFold
    history: tuple[Row, ...]
    scores: Scores | None


@dataclass(frozen=True, kw_only=True)
class ShownScores:
    """The scores that the report goes through case by case.

    Attributes:
        name: configuration or candidate that they are of.
        scores: of all cases that some fold of it held out.
        folds: case -> the fold that held it out.
        target: the metric that cases are ordered by.
    """

    name: str
    scores: Scores
    folds: Mapping[str, str]
    target: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One case to leaf through.

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
        made_at: date and time, as written.
        version: of autoseg.
        plan: that the models were trained with.
        fingerprint, folds: as far as they are still there.
        trainings: by configuration and fold.
        summaries: configuration -> scores of all its held-out cases.
        shown: scores to go through; None where no fold has any.
        experiment: what ``autoseg_run`` found.
        pictures: of some cases of ``shown``.
        notes: section -> sentences on what could not be shown, and why.
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
    pictures: tuple[Picture, ...] = ()
    notes: Mapping[str, tuple[str, ...]]
