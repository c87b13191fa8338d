"""The training loop: steps, epochs, validation, and stopping at any step without losing one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

import torch
from torch import nn

from autoseg.core.errors import MemoryShortageError, TrainingError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Configuration
from autoseg.networks import Part
from autoseg.training.acceleration import Acceleration, StepTimer, accelerate
from autoseg.training.distributed import ALONE, Ranks
from autoseg.training.run import BatchSource, DeepLoss, Length, Run
from autoseg.training.state import EpochFacts, TrainingState

Validate = Callable[[nn.Module], float | None]
OnEpoch = Callable[[EpochFacts, TrainingState], None]


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
    on_pause: Callable[[TrainingState], None] = lambda state: None,
    on_failure: Callable[[TrainingState], None] = lambda state: None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
    seed: int = 0,
    ranks: Ranks = ALONE,
    parts: Mapping[str, Part] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingState:
    """Train a network until the planned length, the time budget or a stop; the network keeps its last weights.

    On a CPU the outcome depends on the arguments alone: a training that was stopped at any step, saved and resumed
    ends with the same weights, bit for bit, as one that was not.

    Args:
        network: ``forward(x) -> list of logits``, finest first; on ``device``.
        configuration: optimiser and training settings.
        batches: gives the batch of each step, or this rank's share of it.
        loss: of the outputs and the target.
        device: where to train.
        time_budget_s: seconds of training, over all resumptions; then ``epochs`` does not count, and the learning
            rate follows the clock. The last validation comes on top.
        epochs, steps_per_epoch: instead of the configuration's.
        state: where an earlier call ended.
        validate: score of a network in evaluation mode, higher is better; None or NaN leaves the best as it is.
        on_epoch: called after every epoch.
        on_pause: called between two steps, ``checkpoint_minutes`` after the last call of it or of ``on_epoch``.
        on_failure: called with the last good state before an error is raised: no memory, or a loss that is not finite.
        should_stop: asked after every step and every validation; what is stopped within a validation validates again
            when it goes on, so a ``validate`` that ends early then changes nothing.
        progress: told after every step: steps of all, or seconds of the budget.
        seed: of random layers (dropout), whose stream is seeded anew at every step.
        ranks: of this process among those that train together; only the first one calls the functions above, except
            ``should_stop``, where any one's word counts.
        parts: name of every parameter and buffer -> its part of the network, needed with ``configuration.transfer``.
        clock: seconds.

    Returns:
        Where it stands; ``finished`` is False after a stop.

    Raises:
        TrainingError: the loss was not finite several steps in a row; the network keeps the last good weights.
        ModelError: the state is of another network.
        MemoryShortageError: the device or the machine has too little memory; the network keeps its weights.
    """
    began, length = clock(), Length.of(configuration.training, time_budget_s, epochs, steps_per_epoch)
    hooks = _Hooks(validate, on_epoch, on_pause, on_failure, should_stop, progress)
    with _reproducible(device):
        forward = _choose_forward(network, configuration, batches, loss, device, length, state, ranks)
        run = Run(
            network, forward, configuration, loss, device, length, seed, ranks, clock, began,
            validates=validate is not None, parts=parts or {},
        )  # fmt: skip
        if state is not None:
            run.restore(state)
        _go_on(run, batches, hooks)
    return run.capture()


def _choose_forward(
    network: nn.Module,
    configuration: Configuration,
    batches: BatchSource,
    loss: DeepLoss,
    device: torch.device,
    length: Length,
    state: TrainingState | None,
    ranks: Ranks,
) -> Acceleration:
    """How the network is computed, tried on the batch that comes next."""
    bench = StepTimer(
        network=network.train(),
        configuration=configuration,
        loss=loss,
        device=device,
        draw=lambda: batches.batch(0 if state is None else state.step),
        total_s=length.total_s,
    )
    return accelerate(bench, before=None if state is None else state.acceleration, ranks=ranks)


class _Hooks(NamedTuple):
    """What ``train_fold`` was given to call."""

    validate: Validate | None
    on_epoch: OnEpoch
    on_pause: Callable[[TrainingState], None]
    on_failure: Callable[[TrainingState], None]
    should_stop: Callable[[], bool]
    progress: Progress


def _go_on(run: Run, batches: BatchSource, hooks: _Hooks) -> None:
    """Steps and epochs, to the end or to a stop."""
    ranks = run.ranks
    while True:
        if run.epoch_is_over():
            score = run.score(hooks.validate)
            if ranks.any(hooks.should_stop()):
                return
            facts = run.close_epoch(score)
            if ranks.leads:
                hooks.on_epoch(facts, run.capture())
        if run.is_done():
            return
        try:
            run.take_step(batches)
        except (MemoryShortageError, TrainingError):
            with suppress(RuntimeError, MemoryError):  # the copies may be too much as well
                if ranks.leads:
                    hooks.on_failure(run.capture())
            raise
        if ranks.leads:
            hooks.progress(*run.report())
        if ranks.any(hooks.should_stop()):
            return
        if ranks.leads and run.pause_is_due():
            hooks.on_pause(run.capture())


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
