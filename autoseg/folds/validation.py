"""Validation while training: Dice over a few whole held-out volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from autoseg.core.masks import stack_inputs
from autoseg.core.records import Outputs, Plan, PreparedCase
from autoseg.prediction import predict_logits


def quick_validation(
    plan: Plan,
    configuration_name: str,
    held_out: Sequence[str],
    prepared: Mapping[str, PreparedCase],
    device: torch.device,
    should_stop: Callable[[], bool],
) -> Callable[[nn.Module], float | None] | None:
    """A function that returns the mean Dice of the first held-out volumes, on the preprocessed grid, without mirroring.

    Args:
        plan: with the configuration.
        configuration_name: in the plan.
        held_out: case ids.
        prepared: case id -> preprocessed case.
        device: of the network.
        should_stop: asked before every case; where it stops, the score is None.

    Returns:
        None where nothing is held out or the plan has no validation.
    """
    configuration = plan.configurations[configuration_name]
    validated = held_out[: configuration.training.validation_cases]
    if not validated:
        return None
    tiling = configuration.tiling.model_copy(update={"mirror_axes": ()})
    outputs, masks = plan.outputs, plan.mask_values(configuration_name)

    def validate(network: nn.Module) -> float | None:
        dices: list[float] = []
        for case_id in validated:
            if should_stop():
                return None
            case = prepared[case_id]
            assert case.label is not None  # training cases are labelled
            inputs = stack_inputs(case.image, case.prior, masks, context_slices=configuration.context_slices)
            logits = predict_logits([network], inputs, tiling, outputs=len(outputs.values), device=device)
            dices += quick_dice(logits, case.label, plan, outputs)
        return float(np.mean(dices)) if dices else None

    return validate


def quick_dice(logits: np.ndarray, label: np.ndarray, plan: Plan, outputs: Outputs) -> list[float]:
    """Dice of each foreground class or region that occurs in the label.

    Args:
        logits: (K,Z,Y,X) float32.
        label: (Z,Y,X) integer.
    """
    members = list(plan.regions.values()) if outputs.overlap else [(value,) for value in outputs.values]
    winner = None if outputs.overlap else logits.argmax(axis=0)
    counted = label != plan.ignore_label if plan.ignore_label is not None else np.ones_like(label, bool)
    dices = []
    for channel, values in enumerate(members):
        if not outputs.overlap and outputs.values[channel] == 0:
            continue
        reference = np.isin(label, values) & counted
        predicted = (logits[channel] > 0 if winner is None else winner == channel) & counted
        if reference.any():
            dices.append(2 * float((reference & predicted).sum()) / float(reference.sum() + predicted.sum()))
    return dices
