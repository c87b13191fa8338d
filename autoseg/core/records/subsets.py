"""Smaller training sets of each fold, for learning curves."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from autoseg.core.records.base import Record


class Subsets(Record):
    """``subsets.json``: training cases of every fold in smaller sets, each within the next larger one.

    Attributes:
        schema_version: format version (``schema`` on disk).
        seed: of the shuffling of cases.
        sizes: numbers of cases, smallest first.
        folds: name of the fold, or ``all`` -> its training cases in the order in which they are added; the first n
            are the subset of n.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    seed: int
    sizes: tuple[PositiveInt, ...]
    folds: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError("sizes must increase")
        for name, cases in self.folds.items():
            if len(set(cases)) < len(cases):
                raise ValueError(f"fold {name} names a case twice")
            if self.sizes and len(cases) < self.sizes[-1]:
                raise ValueError(f"fold {name} lists {len(cases)} cases, fewer than the largest size {self.sizes[-1]}")
        return self


class CurvePoint(Record):
    """One point of a learning curve.

    Attributes:
        configuration: its name.
        size: training cases, or None for all that a fold has.
        cases: held-out cases whose score is defined.
        mean: of the target metric over them; None where there are none.
        lower, upper: bounds of its 95 % bootstrap interval, by patient; None with fewer than two patients.
    """

    configuration: str
    size: PositiveInt | None
    cases: NonNegativeInt
    mean: float | None
    lower: float | None = None
    upper: float | None = None


class Forecast(Record):
    """Scores of more training cases than there are, by a power law through a learning curve.

    Attributes:
        configuration: its name.
        cases: numbers of training cases; none where the curve cannot tell.
        means: of the target metric with as many cases.
        lower, upper: bounds of its 95 % interval, by patient.
        reason: why there is no forecast, or what is odd about it.
    """

    configuration: str
    cases: tuple[PositiveInt, ...] = ()
    means: tuple[float, ...] = ()
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    reason: str | None = None


class LearningCurve(Record):
    """``learning_curve.json`` of a dataset's results: the score against the number of training cases.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset: its name.
        target_metric: averaged over labels.
        folds: names of those that were trained.
        points: by configuration, smallest subset first.
        forecasts: one per configuration; none in files of version 0.1.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    target_metric: str
    folds: tuple[str, ...]
    points: tuple[CurvePoint, ...]
    forecasts: tuple[Forecast, ...] = ()
