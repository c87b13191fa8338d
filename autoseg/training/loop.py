"""The training loop: steps, epochs, validation, and stopping at any step without losing one."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from autoseg.core.errors import MemoryShortageError, ModelError, TrainingError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Configuration
from autoseg.networks.devices import choose_precision, is_memory_shortage
from autoseg.training.optimisation import build_optimiser, learning_rate, move_average
from autoseg.training.state import EpochFacts, EpochSums, TrainingState, copy_tensors

log = logging.getLogger(__name__)

MAX_FAILURES = 3  # steps in a row whose loss is not finite

DeepLoss = Callable[[Sequence[Tensor], Tensor], Tensor]
Validate = Callable[[nn.Module], float | None]
OnEpoch = Callable[[EpochFacts, TrainingState], None]


class BatchSource(Protocol):
    """Anything that gives the batch of a step: (B,C,*patch) float32 and (B,*patch) integer."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The image and target of one step."""


def train_fold(
    network: nn.Module,
    configuration: Configuration,
    batches: BatchSource,
    *,
    loss: DeepLoss,
    device: torch.device,
    time_budget_s: float | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    state: TrainingState | None = None,
    validate: Validate | None = None,
    on_epoch: OnEpoch = lambda facts, state: None,
    on_shortage: Callable[[TrainingState], None] = lambda state: None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingState:
    """Train a network until the planned length, the time budget or a stop; the network keeps its last weights.

    On a CPU the outcome depends on the arguments alone: a training that was stopped at any step, saved and resumed
    ends with the same weights, bit for bit, as one that was not. Random layers (dropout) draw from a stream that is
    seeded anew at every step.

    Args:
        network: ``forward(x) -> list of logits``, finest first; on ``device``.
        configuration: optimiser and training settings.
        batches: gives the batch of each step.
        loss: of the outputs and the target.
        device: where to train.
        time_budget_s: seconds of training, over all resumptions; then ``epochs`` does not count, and the learning
            rate follows the clock. The last validation comes on top.
        epochs, steps_per_epoch: instead of the configuration's.
        state: where an earlier call ended.
        validate: score of a network in evaluation mode, higher is better; None or NaN leaves the best as it is.
        on_epoch: called after every epoch.
        on_shortage: called with the state of the last good step when memory runs out, before the error is raised.
        should_stop: asked after every step.
        progress: told after every step: steps of all, or seconds of the budget.
        seed: of random layers.
        clock: seconds.

    Returns:
        Where it stands; ``finished`` is False after a stop.

    Raises:
        TrainingError: the loss was not finite several steps in a row; the network keeps the last good weights.
        ModelError: the state is of another network.
        MemoryShortageError: the device or the machine has too little memory; the network keeps its weights.
    """
    run = _Run(network, configuration, loss, device, time_budget_s, epochs, steps_per_epoch, seed, clock)
    if state is not None:
        run.restore(state)
    with _reproducible(device):
        while True:
            if run.epoch_is_over():
                on_epoch(run.close_epoch(validate), run.capture())
            if run.is_done():
                break
            try:
                run.take_step(batches)
            except MemoryShortageError:
                with suppress(RuntimeError, MemoryError):  # the copies may be too much as well
                    on_shortage(run.capture())
                raise
            progress(*run.report())
            if should_stop():
                break
    return run.capture()


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Leave the caller's random stream as it was; on a GPU, let cuDNN choose its fastest kernels meanwhile."""
    gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if gpu else []):
        if not gpu:
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            yield


class _Run:
    """A training under way: the live network, optimiser and counters."""

    def __init__(
        self,
        network: nn.Module,
        configuration: Configuration,
        loss: DeepLoss,
        device: torch.device,
        time_budget_s: float | None,
        epochs: int | None,
        steps_per_epoch: int | None,
        seed: int,
        clock: Callable[[], float],
    ) -> None:
        self.network, self.loss, self.device = network.train(), loss, device
        self.settings, self.optimiser_settings = configuration.training, configuration.optimiser
        self.steps_per_epoch = steps_per_epoch or self.settings.steps_per_epoch
        self.total_steps = (epochs or self.settings.epochs) * self.steps_per_epoch
        self.time_budget_s, self.seed, self.clock = time_budget_s, seed, clock
        self.parameters = [weight for weight in network.parameters() if weight.requires_grad]
        self.optimiser = build_optimiser(self.parameters, self.optimiser_settings)
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
        self.began = self.epoch_began = clock()
        self.share = 0.0  # of the training behind; looked up once a step, so that all who ask agree

    def restore(self, state: TrainingState) -> None:
        """Go on where a state stands."""
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
        self.share = self.measure_share()

    def capture(self) -> TrainingState:
        """Where it stands now, in copies."""
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
        if self.time_budget_s is not None:
            return min(self.elapsed_s / self.time_budget_s, 1.0)
        return min(self.step / self.total_steps, 1.0)

    def is_done(self) -> bool:
        """The planned length is reached."""
        return self.share >= 1

    def epoch_is_over(self) -> bool:
        """The running epoch has all its steps, or the training ends within it."""
        return self.sums.steps >= self.steps_per_epoch or (self.sums.steps > 0 and self.is_done())

    def take_step(self, batches: BatchSource) -> None:
        """One batch, one move of the weights, or none where the loss is not finite."""
        started = self.clock()
        image, target = batches.batch(self.step)
        loaded = self.clock()
        rate = learning_rate(self.optimiser_settings, self.measure_share())
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed((self.seed * 1_000_003 + self.step) % 2**63)
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]  # running statistics, if any
        try:
            value = self._move(image, target)
        except RuntimeError as error:
            if not is_memory_shortage(error):
                raise
            self.optimiser.zero_grad(set_to_none=True)
            for buffer, before in buffers:
                buffer.copy_(before)
            part = (len(image) // self.settings.accumulation, *image.shape[1:])
            where = "the GPU" if self.device.type == "cuda" else "the machine"
            raise MemoryShortageError(
                f"{where} ran out of memory at step {self.step + 1} with {part[0]} samples of shape {part[1:]} at once"
            ) from error
        if math.isnan(value):
            for buffer, before in buffers:
                buffer.copy_(before)
        self.step += 1
        self.failures = self.failures + 1 if math.isnan(value) else 0
        self.sums = replace(
            self.sums,
            steps=self.sums.steps + 1,
            skipped=self.sums.skipped + math.isnan(value),
            loss=self.sums.loss + (0.0 if math.isnan(value) else value),
            data_s=self.sums.data_s + loaded - started,
            compute_s=self.sums.compute_s + self.clock() - loaded,
        )
        self.share = self.measure_share()
        if self.failures >= MAX_FAILURES:
            raise TrainingError(
                f"the loss or its gradient was not finite {MAX_FAILURES} steps in a row (epoch {self.epoch + 1}, step "
                f"{self.step}); lower optimiser.learning_rate in the plan or set training.precision to float32"
            )

    def _move(self, image: Tensor, target: Tensor) -> float:
        """Forward, backward and step; the loss, or NaN when it was not finite and the weights were left alone."""
        self.optimiser.zero_grad(set_to_none=True)
        parts = self.settings.accumulation
        value = 0.0
        for part in zip(image.chunk(parts), target.chunk(parts), strict=True):
            value += self._add_gradient(*part, parts)
            if not math.isfinite(value):
                return math.nan
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.optimiser_settings.gradient_clip or math.inf)
        if not self.scaler.is_enabled() and not math.isfinite(float(norm)):  # an enabled scaler skips by itself
            return math.nan
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averaged is not None:
            move_average(self.averaged, self.network.state_dict(), decay=self.settings.ema_decay, step=self.step)
        return value

    def _add_gradient(self, image: Tensor, target: Tensor, parts: int) -> float:
        """Forward and backward of one of the equal parts of a batch; its share of the batch's loss."""
        image = image.to(self.device, non_blocking=True)
        target = target.to(self.device, non_blocking=True)
        half = self.precision is not torch.float32
        with torch.autocast(self.device.type, dtype=self.precision if half else None, enabled=half):
            outputs = self.network(image)
        loss = self.loss(outputs, target) / parts
        value = float(loss.detach())
        if math.isfinite(value):
            self.scaler.scale(loss).backward()
        return value

    def close_epoch(self, validate: Validate | None) -> EpochFacts:
        """Validate if it is time to, and sum the epoch up."""
        self.epoch += 1
        due = self.epoch % self.settings.validation_interval == 0 or self.is_done()
        score = self._validate(validate) if validate is not None and due else None
        self.share = self.measure_share()
        sums, counted = self.sums, self.sums.steps - self.sums.skipped
        facts = EpochFacts(
            epoch=self.epoch,
            train_loss=sums.loss / counted if counted else math.nan,
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

    def _validate(self, validate: Validate) -> float | None:
        """Score the weights that would be kept; remember the best. None where the score is undefined."""
        current = None if self.averaged is None else copy_tensors(self.network.state_dict())
        if self.averaged is not None:
            self.network.load_state_dict(self.averaged)
        self.network.eval()
        try:
            with torch.no_grad():
                score = validate(self.network)
            if score is None or not math.isfinite(score):
                log.warning("epoch %d: validation gave no score", self.epoch)
                return None
            if self.best_score is None or score >= self.best_score:  # of equals, the longer trained
                self.best_score, self.best_epoch = score, self.epoch
                self.best = copy_tensors(self.network.state_dict())
            return score
        finally:
            self.network.train()
            if current is not None:
                self.network.load_state_dict(current)

    def report(self) -> tuple[int, int, str]:
        """Done, total and a clause, for the progress callback."""
        counted = self.sums.steps - self.sums.skipped
        loss = f"loss {self.sums.loss / counted:.4f}" if counted else "no loss yet"
        text = f"training, epoch {self.epoch + 1}, {loss}"
        if self.time_budget_s is not None:
            return min(int(self.elapsed_s), int(self.time_budget_s)), int(self.time_budget_s), f"{text}, seconds"
        return self.step, self.total_steps, text
