"""A loss as a weighted sum of terms, with the options that a plan may give it.

A term is a function ``term(context, *, option=default, ...)`` of a ``LossContext``. Its keyword arguments are its
options; their annotations state the values that a plan may set.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from autoseg.core.errors import PlanError
from autoseg.core.registry import unknown_name
from autoseg.losses.context import LossContext


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


@dataclass(frozen=True)
class Term:
    """A term and the option that weighs it, if any.

    Attributes:
        compute: of a context and the term's options, a scalar that is 0 at best.
        weight: name of the option, 1 by default; a term that weighs 0 is not computed.
    """

    compute: Callable[..., Tensor]
    weight: str | None = None


@dataclass(frozen=True)
class Loss:
    """A weighted sum of terms, alone or together with a weighted sum of terms that are means over lesions.

    Attributes:
        terms: over the whole patch.
        by_lesion: means over the lesions, left out where there are none; the whole then weighs ``global_weight``.
        by_lesion_weight: name of the option that weighs them.
        prepare: gives the context what the terms need, as voxel weights or lesions; its keyword arguments are options.
        takes: what the network's outputs may be.
        without: options of the terms that this loss does not have.
        defaults: of options, instead of the terms' own.
    """

    terms: Sequence[Term]
    by_lesion: Sequence[Term] = ()
    by_lesion_weight: str = ""
    prepare: Callable[..., LossContext] | None = None
    takes: Literal["labels", "regions", "both"] = "both"
    without: Sequence[str] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def weight_groups(self) -> tuple[tuple[str, ...], ...]:
        """Names of the options that weigh the same things against each other."""
        by_sum = [tuple(term.weight for term in terms if term.weight) for terms in (self.terms, self.by_lesion)]
        between = ("global_weight", self.by_lesion_weight) if self.by_lesion else ()
        return tuple(dict.fromkeys(group for group in (between, *by_sum) if group))

    @cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """Every option with its annotation and default."""
        functions = [term.compute for term in (*self.terms, *self.by_lesion)]
        collected: dict[str, inspect.Parameter] = {}
        for function in functions if self.prepare is None else [self.prepare, *functions]:
            collected |= {name: option for name, option in _keywords(function).items() if name not in collected}
        for name in (name for group in self.weight_groups for name in group):
            collected[name] = inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=1.0, annotation=NotNegative
            )
        for name, default in self.defaults.items():
            collected[name] = collected[name].replace(default=default)
        return {name: option for name, option in collected.items() if name not in self.without}

    def check(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every option, each of the type and range of its annotation.

        Args:
            name: of the loss, for messages.
            options: as in the plan's JSON.

        Raises:
            PlanError: the loss has no such option, the option cannot have that value, or nothing is left to minimise.
        """
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            message = unknown_name("option", unknown[0], self.options, of=f"loss '{name}'")
            raise PlanError(f"{message}; edit loss.options")
        values = {option: parameter.default for option, parameter in self.options.items()}
        for option, value in options.items():
            try:
                values[option] = _check_value(self.options[option].annotation, value)
            except ValidationError as error:
                first = error.errors()[0]
                message = first["msg"].removeprefix("Value error, ")
                raise PlanError(
                    f"option '{option}' of loss '{name}': {message[:1].lower()}{message[1:]}, not {first['input']!r}; "
                    f"edit loss.options (all options: {', '.join(self.options)})"
                ) from error
        for group in (*self.weight_groups, ("inside_weight", "outside_weight"), ("alpha", "beta")):
            if len(group) > 1 and set(group) <= set(values) and not any(values[option] for option in group):
                raise PlanError(
                    f"loss '{name}' has nothing to minimise: {' and '.join(group)} are all 0; edit loss.options"
                )
        return values

    def __call__(self, context: LossContext, values: Mapping[str, Any]) -> Tensor:
        """Scalar, as a float32 or float64 tensor.

        Args:
            context: one output of the network and its target.
            values: of every option, as ``check`` returns them.
        """
        if self.prepare is not None:
            context = _apply(self.prepare, context, values)
        total = _sum_terms(self.terms, context, values)
        if not self.by_lesion:
            return total
        total = values["global_weight"] * total
        if context.lesions is None:
            return total
        return total + values[self.by_lesion_weight] * _sum_terms(self.by_lesion, context, values)


def _sum_terms(terms: Sequence[Term], context: LossContext, values: Mapping[str, Any]) -> Tensor:
    weights = [values[term.weight] if term.weight else 1.0 for term in terms]
    weighted = [w * _apply(term.compute, context, values) for w, term in zip(weights, terms, strict=True) if w > 0]
    return torch.stack(weighted).sum()


def _apply(function: Callable[..., Any], context: LossContext, values: Mapping[str, Any]) -> Any:
    return function(context, **{name: values[name] for name in _keywords(function) if name in values})


@cache
def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function, eval_str=True).parameters
    return {
        name: parameter for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _check_value(annotation: Any, value: Any) -> Any:
    """Strict, as JSON is: true and "1" are not numbers, but a list may become a tuple."""
    any_value = annotation is inspect.Parameter.empty
    adapter = TypeAdapter(Any if any_value else annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
    return adapter.validate_json(json.dumps(value))
