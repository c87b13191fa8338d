"""Values that a loss's options may take, and the check that holds a plan to them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from autoseg.core.errors import PlanError

GIVEN = ("logits", "target", "regions", "ignore_label")  # what a loss takes that is no option

# The losses have these options in common; a group whose options are all 0 leaves nothing to minimise.
GROUPS = (
    ("dice_weight", "ce_weight", "bce_weight", "focal_weight"),
    ("global_weight", "blob_weight"),
    ("global_weight", "cell_weight"),
    ("inside_weight", "outside_weight"),
    ("alpha", "beta"),
)


def _check_sum(weights: tuple[float, ...]) -> tuple[float, ...]:
    if not any(weights):
        raise ValueError("at least one of the weights must be above 0")
    return weights


NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Radius = Annotated[int, Field(ge=1, le=16)]
ClassWeights = Annotated[tuple[NotNegative, ...], AfterValidator(_check_sum)] | None


def check_options(name: str, loss: Callable[..., Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the loss takes them: known names, and values of the types and ranges in its signature.

    Args:
        name: of the loss, for messages.
        loss: its annotated keyword arguments are its options.
        options: as they stand in the plan's JSON.

    Raises:
        PlanError: the loss has no such option, or the option cannot have that value; the message lists the known ones.
    """
    parameters = inspect.signature(loss, eval_str=True).parameters
    known = [option for option in parameters if option not in GIVEN]
    knows = f"it knows: {', '.join(known) or 'none'}; edit loss.options"
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise PlanError(f"loss '{name}' has no option '{unknown[0]}'; {knows}")
    checked = {}
    for option, value in options.items():
        annotation = parameters[option].annotation
        try:
            checked[option] = _check_value(Any if annotation is inspect.Parameter.empty else annotation, value)
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            found = f"{message[:1].lower()}{message[1:]}, not {first['input']!r}"
            raise PlanError(f"option '{option}' of loss '{name}': {found}; {knows}") from error
    _check_groups(name, {option: checked.get(option, parameters[option].default) for option in known})
    return checked


def _check_value(annotation: Any, value: Any) -> Any:
    """Strict, as JSON is: true is no number and "1" is none either, but a list may become a tuple."""
    adapter = TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
    return adapter.validate_json(json.dumps(value))


def _check_groups(name: str, values: Mapping[str, Any]) -> None:
    for group in GROUPS:
        members = [option for option in group if option in values]
        if len(members) > 1 and not any(values[option] for option in members):
            raise PlanError(
                f"loss '{name}' has nothing to minimise: {' and '.join(members)} are all 0; edit loss.options"
            )


def check_class_weights(name: str, options: Mapping[str, Any], outputs: int) -> None:
    """There must be one class weight for each output of the network.

    Raises:
        PlanError: there are more or fewer.
    """
    weights = options.get("class_weights")
    if weights is not None and len(weights) != outputs:
        raise PlanError(
            f"loss '{name}' has {len(weights)} class_weights, but the network has {outputs} outputs; give one per "
            f"region, or one per class with background first, in loss.options"
        )
