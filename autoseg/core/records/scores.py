"""Metric values. None means undefined; never silently 0 or NaN."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record


class CaseScores(Record):
    """Scores of one case.

    Attributes:
        case: its id.
        scores: label name -> metric name -> value or None where undefined.
        reference_volume_ml: label name -> volume of the reference in ml.
        prediction_volume_ml: label name -> volume of the prediction in ml.
    """

    case: str
    scores: dict[str, dict[str, float | None]]
    reference_volume_ml: dict[str, float]
    prediction_volume_ml: dict[str, float]


class Statistics(Record):
    """One metric of one label over all cases; every field but ``count`` is None where no case defines it.

    Attributes:
        count: cases in which the metric is defined.
        undefined: cases in which it is not.
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


class Scores(Record):
    """Scores of a set of cases, with the conventions they follow.

    Attributes:
        schema_version: format version (``schema`` on disk).
        conventions: metric name -> unit, direction and empty-mask rule in words.
        empty_references: label name -> number of cases whose reference does not hold it.
        cases: per case.
        summary: label name -> metric name -> statistics; label ``mean`` is the mean over labels, case by case.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    conventions: dict[str, str]
    empty_references: dict[str, int]
    cases: tuple[CaseScores, ...]
    summary: dict[str, dict[str, Statistics]]
