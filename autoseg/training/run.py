"""A training under way: one step, one epoch, and its state in copies."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from autoseg.core.devices import choose_precision, is_memory_shortage
from autoseg.core.errors import MemoryShortageError, ModelError, TrainingError
from autoseg.core.records import Configuration, TrainingSettings
from autoseg.networks import Part
from autoseg.training.acceleration import LEAST_S, SHARE, TRIAL_STEPS, Acceleration
from autoseg.training.distributed import Ranks
from autoseg.training.freezing import FACTOR, Freezing
from autoseg.training.optimisation import PlateauDetector, build_optimiser, learning_rate, move_average
from autoseg.training.state import EpochFacts, EpochSums, TrainingState, copy_tensors

log = logging.getLogger(__name__)

MAX_FAILURES = 3  # steps in a row whose loss is not finite
LOSS_EMA_DECAY = 0.9  # of the moving average of the epochs' losses

DeepLoss = Callable[[Sequence[Tensor], Tensor], Tensor]


class BatchSource(Protocol):
    """Anything that gives the batch of a step: (B,C,*patch) float32 and (B,*patch) integer."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The image and target of one step."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long to train.

    Attributes:
        steps: in all; they do not count with a time budget.
        steps_per_epoch: between two lines of history.
        time_budget_s: seconds, or None.
    """

    steps: int
    steps_per_epoch: int
    time_budget_s: float | None

    @classmethod
    def of(
        cls,
        settings: TrainingSettings,
        time_budget_s: float | None,
        epochs: int | None,
        steps_per_epoch: int | None,
    ) -> Self:
        """The plan's length, or what is said instead."""
        steps = steps_per_epoch or settings.steps_per_epoch
        total = (epochs or settings.epochs) * steps
        return cls(steps=total, steps_per_epoch=steps, time_budget_s=time_budget_s)

    @property
    def total_s(self) -> Callable[[float], float] | None:
        """Seconds of the whole training, given those of a step; None where it is too short to time steps first."""
        if self.time_budget_s is not None:
            budget_s = self.time_budget_s
            return None if budget_s < LEAST_S else lambda _: budget_s
        return None if self.steps * SHARE < 2 * TRIAL_STEPS else lambda step_s: self.steps * step_s


def choose_watched(configuration: Configuration, *, validates: bool) -> str:
    """What the ``plateau`` schedule watches; without any validation, only the loss is left, and a line says so."""
    optimiser, training = configuration.optimiser, configuration.training
    if training.stop_patience is not None and not validates:
        log.warning("nothing is validated while training, so stop_patience has no effect")
    if optimiser.schedule == "plateau" and optimiser.watch == "validation_dice" and not validates:
        log.warning("nothing is validated while training, so the learning rate watches the loss")
        return "train_loss"
    return optimiser.watch


class Run:
    """A training under way: the live network, optimiser and counters."""

    def __init__(
        self,
        network: nn.Module,
        forward: Acceleration,
        configuration: Configuration,
        loss: DeepLoss,
        device: torch.device,
        length: Length,
        seed: int,
        ranks: Ranks,
        clock: Callable[[], float],
        began: float,
        *,
        validates: bool,
        parts: Mapping[str, Part],
    ) -> None:
        self.network, self.loss, self.device = network.train(), loss, device
        self.forward = forward
        self.settings, self.optimiser_settings = configuration.training, configuration.optimiser
        self.length, self.seed, self.ranks, self.clock = length, seed, ranks, clock
        self.watched = choose_watched(configuration, validates=validates)
        self.freezing = Freezing(network, configuration.transfer, parts)
        self._begin_phase(0)
        self.precision = choose_precision(self.settings, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)
        self.averaged = (
            {name: weight.detach().clone() for name, weight in network.state_dict().items()}
            if self.settings.ema_decay > 0
            else None
        )
        self.before = TrainingState(epoch=0, step=0, elapsed_s=0.0, finished=False, network={}, optimiser={})
        self.epoch, self.step, self.failures = 0, 0, 0
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.best: dict[str, Tensor] | None = None
        self.sums = EpochSums()
        self.plateau, self.stopping = PlateauDetector(), PlateauDetector()
        self.loss_average: float | None = None
        self.began = self.epoch_began = self.captured = self.now = began
        self.share = 0.0  # of the training behind; looked up once a step, so that all who ask agree

    def _begin_phase(self, phase: int) -> None:
        """Let the weights of a phase move, with an optimiser that remembers nothing."""
        self.phase = phase
        self.freezing.begin(phase)
        self.parameters = self.freezing.parameters()
        self.optimiser = build_optimiser(self.freezing.groups(), self.optimiser_settings)

    def restore(self, state: TrainingState) -> None:
        """Go on where a state stands."""
        if state.phase != self.phase:
            self._begin_phase(state.phase)
        try:
            self.network.load_state_dict(state.network)
            self.optimiser.load_state_dict(copy_tensors(state.optimiser))
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(
                f"the checkpoint does not fit the planned network or optimiser ({str(error).splitlines()[0]}); "
                f"the plan was edited since: train this fold anew"
            ) from error
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        if self.averaged is not None:
            self.averaged = {n: weight.to(self.device, copy=True) for n, weight in state.final_weights().items()}
        self.before = state
        self.epoch, self.step, self.failures = state.epoch, state.step, state.failures
        self.best_score, self.best_epoch, self.best = state.best_score, state.best_epoch, state.best
        self.sums = state.sums
        self.plateau, self.stopping, self.loss_average = state.plateau, state.stopping, state.loss_average
        self.share = self.agree_share()

    def capture(self) -> TrainingState:
        """Where it stands now, in copies."""
        self.captured = self.now
        return TrainingState(
            epoch=self.epoch,
            step=self.step,
            elapsed_s=self.elapsed_s,
            finished=self.is_done() and self.sums.steps == 0,
            network=copy_tensors(self.network.state_dict()),
            optimiser=copy_tensors(self.optimiser.state_dict()),
            scaler=self.scaler.state_dict(),
            averaged=copy_tensors(self.averaged),
            best_score=self.best_score,
            best_epoch=self.best_epoch,
            best=self.best,
            failures=self.failures,
            sums=replace(self.sums, epoch_s=self.epoch_s) if self.sums.steps else self.sums,
            plateau=self.plateau,
            stopping=self.stopping,
            loss_average=self.loss_average,
            phase=self.phase,
            acceleration=self.forward.way,
        )

    @property
    def elapsed_s(self) -> float:
        """Seconds trained, over all resumptions."""
        return self.before.elapsed_s + self.clock() - self.began

    @property
    def epoch_s(self) -> float:
        """Seconds of the running epoch, over all resumptions."""
        return self.sums.epoch_s + self.clock() - self.epoch_began

    def measure_share(self) -> float:
        """How much of the training is behind: of the time if it has a budget, else of the steps."""
        if self.length.time_budget_s is not None:
            return min(self.elapsed_s / self.length.time_budget_s, 1.0)
        return min(self.step / self.length.steps, 1.0)

    def agree_share(self) -> float:
        """The same share in all processes, whose clocks differ."""
        share = self.measure_share()
        return share if self.length.time_budget_s is None else self.ranks.largest(share)

    def is_done(self) -> bool:
        """The planned length is reached, or nothing has improved for as long as the plan waits."""
        return self.share >= 1 or self.is_stopped_early

    @property
    def is_stopped_early(self) -> bool:
        """The validation Dice has not improved for as long as the plan waits."""
        return self.settings.stop_patience is not None and self.stopping.drops > 0

    def pause_is_due(self) -> bool:
        """The last copies are as old as the plan allows."""
        return self.now - self.captured >= 60 * self.settings.checkpoint_minutes

    def epoch_is_over(self) -> bool:
        """The running epoch has all its steps, or the training ends within it."""
        return self.sums.steps >= self.length.steps_per_epoch or (self.sums.steps > 0 and self.is_done())

    def take_step(self, batches: BatchSource) -> None:
        """One batch, one move of the weights, or none where the loss is not finite."""
        if (phase := self.freezing.phase_at(self.share)) > self.phase:
            log.info("step %d: the encoder is trained from here on, with a new optimiser", self.step + 1)
            self._begin_phase(phase)
        started = self.clock()
        image, target = batches.batch(self.step)
        loaded = self.clock()
        rate = learning_rate(self.optimiser_settings, self.share, drops=self.plateau.drops)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get(FACTOR, 1.0)
        torch.manual_seed((self.seed * 1_000_003 + self.step + (self.ranks.rank << 40)) % 2**63)
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]  # running statistics, if any
        try:
            value = self._move(image, target)
        except (RuntimeError, TrainingError) as error:
            self.optimiser.zero_grad(set_to_none=True)
            for buffer, before in buffers:
                buffer.copy_(before)
            if isinstance(error, TrainingError) or not is_memory_shortage(error):
                raise
            part = (len(image) // self._count_parts(len(image)), *image.shape[1:])
            where = "the GPU" if self.device.type == "cuda" else "the machine"
            raise MemoryShortageError(
                f"{where} ran out of memory at step {self.step + 1} with {part[0]} samples of shape {part[1:]} at once"
            ) from error
        if math.isnan(value):
            for buffer, before in buffers:
                buffer.copy_(before)
        self.now = self.clock()
        self.step += 1
        self.failures = self.failures + 1 if math.isnan(value) else 0
        self.sums = replace(
            self.sums,
            steps=self.sums.steps + 1,
            skipped=self.sums.skipped + math.isnan(value),
            loss=self.sums.loss + (0.0 if math.isnan(value) else value),
            data_s=self.sums.data_s + loaded - started,
            compute_s=self.sums.compute_s + self.now - loaded,
        )
        self.share = self.agree_share()
        if self.failures >= MAX_FAILURES:
            raise TrainingError(
                f"the loss or its gradient was not finite {MAX_FAILURES} steps in a row (epoch {self.epoch + 1}, step "
                f"{self.step}); lower optimiser.learning_rate in the plan or set training.precision to float32"
            )

    def _move(self, image: Tensor, target: Tensor) -> float:
        """Forward, backward and step; the loss, or NaN when it was not finite and the weights were left alone."""
        self.optimiser.zero_grad(set_to_none=True)
        parts = self._count_parts(len(image))
        value = 0.0
        for part in zip(image.chunk(parts), target.chunk(parts), strict=True):
            value += self._add_gradient(*part, parts)
            if not math.isfinite(value):
                return math.nan
        self.ranks.average_gradients(self.parameters)  # before anything moves: a step is taken by all or by none
        self.ranks.share_buffers(self.network.buffers())
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.optimiser_settings.gradient_clip or math.inf)
        if not self.scaler.is_enabled() and not math.isfinite(float(norm)):  # an enabled scaler skips by itself
            return math.nan
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averaged is not None:
            move_average(self.averaged, self.network.state_dict(), decay=self.settings.ema_decay, step=self.step)
        return value

    def _count_parts(self, samples: int) -> int:
        """The fewest equal parts of this process's samples that are no larger than the planned ones."""
        largest = max(1, samples * self.ranks.world // self.settings.accumulation)
        return next(parts for parts in range(1, samples + 1) if samples % parts == 0 and samples // parts <= largest)

    def _add_gradient(self, image: Tensor, target: Tensor, parts: int) -> float:
        """Forward and backward of one of the equal parts of a batch; its share of the batch's loss."""
        image = image.to(self.device, non_blocking=True)
        target = target.to(self.device, non_blocking=True)
        half = self.precision is not torch.float32
        with torch.autocast(self.device.type, dtype=self.precision if half else None, enabled=half):
            outputs = self.forward(image)
        loss = self.loss(outputs, target) / parts
        value = self.ranks.mean(float(loss.detach()))  # not finite in one is not finite in all
        if math.isfinite(value):
            self.scaler.scale(loss).backward()
        return value

    def score(self, validate: Callable[[nn.Module], float | None] | None) -> float | None:
        """Score the weights that would be kept, if it is time to. None where it is not, or the score is undefined."""
        if validate is None or not ((self.epoch + 1) % self.settings.validation_interval == 0 or self.is_done()):
            return None
        return self.ranks.from_first(self._validate(validate) if self.ranks.leads else None)

    def close_epoch(self, score: float | None) -> EpochFacts:
        """Sum the epoch up, remember the best weights, and see whether things still improve."""
        self.epoch += 1
        sums, counted = self.sums, self.sums.steps - self.sums.skipped
        loss = sums.loss / counted if counted else math.nan
        if score is not None and (self.best_score is None or score >= self.best_score):  # of equals, the longer trained
            self.best_score, self.best_epoch = score, self.epoch
            if self.ranks.leads:
                self.best = copy_tensors(self.network.state_dict() if self.averaged is None else self.averaged)
        self._watch(loss, score)
        self.share = self.agree_share()
        facts = EpochFacts(
            epoch=self.epoch,
            train_loss=loss,
            validation_dice=score,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            data_s=sums.data_s,
            compute_s=sums.compute_s,
            epoch_s=self.epoch_s,
            elapsed_s=self.elapsed_s,
            steps=sums.steps,
            skipped_steps=sums.skipped,
        )
        self.sums, self.epoch_began = EpochSums(), self.clock()
        return facts

    def _watch(self, loss: float, score: float | None) -> None:
        """Let the watches of the learning rate and of stopping early see the epoch; what is undefined is not seen."""
        if math.isfinite(loss):
            former = loss if self.loss_average is None else self.loss_average
            self.loss_average = LOSS_EMA_DECAY * former + (1 - LOSS_EMA_DECAY) * loss
        watched = score
        if self.watched == "train_loss":
            watched = -self.loss_average if self.loss_average is not None and math.isfinite(loss) else None
        if self.optimiser_settings.schedule == "plateau" and watched is not None:
            margin = self.settings.min_improvement if self.watched == "validation_dice" else 0.0
            drops = self.plateau.drops
            self.plateau = self.plateau.see(watched, margin=margin, patience=self.optimiser_settings.patience)
            if self.plateau.drops > drops:
                rate = learning_rate(self.optimiser_settings, 1.0, drops=self.plateau.drops)
                log.info("epoch %d: no improvement, the learning rate falls to %.2g", self.epoch, rate)
        patience = self.settings.stop_patience
        if patience is not None and score is not None:
            self.stopping = self.stopping.see(score, margin=self.settings.min_improvement, patience=patience)
            if self.is_stopped_early:
                log.info(
                    "epoch %d: no validation improved on %.4f %d times in a row, so the training ends here; "
                    "it keeps the %s of this epoch",
                    self.epoch,
                    self.stopping.best,
                    patience,
                    "weights" if self.averaged is None else "averaged weights",
                )

    def _validate(self, validate: Callable[[nn.Module], float | None]) -> float | None:
        """The score of the weights that would be kept; the network has its own again afterwards."""
        current = None if self.averaged is None else copy_tensors(self.network.state_dict())
        if self.averaged is not None:
            self.network.load_state_dict(self.averaged)
        self.network.eval()
        try:
            with torch.no_grad():
                score = validate(self.network)
        finally:
            self.network.train()
            self.freezing.rest()
            if current is not None:
                self.network.load_state_dict(current)
        if score is None or not math.isfinite(score):
            log.warning("epoch %d: validation gave no score", self.epoch + 1)
            return None
        return score

    def report(self) -> tuple[int, int, str]:
        """Done, total and a clause, for the progress callback."""
        counted = self.sums.steps - self.sums.skipped
        loss = f"loss {self.sums.loss / counted:.4f}" if counted else "no loss yet"
        text = f"training, epoch {self.epoch + 1}, {loss}"
        if self.length.time_budget_s is not None:
            budget = int(self.length.time_budget_s)
            return min(int(self.elapsed_s), budget), budget, f"{text}, seconds"
        return self.step, self.length.steps, text
