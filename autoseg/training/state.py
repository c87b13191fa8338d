"""Training state: everything needed to resume exactly."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoseg.core.devices import choose_precision
from autoseg.core.errors import ModelError
from autoseg.core.records import Configuration, TrainingSettings
from autoseg.networks import Part
from autoseg.training.freezing import Freezing
from autoseg.training.optimisation import PlateauDetector, build_optimiser, restore_optimiser

Weights = dict[str, Tensor]
Checkpoint = dict[str, Any]  # a captured state: nested dictionaries of CPU tensors and plain numbers

# Fields that follow from the plan and the clock, or are settled before a capture, so no checkpoint holds them.
LIVE = ("freezing", "seed", "progress", "pending")
SAVED_NAMES = {"reductions": "drops"}  # attribute -> key in a checkpoint, where they differ


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
        epoch_s: the whole epoch, with validation.
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


@dataclass(kw_only=True)
class EpochSums:
    """Sums over the steps of the current epoch."""

    steps: int = 0
    skipped: int = 0
    loss: float = 0.0
    data_s: float = 0.0
    compute_s: float = 0.0
    epoch_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PendingLoss:
    """The loss of a step on its way from the device: read when it has arrived, while the next step is computed.

    Attributes:
        value: one float32 number on the CPU; NaN for a skipped step. Not to be read before the event.
        arrived: event of a GPU's stream; None where the value is there.
    """

    value: Tensor
    arrived: torch.cuda.Event | None = None

    @classmethod
    def send(cls, loss: Tensor) -> Self:
        """Begin the copy; on a GPU without waiting for it."""
        if loss.device.type != "cuda":
            return cls(value=loss.cpu())
        arrived = torch.cuda.Event()
        value = loss.to("cpu", non_blocking=True)
        arrived.record(torch.cuda.current_stream(loss.device))
        return cls(value=value, arrived=arrived)

    def read(self) -> float:
        """The loss, once it has arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return float(self.value)


@dataclass(kw_only=True)
class TrainingState:
    """A training under way: the live network, its optimiser and all counters.

    ``capture`` copies every field into a checkpoint, except those named in LIVE; ``restore`` assigns them. A new field
    is therefore written here and nowhere else, and has a default, which older checkpoints get.

    Attributes:
        network: in training mode, on the device of the training.
        optimiser: of the parameters that are trained in this phase.
        scaler: gradient scaler; enabled with float16 only.
        freezing: the frozen parts of the network, by phase.
        seed: of random layers (dropout), whose stream is seeded at every step.
        progress: share of the training that is done, the same in all processes.
        epoch: epochs completed.
        step: steps taken, which is also the number of the next batch.
        elapsed_s: seconds trained, over all resumptions.
        finished: the planned length is reached.
        averaged: moving average of the weights, if the plan has one.
        best_score, best_epoch, best: the highest validation score, its epoch, and the weights (on the CPU) that
            reached it.
        failures: steps in a row whose loss was not finite.
        sums: of the current epoch.
        plateau: of the value that the ``plateau`` schedule watches.
        stopping: of the validation Dice, for early stopping.
        loss_average: moving average of the epochs' losses.
        phase: 1 once ``gradual`` trains the encoder, too.
        acceleration: backend that computes the network; None in checkpoints older than the choice.
        pending: loss of the last step, where a GPU has not been waited for; ``failures`` and ``sums`` lack it.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    freezing: Freezing
    seed: int = 0
    progress: float = 0.0
    epoch: int = 0
    step: int = 0
    elapsed_s: float = 0.0
    finished: bool = False
    averaged: Weights | None = None
    best_score: float | None = None
    best_epoch: int | None = None
    best: Weights | None = None
    failures: int = 0
    sums: EpochSums = field(default_factory=EpochSums)
    plateau: PlateauDetector = field(default_factory=PlateauDetector)
    stopping: PlateauDetector = field(default_factory=PlateauDetector)
    loss_average: float | None = None
    phase: int = 0
    acceleration: str | None = None
    pending: PendingLoss | None = None

    @classmethod
    def start(
        cls,
        network: nn.Module,
        configuration: Configuration,
        *,
        parts: Mapping[str, Part] | None = None,
        seed: int = 0,
    ) -> Self:
        """The state before the first step.

        Args:
            network: ``forward(x) -> list of logits``, finest first; on the device of the training.
            configuration: optimiser, training and transfer settings.
            parts: name of every parameter and buffer -> its part of the network; required with
                ``configuration.transfer``.
            seed: of random layers.
        """
        freezing = Freezing(network.train(), configuration.transfer, parts or {})
        device = next(network.parameters()).device
        half = choose_precision(configuration.training, device) is torch.float16
        weights = network.state_dict() if configuration.training.ema_decay > 0 else None
        return cls(
            network=network,
            optimiser=build_optimiser(freezing.parameter_groups(), configuration.optimiser, device=device),
            scaler=torch.amp.GradScaler(device.type, enabled=half),
            freezing=freezing,
            seed=seed,
            averaged=None if weights is None else {name: weight.detach().clone() for name, weight in weights.items()},
        )

    def begin_phase(self, phase: int, configuration: Configuration) -> None:
        """Train the parts of a phase, with a new optimiser."""
        self.phase = phase
        self.freezing.set_phase(phase)
        groups = self.freezing.parameter_groups()
        self.optimiser = build_optimiser(groups, configuration.optimiser, device=self.device)

    def capture(self) -> Checkpoint:
        """A copy of the state on the CPU, which later steps do not change."""
        self.settle()
        return {item.name: _copy_out(getattr(self, item.name)) for item in fields(self) if item.name not in LIVE}

    def restore(self, checkpoint: Checkpoint, configuration: Configuration) -> None:
        """Resume exactly where a checkpoint was captured.

        Raises:
            ModelError: the checkpoint is of another network or optimiser.
        """
        if checkpoint.get("phase", 0) != self.phase:
            self.begin_phase(checkpoint["phase"], configuration)
        averages = self.averaged is not None
        try:
            for name, content in checkpoint.items():
                setattr(self, name, _copy_in(getattr(self, name), content))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"the checkpoint does not fit the planned network or optimiser ({str(error).splitlines()[0]}); "
                f"the plan was edited since: train this fold again with --restart"
            ) from error
        self.averaged = None
        if averages:  # a plan that was edited to average begins with the weights themselves
            weights = checkpoint.get("averaged") or checkpoint["network"]
            self.averaged = {name: weight.to(self.device, copy=True) for name, weight in weights.items()}

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    @property
    def mean_loss(self) -> float:
        """Mean over the epoch's steps with a finite loss, as far as they are known; NaN without any."""
        counted = self.sums.steps - self.sums.skipped - (self.pending is not None)
        return self.sums.loss / counted if counted else math.nan

    def record_loss(self, loss: Tensor, *, wait: bool) -> None:
        """Count the loss of the step before, and that of this one if asked to, after a failure, or on a CPU.

        Args:
            loss: one number on the device; NaN for a skipped step.
            wait: count it now, although a GPU still computes it.
        """
        self.settle()
        self.pending = PendingLoss.send(loss)
        if wait or self.failures or self.pending.arrived is None:
            self.settle()

    def settle(self) -> None:
        """Count the loss that is pending, which waits for it on a GPU."""
        if self.pending is None:
            return
        loss, self.pending = self.pending.read(), None
        skipped = math.isnan(loss)
        self.failures = self.failures + 1 if skipped else 0
        self.sums.skipped += skipped
        self.sums.loss += 0.0 if skipped else loss

    def record_step(self, *, data_s: float, compute_s: float, total_s: float) -> None:
        """Count a step and its seconds."""
        self.step += 1
        self.elapsed_s += total_s
        self.sums.steps += 1
        self.sums.data_s += data_s
        self.sums.compute_s += compute_s
        self.sums.epoch_s += total_s

    def close_epoch(self, score: float | None, *, seconds: float, keep_best: bool) -> EpochFacts:
        """Sum up an epoch, keep the best weights and begin the next epoch.

        Args:
            score: of the validation, None without one.
            seconds: since the last step.
            keep_best: whether this process keeps the best weights, which only the first one does.
        """
        self.settle()
        train_loss = self.mean_loss
        sums, self.sums = self.sums, EpochSums()
        self.epoch += 1
        self.elapsed_s += seconds
        if score is not None and (self.best_score is None or score >= self.best_score):  # of equals, the longer trained
            self.best_score, self.best_epoch = score, self.epoch
            if keep_best:
                self.best = copy_tensors(self.final_weights())
        return EpochFacts(
            epoch=self.epoch,
            train_loss=train_loss,
            validation_dice=score,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            data_s=sums.data_s,
            compute_s=sums.compute_s,
            epoch_s=sums.epoch_s + seconds,
            elapsed_s=self.elapsed_s,
            steps=sums.steps,
            skipped_steps=sums.skipped,
        )

    def is_over(self, settings: TrainingSettings) -> bool:
        """Whether the planned length is reached, or early stopping ends the training."""
        return self.progress >= 1 or (settings.stop_patience is not None and self.stopping.reductions > 0)

    def epoch_is_over(self, settings: TrainingSettings) -> bool:
        """Whether the epoch has all its steps, or the training ends within it."""
        return self.sums.steps >= settings.steps_per_epoch or (self.sums.steps > 0 and self.is_over(settings))

    def validation_is_due(self, settings: TrainingSettings) -> bool:
        """Whether the epoch that ends is one of the validation interval, or the last one; no stage is validated."""
        is_chosen = (self.epoch + 1) % settings.validation_interval == 0 or self.is_over(settings)
        return is_chosen and settings.stage_at(self.progress) == len(settings.stages)

    def final_weights(self) -> Weights:
        """The weights to predict with: the moving average if there is one. Live tensors, not copies."""
        return self.network.state_dict() if self.averaged is None else self.averaged


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as bytes of a file that opens without running code."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def unpack_checkpoint(content: bytes) -> Checkpoint:
    """The inverse of ``pack_checkpoint``, on the CPU.

    Raises:
        ModelError: these are not the bytes of a checkpoint.
    """
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        names = set(checkpoint)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(_damaged(type(error).__name__)) from error
    missing = {"network", "optimiser", "epoch", "step"} - names
    if missing or names - {item.name for item in fields(TrainingState)}:
        raise ModelError(_damaged(f"it lacks {min(missing)}" if missing else "it has unknown fields"))
    return checkpoint


def _damaged(reason: str) -> str:
    return f"the checkpoint is damaged or of another version ({reason}); train this fold again with --restart"


def copy_tensors(content: Any) -> Any:
    """Nested dictionaries and lists with every tensor copied to the CPU."""
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {name: copy_tensors(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(copy_tensors(value) for value in content)
    return content


def _copy_out(value: Any) -> Any:
    """One field of the state as a checkpoint holds it."""
    if hasattr(value, "state_dict"):
        return copy_tensors(value.state_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {SAVED_NAMES.get(name, name): content for name, content in asdict(value).items()}
    return copy_tensors(value)


def _copy_in(current: Any, content: Any) -> Any:
    """The field of the state that was ``current``, with what a checkpoint holds."""
    if isinstance(current, torch.optim.Optimizer):
        restore_optimiser(current, copy_tensors(content))
        return current
    if hasattr(current, "load_state_dict"):
        if content:  # a scaler's is empty where it is not enabled
            current.load_state_dict(copy_tensors(content))
        return current
    if is_dataclass(current) and not isinstance(current, type):
        attributes = {saved: name for name, saved in SAVED_NAMES.items()}
        return type(current)(**{attributes.get(name, name): value for name, value in content.items()})
    return content
