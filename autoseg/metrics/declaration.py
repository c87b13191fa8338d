"""Declaration of a metric, and the one place where a pair of empty masks is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from autoseg.metrics.comparison import Comparison

EmptyScore = Literal["undefined", "one"]
Worst = float | Literal["diagonal", "empty"]
Compute = Callable[[Comparison], float | None]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of one prediction against one reference.

    Attributes:
        name: as in the METRICS table.
        unit: of the value; empty for a ratio.
        higher_is_better: its direction.
        both_empty: its value when both masks are empty; "undefined", or "selectable" where the challenges disagree and
            the caller chooses with ``empty_score``.
        worst: what a missing prediction scores; "diagonal" for a distance that is undefined where one mask is empty,
            which is then the grid's diagonal; "empty" if it has no worst value: the score of an empty mask.
        needs_probability: it ranks voxels by probability, so a mask is not enough.
        convention: one line on which definition it follows.
        compute: comparison -> value, or None where undefined; never sees two empty masks.
    """

    name: str
    unit: str
    higher_is_better: bool
    both_empty: float | Literal["selectable", "undefined"]
    worst: Worst = "empty"
    needs_probability: bool = False
    convention: str
    compute: Compute

    def __call__(
        self, comparison: Comparison, *, empty_score: EmptyScore = "undefined", penalty_mm: float | None = None
    ) -> float | None:
        """The score, or None where it is undefined.

        Args:
            empty_score: overlap scores of two empty masks.
            penalty_mm: distances where one mask is empty; None leaves them undefined.
        """
        if comparison.both_empty:
            return self.empty_value(empty_score)
        if self.worst == "diagonal" and comparison.exactly_one_empty:
            return penalty_mm
        return self.compute(comparison)

    def score_missing(self, comparison: Comparison, *, penalty_mm: float | None = None) -> float | None:
        """Score of a case without a prediction.

        Args:
            comparison: of an empty prediction with the reference.
            penalty_mm: as above; None takes the grid's diagonal.
        """
        if self.worst == "diagonal":
            return comparison.diagonal_mm if penalty_mm is None else penalty_mm
        if self.worst == "empty":
            return None if comparison.both_empty else self.compute(comparison)
        return self.worst

    def empty_value(self, empty_score: EmptyScore) -> float | None:
        """The score of two empty masks."""
        if self.both_empty == "selectable":
            return 1.0 if empty_score == "one" else None
        return None if self.both_empty == "undefined" else self.both_empty

    def describe(self, empty_score: EmptyScore, penalty_mm: float | None = None) -> str:
        """Unit, direction, empty-mask rule and definition in words."""
        value = self.empty_value(empty_score)
        empty = "undefined" if value is None else f"{value:g}"
        direction = "higher" if self.higher_is_better else "lower"
        text = f"{self.unit or 'ratio'}, {direction} is better, both masks empty: {empty}; {self.convention}"
        if self.worst != "diagonal":
            return text
        return f"{text}; {'undefined' if penalty_mm is None else f'{penalty_mm:g} mm'} where one mask is empty"

    def describe_worst(self, penalty_mm: float | None = None) -> str:
        """Score of a missing prediction, in words."""
        if self.worst == "empty":
            return "as an empty mask, undefined where the reference is empty, too"
        if self.worst == "diagonal":
            return "the diagonal of the case's grid" if penalty_mm is None else f"{penalty_mm:g} mm"
        return f"{self.worst:g} {self.unit}".strip()


def metric(
    *,
    unit: str,
    higher_is_better: bool,
    both_empty: float | Literal["selectable", "undefined"],
    convention: str,
    worst: Worst = "empty",
    needs_probability: bool = False,
) -> Callable[[Compute], Metric]:
    """Turn a function of a comparison into the metric of that name."""

    def declare(compute: Compute) -> Metric:
        return Metric(
            name=compute.__name__,
            unit=unit,
            higher_is_better=higher_is_better,
            both_empty=both_empty,
            worst=worst,
            needs_probability=needs_probability,
            convention=convention,
            compute=compute,
        )

    return declare
