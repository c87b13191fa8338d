"""Metric values. None means undefined; never silently 0 or NaN."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record
from autoseg.core.records.html import render_html_table


class CaseScores(Record):
    """Scores of one case.

    Attributes:
        case: its id.
        scores: label name -> metric name -> value or None where undefined.
        reference_volume_ml: label name -> volume of the reference in ml.
        prediction_volume_ml: label name -> volume of the prediction in ml.
        missing: without a prediction; every score is its metric's worst.
        reference: hash of the reference's voxels; None in scores of version 0.1.
        group: the patient, if known; else the case is its own patient.
    """

    case: str
    scores: dict[str, dict[str, float | None]]
    reference_volume_ml: dict[str, float]
    prediction_volume_ml: dict[str, float]
    missing: bool = False
    reference: str | None = None
    group: str | None = None


class Statistics(Record):
    """One metric of one label over some cases; every field but the counts is None where no case defines it.

    Attributes:
        count: cases in which the metric is defined.
        undefined: cases in which it is not.
        interval: 95 % bootstrap interval of the mean over cases, by patient; None with fewer than two patients.
    """

    count: int
    undefined: int
    mean: float | None
    std: float | None
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None
    minimum: float | None
    maximum: float | None
    interval: tuple[float, float] | None = None


class Scores(Record):
    """Scores of a set of cases, with the conventions they follow.

    Attributes:
        schema_version: format version (``schema`` on disk).
        conventions: metric name -> unit, direction and empty-mask rule in words.
        empty_references: label name -> number of cases whose reference does not hold it.
        cases: per case.
        summary: label name -> metric name -> statistics; label ``mean`` is the mean over labels, case by case.
        preset: name of the challenge whose metrics and conventions these are; None for the default ones.
        rules: changes to the masks before scoring, one sentence each.
        remarks: scores that do not mean what they seem to, one sentence each.
        strata: label name -> class of the reference's volume -> metric name -> statistics of the cases in that class.
        missing: cases without a prediction, which got the worst scores.
        worst: metric name -> score of a missing prediction in words; empty where none is missing.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    conventions: dict[str, str]
    empty_references: dict[str, int]
    cases: tuple[CaseScores, ...]
    summary: dict[str, dict[str, Statistics]]
    preset: str | None = None
    rules: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    strata: dict[str, dict[str, dict[str, Statistics]]] = Field(default_factory=dict)
    missing: tuple[str, ...] = ()
    worst: dict[str, str] = Field(default_factory=dict)

    def _repr_html_(self) -> str:
        """The summary as a table, for notebooks."""
        rows = [
            (
                label,
                metric,
                *(None if value is None else f"{value:.4g}" for value in (statistics.mean, statistics.median)),
                None if statistics.interval is None else "{:.4g} to {:.4g}".format(*statistics.interval),
                statistics.count,
            )
            for label, metrics in self.summary.items()
            for metric, statistics in metrics.items()
        ]
        header = ("label", "metric", "mean", "median", "95 % interval", "cases")
        return render_html_table(header, rows, caption=f"Scores of {len(self.cases)} cases")


class ScoredCase(Record):
    """Stored scores of a case, so that a second run need not score it again.

    Attributes:
        schema_version: format version (``schema`` on disk).
        key: hash of the contents of mask and label and of every setting that shapes a score.
        scores: the case's.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    key: str
    scores: CaseScores


class PairedScores(Record):
    """One metric of one label in two folders, case by case.

    Attributes:
        first, second: names of the folders.
        label: label name, or ``mean``.
        metric: metric name.
        count: cases in which both define the metric.
        undefined: cases in which one of them does not.
        mean_first, mean_second: over those ``count`` cases.
        difference: mean of second - first.
        interval: 95 % bootstrap interval of it, by patient; None with fewer than two patients.
        p_value: two-sided Wilcoxon signed-rank test on the mean difference of each patient; 1 where none differs, None
            without a case.
        p_holm: the same after Holm's correction over every label, metric and pair of folders.
        wins, ties, losses: cases in which second is better than, as good as and worse than first.
    """

    first: str
    second: str
    label: str
    metric: str
    count: int
    undefined: int
    mean_first: float | None
    mean_second: float | None
    difference: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    p_holm: float | None
    wins: int
    ties: int
    losses: int


class Rank(Record):
    """Rank of one of several folders.

    Attributes:
        name: of the folder.
        place: 1 is the best; equal mean ranks share a place.
        mean_rank: over cases, labels and metrics; 1 is the best.
        interval: 95 % bootstrap interval, by patient; None with fewer than two patients.
        ranks: metric name -> mean rank over cases and labels.
    """

    name: str
    place: int
    mean_rank: float
    interval: tuple[float, float] | None
    ranks: dict[str, float]


class ScoresComparison(Record):
    """Several folders of scores, compared case by case.

    Attributes:
        schema_version: format version (``schema`` on disk).
        folders: name -> where its scores lie.
        conventions: as in ``Scores``.
        cases: that all folders hold.
        left_out: cases that not all of them hold.
        pairs: every two folders, label and metric.
        ranking: best first; empty for two folders.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    folders: dict[str, str]
    conventions: dict[str, str]
    cases: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    pairs: tuple[PairedScores, ...]
    ranking: tuple[Rank, ...] = ()
