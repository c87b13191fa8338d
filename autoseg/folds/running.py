"""Run the training of one fold: resume, train, write the weights; with less memory where it runs out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from autoseg.core.devices import (
    keep_freed_memory,
    missing_operation_as_error,
    name_device,
    release_memory,
    shortage_as_error,
    use_cores,
)
from autoseg.core.errors import MemoryShortageError
from autoseg.core.parallel import Progress
from autoseg.core.records import PreparedCase
from autoseg.core.text import format_seconds
from autoseg.folds.files import FACTS, read_checkpoint, read_facts, read_history
from autoseg.folds.recording import FoldRecorder, repair_records
from autoseg.folds.setup import FoldSetup, check_previous_run
from autoseg.folds.tasks import TrainingTask
from autoseg.model import save_plan
from autoseg.planning import reduce_memory
from autoseg.training import Hooks, TrainingState, train_fold

log = logging.getLogger(__name__)

TIMED_STEPS = 5  # after the first one, which is slower
LEAST_STEPS = 100  # ahead; fewer are over before anyone has read how long they take
SMALLER = 0.8  # of the planned memory, as a first suggestion


def run_fold(
    setup: FoldSetup,
    task: TrainingTask,
    cases: Mapping[str, PreparedCase],
    *,
    save_memory: bool,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> None:
    """Train a fold to its end or to a stop, from its last checkpoint if there is one; a finished fold stays.

    Args:
        setup: the fold.
        task: to train on.
        cases: id -> preprocessed case.
        save_memory: where memory runs out, resume with a slower and exact step that needs less.
        should_stop: asked after every step.
        progress: of the steps, or of the time budget.

    Raises:
        ModelError: an earlier run had other cases, another seed or another network.
        TrainingError: the loss was not finite several steps in a row.
        MemoryShortageError: memory ran out.
        StorageError: the final weights or records, or the checkpoint after a stop, could not be written.
        UsageError: torch lacks an operation on the device.
    """
    threads = use_cores(share=setup.ranks.neighbours)
    torch.use_deterministic_algorithms(setup.device.type == "cpu")
    check_previous_run(setup)
    if setup.is_finished():
        if setup.ranks.leads:
            repair_records(setup.folder)
        log.info("%s is trained already; use --restart to train it again", setup.name)
        return
    count = f" x {setup.ranks.world}" if setup.ranks.world > 1 else ""
    log.info(
        "training %s on %s%s (%d threads): %s%s",
        setup.name,
        name_device(setup.device),
        count,
        threads,
        setup.describe_length(),
        _describe_time(setup),
    )
    while True:
        try:
            with missing_operation_as_error(setup.device):
                train_from_checkpoint(setup, task, cases, should_stop, progress)
            break
        except MemoryShortageError as error:
            reduced = reduce_memory(setup.configuration) if save_memory else None
            if reduced is None:
                raise MemoryShortageError(f"{error}; {_memory_advice(setup, tried=save_memory)}") from error
            configuration, saving = reduced
            log.warning("%s; resuming with %s", str(error), saving)  # or a handler may keep the step
        configurations = {**setup.plan.configurations, setup.configuration_name: configuration}
        release_memory(setup.device)  # of the attempt that failed, or the next one would fail for it
        setup = replace(setup, plan=setup.plan.model_copy(update={"configurations": configurations}))
        save_plan(setup.model_folder, setup.plan)  # for all folds of the model
    if setup.ranks.leads and not setup.is_finished():
        log.info("stopped; run the same command again to resume")


def train_from_checkpoint(
    setup: FoldSetup,
    task: TrainingTask,
    cases: Mapping[str, PreparedCase],
    should_stop: Callable[[], bool],
    progress: Progress,
) -> None:
    """Load the last checkpoint, train, and write what is left to write. Arguments as for ``run_fold``."""
    checkpoint = read_checkpoint(setup.folder)
    network = task.network(setup, fresh=checkpoint is None)
    with shortage_as_error(setup.device, f"the network of {setup.configuration_name} and its optimiser"):
        state = TrainingState.start(
            network.to(setup.device), setup.configuration, parts=task.parts(setup), seed=setup.plan.seed
        )
        if checkpoint is not None:
            state.restore(checkpoint, setup.configuration)
    if checkpoint is not None:
        log.info("resuming at epoch %d (%.0f s trained so far)", state.epoch + 1, state.elapsed_s)
    recorder = FoldRecorder(setup, read_history(setup.folder)[: state.epoch])
    if setup.ranks.leads:
        recorder.save_facts(state)
    memory = setup.plan.memory.get(setup.configuration_name)
    needed_gb = None if memory is None else max(memory.predicted_gb, memory.measured_gb or 0.0)
    with (
        keep_freed_memory(setup.device, needed_gb, share=setup.ranks.neighbours),
        recorder,
        task.batches(setup, [cases[case] for case in setup.fold.train]) as batches,
    ):
        train_fold(
            state,
            setup.configuration,
            batches,
            task.loss(setup),
            time_budget_s=setup.time_budget_s,
            hooks=Hooks(
                validate=task.validate(setup, cases, should_stop),
                on_epoch=recorder.record_epoch,
                on_checkpoint=recorder.save_in_background,
                should_stop=should_stop,
                progress=progress if setup.time_budget_s is not None else TimeAhead(progress),
            ),
            ranks=setup.ranks,
        )
    if setup.ranks.leads:
        recorder.save_end(state)


class TimeAhead:
    """A progress callback that logs once, after the first steps, how long the others will take.

    Args:
        progress: called as well.
        clock: seconds.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress, self.clock = progress, clock
        self.first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        """Take the step's time."""
        now = self.clock()
        if self.first is None:
            self.first = done, now
        elif done - self.first[0] == TIMED_STEPS and total - done >= LEAST_STEPS:
            step_s = (now - self.first[1]) / TIMED_STEPS
            log.info(
                "a step takes %.2g s, so the %s steps ahead take about %s; --time-budget limits it",
                step_s,
                f"{total - done:,}",
                format_seconds(step_s * (total - done)),
            )
        self.progress(done, total, what)


def _describe_time(setup: FoldSetup) -> str:
    """The time that the training will take by another fold of this model on the same device, as a clause."""
    training = setup.configuration.training
    if setup.time_budget_s is not None:
        return ""
    for path in sorted(setup.model_folder.glob(f"fold_*/{FACTS}")):
        facts = read_facts(path.parent, advice="train that fold again")
        if facts.fold != setup.fold_name and facts.device == name_device(setup.device) and facts.steps > 0:
            seconds = facts.elapsed_s / facts.steps * training.epochs * training.steps_per_epoch
            return f", about {format_seconds(seconds)} by fold {facts.fold}"
    return ""


def _memory_advice(setup: FoldSetup, *, tried: bool) -> str:
    plan, less = setup.plan, setup.plan.memory_gb * SMALLER
    smaller = f"plan for less: autoseg_plan -d {plan.dataset} --preset {plan.preset} --memory {less:.2g}"
    if tried:
        return f"--fit has no exact saving left, so {smaller}"
    return f"resume in less memory by adding --fit to this command, or {smaller}"
