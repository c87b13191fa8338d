"""What every metric declares, and the one place where a pair of empty masks is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from autoseg.metrics.comparison import Comparison

EmptyScore = Literal["undefined", "one"]
Compute = Callable[[Comparison], float | None]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named way to score one prediction against one reference.

    Attributes:
        name: as in the METRICS table.
        unit: of the value; empty for a ratio.
        higher_is_better: its direction.
        both_empty: its value when both masks are empty; "selectable" where the challenges disagree and the caller
            chooses with ``empty_score``.
        convention: one line on which definition it follows.
        compute: comparison -> value, or None where undefined; never sees two empty masks.
    """

    name: str
    unit: str
    higher_is_better: bool
    both_empty: float | Literal["selectable"]
    convention: str
    compute: Compute

    def __call__(self, comparison: Comparison, *, empty_score: EmptyScore = "undefined") -> float | None:
        """The score, or None where it is undefined."""
        return self.empty_value(empty_score) if comparison.both_empty else self.compute(comparison)

    def empty_value(self, empty_score: EmptyScore) -> float | None:
        """The score of two empty masks."""
        if self.both_empty == "selectable":
            return 1.0 if empty_score == "one" else None
        return self.both_empty

    def describe(self, empty_score: EmptyScore) -> str:
        """Unit, direction, empty-mask rule and definition in words."""
        value = self.empty_value(empty_score)
        empty = "undefined" if value is None else f"{value:g}"
        direction = "higher" if self.higher_is_better else "lower"
        return f"{self.unit or 'ratio'}, {direction} is better, both masks empty: {empty}; {self.convention}"


def metric(
    *, unit: str, higher_is_better: bool, both_empty: float | Literal["selectable"], convention: str
) -> Callable[[Compute], Metric]:
    """Turn a function of a comparison into the metric of that name."""

    def declare(compute: Compute) -> Metric:
        return Metric(
            name=compute.__name__,
            unit=unit,
            higher_is_better=higher_is_better,
            both_empty=both_empty,
            convention=convention,
            compute=compute,
        )

    return declare
