"""Where a training stands: plain tensors and numbers, enough to go on as if it had never stopped."""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor

from autoseg.core.errors import ModelError
from autoseg.training.optimisation import PlateauDetector

Weights = dict[str, Tensor]
NEW = PlateauDetector()


@dataclass(frozen=True, kw_only=True)
class EpochFacts:
    """One line of a training's history.

    Attributes:
        epoch: its number, from 1.
        train_loss: mean over its steps; NaN when every step was skipped.
        validation_dice: mean Dice of the held-out volumes, None where not validated or undefined.
        learning_rate: of its last step.
        data_s: waiting for batches.
        compute_s: forward, backward and the step.
        epoch_s: all of it, with validation.
        elapsed_s: since the training began, over all resumptions.
        steps: in this epoch.
        skipped_steps: of them, without effect because the loss was not finite.
    """

    epoch: int
    train_loss: float
    validation_dice: float | None
    learning_rate: float
    data_s: float
    compute_s: float
    epoch_s: float
    elapsed_s: float
    steps: int
    skipped_steps: int

    def to_row(self) -> dict[str, float | int | None]:
        """The facts as JSON values; NaN becomes None."""
        row: dict[str, float | int | None] = asdict(self)
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


@dataclass(frozen=True, kw_only=True)
class EpochSums:
    """What the running epoch has added up so far."""

    steps: int = 0
    skipped: int = 0
    loss: float = 0.0
    data_s: float = 0.0
    compute_s: float = 0.0
    epoch_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A training between two steps. Its tensors are copies on the CPU; nothing changes them later.

    Attributes:
        epoch: epochs completed.
        step: steps taken, which is also the number of the next batch.
        elapsed_s: seconds trained, over all resumptions.
        finished: the planned length is reached.
        network: weights of the last step.
        optimiser: the optimiser's ``state_dict``.
        scaler: the gradient scaler's ``state_dict``; empty without float16.
        averaged: moving average of the weights, if there is one.
        best_score, best_epoch, best: the highest validation score, its epoch, and the weights that reached it.
        failures: steps in a row whose loss was not finite.
        sums: of the running epoch.
        plateau: of the number that the ``plateau`` schedule watches.
        stopping: of the validation Dice, for stopping early.
        loss_average: moving average of the epochs' losses.
        phase: of the weights that move; 1 once ``gradual`` trains the encoder, too.
        acceleration: how the network was computed; None in states of before there was a choice.
    """

    epoch: int
    step: int
    elapsed_s: float
    finished: bool
    network: Weights
    optimiser: dict[str, Any]
    scaler: dict[str, Any] = field(default_factory=dict)
    averaged: Weights | None = None
    best_score: float | None = None
    best_epoch: int | None = None
    best: Weights | None = None
    failures: int = 0
    sums: EpochSums = EpochSums()
    plateau: PlateauDetector = NEW
    stopping: PlateauDetector = NEW
    loss_average: float | None = None
    phase: int = 0
    acceleration: str | None = None

    def final_weights(self) -> Weights:
        """What to predict with at the end: the moving average if there is one."""
        return self.network if self.averaged is None else self.averaged

    def to_tensors(self) -> dict[str, Any]:
        """The state as nested dictionaries of tensors and numbers."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        return content | {name: asdict(content[name]) for name in ("sums", "plateau", "stopping")}

    @classmethod
    def from_tensors(cls, content: dict[str, Any]) -> Self:
        """The inverse of ``to_tensors``."""
        kinds = {"sums": EpochSums, "plateau": PlateauDetector, "stopping": PlateauDetector}
        return cls(**content | {name: kinds[name](**content[name]) for name in kinds if name in content})


def save_state(state: TrainingState) -> bytes:
    """The state as bytes of a file that opens without running code."""
    buffer = io.BytesIO()
    torch.save(state.to_tensors(), buffer)
    return buffer.getvalue()


def load_state(content: bytes) -> TrainingState:
    """The inverse of ``save_state``, on the CPU.

    Raises:
        ModelError: these are not the bytes of a training state.
    """
    try:
        return TrainingState.from_tensors(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"a checkpoint is damaged or of another version ({type(error).__name__}); train this fold anew"
        ) from error


def copy_tensors(content: Any) -> Any:
    """Nested dictionaries and lists with every tensor copied to the CPU."""
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {name: copy_tensors(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(copy_tensors(value) for value in content)
    return content
