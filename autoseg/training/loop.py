"""The training loop: learning rate, forward, backward, clip, step, average, validation and checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from autoseg.core.devices import choose_precision
from autoseg.core.errors import MemoryShortageError, TrainingError, is_memory_shortage
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Configuration
from autoseg.training.acceleration import Backend, StepTimer, choose_backend
from autoseg.training.distributed import ALONE, Ranks
from autoseg.training.freezing import FACTOR
from autoseg.training.length import TrainingLength
from autoseg.training.optimisation import learning_rate, move_average
from autoseg.training.state import EpochFacts, TrainingState, copy_tensors

log = logging.getLogger(__name__)

MAX_FAILURES = 3  # steps in a row whose loss is not finite
LOSS_EMA_DECAY = 0.9  # of the moving average of the epochs' losses

DeepLoss = Callable[[Sequence[Tensor], Tensor], Tensor]


class BatchSource(Protocol):
    """Batches by number and stage: (B,C,*patch) float32 and (B,*patch) integer."""

    def batch(self, step: int, stage: int) -> tuple[Tensor, Tensor]:
        """The image and target of one step of a stage, as ``TrainingSettings.stage_at`` numbers them."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Functions that the loop calls; with several processes, only the first one's, except ``should_stop``.

    Attributes:
        validate: score of a network in evaluation mode, higher is better; None or NaN leaves the best as it is.
        on_epoch: called with the facts of every epoch.
        on_checkpoint: called with the state, to be captured at once: after every epoch, between two steps
            ``checkpoint_minutes`` after the last call, and before an error is raised.
        should_stop: called after every step and every validation, in all processes; one True stops all. A training
            that is stopped while validating validates again when resumed, so ``validate`` may then end early.
        progress: called after every step: steps of all, or seconds of the budget.
    """

    validate: Callable[[nn.Module], float | None] | None = None
    on_epoch: Callable[[EpochFacts], None] = lambda facts: None
    on_checkpoint: Callable[[TrainingState], None] = lambda state: None
    should_stop: Callable[[], bool] = lambda: False
    progress: Progress = no_progress


def train_fold(  # noqa: PLR0912, PLR0915 (one algorithm, read from top to bottom)
    state: TrainingState,
    configuration: Configuration,
    batches: BatchSource,
    loss: DeepLoss,
    *,
    time_budget_s: float | None = None,
    hooks: Hooks = Hooks(),
    ranks: Ranks = ALONE,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train until the planned length, the time budget or a stop; ``state.finished`` is False after a stop.

    On a CPU the outcome depends on the arguments alone: a training that was stopped at any step, captured and restored
    ends with the same weights, bit for bit, as one that was not.

    Args:
        state: of a new training, or restored from a checkpoint; changed in place.
        configuration: optimiser and training settings.
        batches: the batch of each step, or this rank's share of it.
        loss: of the outputs and the target.
        time_budget_s: seconds of training, over all resumptions, instead of the planned epochs; the learning rate
            follows the clock. The last validation comes on top.
        hooks: functions to call.
        ranks: of this process among those that train together.
        clock: seconds.

    Raises:
        TrainingError: the loss was not finite several steps in a row; the network keeps the last good weights.
        MemoryShortageError: the device or the machine has too little memory; the network keeps its weights.
    """
    settings, length = configuration.training, TrainingLength.of(configuration.training, time_budget_s)
    watched = watched_value(configuration, validates=hooks.validate is not None)
    ticked = saved = clock()
    with _reproducible(state.device):
        timer = StepTimer(
            network=state.network,
            configuration=configuration,
            loss=loss,
            draw=lambda: batches.batch(state.step, settings.stage_at(state.progress)),
            length=length,
        )
        backend = choose_backend(timer, previous=state.acceleration, ranks=ranks)
        state.acceleration = backend.name
        state.progress = length.progress(state, ranks)
        state.finished = state.sums.steps == 0 and state.is_over(settings)
        while not state.finished:
            if not state.epoch_is_over(settings):  # it is over where a stop came while validating
                if (phase := state.freezing.phase_at(state.progress)) > state.phase:
                    log.info("step %d: training the encoder from here on, with a new optimiser", state.step + 1)
                    state.begin_phase(phase, configuration)
                try:
                    requested = clock()
                    image, target = batches.batch(state.step, settings.stage_at(state.progress))
                    loaded = clock()
                    with _undone_on_failure(state, image, configuration, ranks) as undo:
                        value = training_step(state, configuration, image, target, loss, backend, ranks, undo)
                        state.record_loss(value, wait=state.sums.steps + 1 >= settings.steps_per_epoch)
                    now = clock()
                    state.record_step(data_s=loaded - requested, compute_s=now - loaded, total_s=now - ticked)
                    ticked = now
                    state.progress = length.progress(state, ranks)
                    if state.failures >= MAX_FAILURES:
                        raise TrainingError(
                            f"the loss or its gradient was not finite {MAX_FAILURES} steps in a row (epoch "
                            f"{state.epoch + 1}, step {state.step}); lower optimiser.learning_rate in the plan or set "
                            f"training.precision to float32"
                        )
                except (MemoryShortageError, TrainingError):
                    with suppress(RuntimeError, MemoryError):  # memory may not suffice for the copies either
                        if ranks.leads:
                            hooks.on_checkpoint(state)
                    raise
                if ranks.leads:
                    hooks.progress(*length.describe_progress(state))
                if ranks.any(hooks.should_stop()):
                    return
                if ranks.leads and ticked - saved >= 60 * settings.checkpoint_minutes:
                    hooks.on_checkpoint(state)
                    saved = ticked
            if state.epoch_is_over(settings):
                score = None
                if hooks.validate is not None and state.validation_is_due(settings):
                    score = ranks.from_first(validate(state, hooks.validate) if ranks.leads else None)
                if ranks.any(hooks.should_stop()):
                    return
                now = clock()
                facts = state.close_epoch(score, seconds=now - ticked, keep_best=ranks.leads)
                ticked = saved = now
                detect_plateaus(state, configuration, facts, watched)
                state.progress = length.progress(state, ranks)
                state.finished = state.is_over(settings)
                if ranks.leads:
                    hooks.on_epoch(facts)
                    hooks.on_checkpoint(state)


def training_step(
    state: TrainingState,
    configuration: Configuration,
    image: Tensor,
    target: Tensor,
    loss: DeepLoss,
    backend: Backend,
    ranks: Ranks,
    undo: Callable[[Tensor | None], None],
) -> Tensor:
    """One step of the optimiser, taken by all processes or by none. On a GPU nothing here waits for its end.

    Args:
        state: changed in place.
        configuration: optimiser and training settings.
        image: (B,C,*patch) float32, this process's share of the batch.
        target: (B,*patch) integer.
        loss: of the outputs and the target.
        backend: computes the network.
        ranks: of this process.
        undo: puts running statistics back, unless the bool on the device that it is given is True.

    Returns:
        The loss of the whole batch, one number on the device; NaN where it or its gradient was not finite, which leaves
        the weights unchanged.
    """
    settings, optimiser, scaler, device = configuration.training, state.optimiser, state.scaler, state.device
    rate = learning_rate(configuration.optimiser, state.progress, reductions=state.plateau.reductions)
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)
    torch.manual_seed((state.seed * 1_000_003 + state.step + (ranks.rank << 40)) % 2**63)
    optimiser.zero_grad(set_to_none=True)

    precision = choose_precision(settings, device)
    half = precision is not torch.float32
    parts = count_parts(len(image), settings.accumulation, ranks.world)
    value = torch.zeros((), device=device)
    for image_part, target_part in zip(image.chunk(parts), target.chunk(parts), strict=True):
        inputs = image_part.to(device, non_blocking=True).contiguous(memory_format=backend.layout)
        labels = target_part.to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=precision if half else None, enabled=half):
            outputs = backend.network(inputs)
        part_loss = loss(outputs, labels) / parts
        value += part_loss.detach()
        scaler.scale(_spread_nan(part_loss)).backward()
        del inputs, labels, outputs, part_loss  # memory holds one part at a time

    parameters = state.freezing.parameters()
    ranks.average([*(weight.grad for weight in parameters if weight.grad is not None), value])
    ranks.share_buffers(state.network.buffers())
    scaler.unscale_(optimiser)
    norm = nn.utils.clip_grad_norm_(parameters, configuration.optimiser.gradient_clip or math.inf)
    finite = torch.isfinite(value)
    if not scaler.is_enabled():  # an enabled scaler skips a step whose gradient alone is not finite, which counts
        finite = finite & torch.isfinite(norm)
    taken = finite if device.type == "cuda" else None  # there, the step is taken or not on the device
    if taken is None and not finite:
        undo(None)
        return torch.full_like(value, math.nan)
    if taken is not None:
        undo(taken)
        if not scaler.is_enabled():
            optimiser.found_inf = (~finite).float()  # type: ignore[attr-defined]
    scaler.step(optimiser)
    scaler.update()
    if state.averaged is not None:
        current = state.network.state_dict()
        move_average(state.averaged, current, decay=settings.ema_decay, step=state.step, taken=taken)
    return torch.where(finite, value, math.nan)


def _spread_nan(loss: Tensor) -> Tensor:
    """The loss; one that is not finite becomes NaN, and so does every slope of it, in all processes that average."""
    return loss * torch.where(torch.isfinite(loss.detach()), 1.0, math.nan)


def count_parts(samples: int, accumulation: int, world: int) -> int:
    """The smallest number of equal parts of this process's samples that are no larger than the planned parts."""
    largest = max(1, samples * world // accumulation)
    return next(parts for parts in range(1, samples + 1) if samples % parts == 0 and samples // parts <= largest)


def validate(state: TrainingState, score: Callable[[nn.Module], float | None]) -> float | None:
    """Score of the weights that would be kept, None where it is undefined; the network's own weights are put back."""
    network, current = state.network, None
    if state.averaged is not None:
        current = copy_tensors(network.state_dict())
        network.load_state_dict(state.averaged)
    network.eval()
    try:
        with torch.no_grad():
            value = score(network)
    finally:
        network.train()
        state.freezing.freeze_norms()
        if current is not None:
            network.load_state_dict(current)
    if value is None or not math.isfinite(value):
        log.warning("epoch %d: validation gave no score", state.epoch + 1)
        return None
    return value


def watched_value(configuration: Configuration, *, validates: bool) -> str:
    """The value that the ``plateau`` schedule watches; without validation, it is the loss, which is logged."""
    optimiser, training = configuration.optimiser, configuration.training
    if training.stop_patience is not None and not validates:
        log.warning("nothing is validated while training, so stop_patience has no effect")
    if optimiser.schedule == "plateau" and optimiser.watch == "validation_dice" and not validates:
        log.warning("nothing is validated while training, so the learning-rate schedule follows the loss")
        return "train_loss"
    return optimiser.watch


def detect_plateaus(state: TrainingState, configuration: Configuration, facts: EpochFacts, watched: str) -> None:
    """Update the detectors of the learning rate and of early stopping; undefined values are skipped."""
    settings, optimiser, loss, score = (
        configuration.training, configuration.optimiser, facts.train_loss, facts.validation_dice,
    )  # fmt: skip
    if math.isfinite(loss):
        previous = loss if state.loss_average is None else state.loss_average
        state.loss_average = LOSS_EMA_DECAY * previous + (1 - LOSS_EMA_DECAY) * loss
    value, margin = score, settings.min_improvement
    if watched == "train_loss":
        margin = 0.0
        value = -state.loss_average if state.loss_average is not None and math.isfinite(loss) else None
    if optimiser.schedule == "plateau" and state.plateau.update(value, margin=margin, patience=optimiser.patience):
        rate = learning_rate(optimiser, 1.0, reductions=state.plateau.reductions)
        log.info("epoch %d: no improvement, the learning rate falls to %.2g", state.epoch, rate)
    patience = settings.stop_patience
    if patience is not None and state.stopping.update(score, margin=settings.min_improvement, patience=patience):
        log.info(
            "epoch %d: no validation improved on %.4f %d times in a row, so the training ends here; "
            "it keeps the %s of this epoch",
            state.epoch,
            state.stopping.best,
            patience,
            "weights" if state.averaged is None else "averaged weights",
        )


@contextmanager
def _undone_on_failure(
    state: TrainingState, image: Tensor, configuration: Configuration, ranks: Ranks
) -> Iterator[Callable[[Tensor | None], None]]:
    """Leave no gradient and no changed running statistics behind where a step raises; yields what undoes a step.

    Raises:
        MemoryShortageError: memory ran out within the block.
    """
    statistics = [(buffer, buffer.clone()) for buffer in state.network.buffers()]

    def undo(unless: Tensor | None = None) -> None:
        if unless is None:
            state.optimiser.zero_grad(set_to_none=True)
        for buffer, before in statistics:
            buffer.copy_(before if unless is None else torch.where(unless, buffer, before))

    try:
        yield undo
    except (RuntimeError, MemoryError, TrainingError) as error:
        undo()
        if isinstance(error, TrainingError) or not is_memory_shortage(error):
            raise
        samples = len(image) // count_parts(len(image), configuration.training.accumulation, ranks.world)
        where = "the GPU" if state.device.type == "cuda" else "the machine"
        raise MemoryShortageError(
            f"{where} ran out of memory at step {state.step + 1} with {samples} samples of shape "
            f"{tuple(image.shape[1:])} at once"
        ) from error


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
