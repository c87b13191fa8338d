"""Values that options of losses may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _check_sum(weights: tuple[float, ...]) -> tuple[float, ...]:
    if not any(weights):
        raise ValueError("at least one of the weights must be above 0")
    return weights


NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Radius = Annotated[int, Field(ge=1, le=16)]
ClassWeights = Annotated[tuple[NotNegative, ...], AfterValidator(_check_sum)] | None
