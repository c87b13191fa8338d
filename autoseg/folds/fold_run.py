"""One fold's folder: resume, train, keep history and checkpoints, write the weights."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

import autoseg
from autoseg.core.background import BackgroundWriter
from autoseg.core.devices import memory_kept, name_device
from autoseg.core.errors import ModelError, StorageError
from autoseg.core.parallel import Progress
from autoseg.core.records import Fold, Plan, PreparedCase, TrainedFold
from autoseg.core.store import hash_settings, read_record, write_bytes, write_record, write_text
from autoseg.folds.tasks import TrainingTask
from autoseg.model import WEIGHTS, fold_folder, save_plan, save_weights
from autoseg.planning import relieve
from autoseg.reporting import Tracker, draw_progress, open_tracker
from autoseg.training import ALONE, EpochFacts, Ranks, TrainingState, load_state, save_state, train_fold

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
FACTS = "fold.json"
HISTORY = "history.jsonl"
PICTURE = "progress.png"
PICTURE_EVERY_S = 60.0

Row = dict[str, float | int | None]


class FoldRun:
    """One fold's folder and what is known of it: the only place that reads and writes its files."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        fold_name: str,
        fold: Fold,
        folder: Path,
        device: torch.device,
        time_budget_s: float | None,
        lesson: TrainingTask,
        trackers: Sequence[str] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self.plan, self.name, self.fold_name, self.fold = plan, name, fold_name, fold
        self.configuration = plan.configurations[name]
        self.folder, self.here = folder, fold_folder(folder, fold_name)
        self.device, self.time_budget_s, self.lesson = device, time_budget_s, lesson
        self.rows: list[Row] = []
        self.former: TrainedFold | None = None
        self.writer: BackgroundWriter
        self.ranks = ranks
        self.tracker_names = tuple(dict.fromkeys(trackers)) if ranks.leads else ()
        self.trackers: list[Tracker] = []
        self.drawn_at = time.monotonic()

    def is_finished(self) -> bool:
        """True once the final weights are on disk."""
        return (self.here / WEIGHTS).exists()

    def mask_path(self, case_id: str) -> Path:
        """Where the mask of a held-out case lies, or will lie."""
        return mask_path(self.here, case_id)

    def is_predicted(self, case_id: str, *, probabilities: bool) -> bool:
        """Whether a held-out case has its mask, and its probabilities if they are wanted."""
        there = self.mask_path(case_id).exists()
        return there and (probabilities_path(self.here, case_id).exists() or not probabilities)

    def is_complete(self) -> bool:
        """True once every held-out case has its mask, too."""
        return self.is_finished() and all(self.mask_path(case).exists() for case in self.fold.validation)

    def check_previous_run(self) -> None:
        """What was trained before must be what is asked for now.

        Raises:
            ModelError: the fold was trained with other cases or from another seed.
        """
        if not (self.here / FACTS).exists():
            if (self.here / CHECKPOINT).exists():
                raise ModelError(
                    f"{self.here} has a {CHECKPOINT} but no {FACTS} that says which cases and seed it belongs to; put "
                    f"{FACTS} back, or begin anew with --restart"
                )
            return
        former = read_facts(self.here, advice="begin anew with --restart")
        self.former = former
        moved = set(former.train) ^ set(self.fold.train) | set(former.validation) ^ set(self.fold.validation)
        if moved:
            raise ModelError(
                f"{self.here} was trained on another split than folds.json now holds ({min(moved)} changed sides or is "
                f"new); put folds.json back, or begin anew with --restart"
            )
        if former.seed != self.plan.seed:
            raise ModelError(
                f"{self.here} was begun with seed {former.seed}, not {self.plan.seed}; say --seed {former.seed}, or "
                f"begin anew with --restart"
            )

    def warn_if_length_changed(self) -> None:
        """Say it when the training that goes on was begun with another length."""
        former, now = self.former, self._describe_length()
        if former is None or former.planned_epochs is None or former.steps_per_epoch is None:
            return
        before = describe_length(former.time_budget_s, former.planned_epochs, former.steps_per_epoch)
        if before != now:
            log.warning(
                "this training was begun for %s and goes on for %s; its learning rate follows that", before, now
            )

    def fit(self, prepared: dict[str, PreparedCase], should_stop: Callable[[], bool], progress: Progress) -> None:
        """The training itself: resume, loop, and the final weights.

        Raises:
            StorageError: the final weights, or the state after a stop, could not be written.
        """
        state = self._resume()
        if self.ranks.leads:
            self._write_facts(state)  # before the first checkpoint, so that every resume can be checked
        validate = self.lesson.validate(self.plan, self.name, self.fold, prepared, self.device, should_stop)
        network = self.lesson.network(self.plan, self.name, fresh=state is None).to(self.device)
        memory = self.plan.memory.get(self.name)
        needed_gb = None if memory is None else max(memory.predicted_gb, memory.measured_gb or 0.0)
        with (
            memory_kept(self.device, needed_gb, share=self.ranks.neighbours),
            self._tracked(),
            BackgroundWriter() as self.writer,
            self.lesson.batches(
                self.plan,
                self.name,
                [prepared[case] for case in self.fold.train],
                seed=(self.plan.seed, hash_fold(self.fold_name)),
                device=self.device,
                ranks=self.ranks,
            ) as batches,
        ):
            state = train_fold(
                network,
                self.configuration,
                batches,
                loss=self.lesson.loss(self.plan, self.name),
                device=self.device,
                time_budget_s=self.time_budget_s,
                state=state,
                validate=validate,
                on_epoch=self._keep,
                on_pause=self._keep_soon,
                on_failure=self._keep_soon,
                should_stop=should_stop,
                progress=progress,
                seed=self.plan.seed,
                ranks=self.ranks,
                parts=self.lesson.parts(self.plan, self.name),
            )
        if not self.ranks.leads:
            return
        if not state.finished:
            self._write(state)
            return
        self._try_to_write(state)
        save_weights(self.folder, self.fold_name, state.final_weights())
        self._draw()

    def relieve(self) -> str | None:
        """Go on in less memory from now on, in all folds of the model; says how, or None where nothing is left."""
        cheaper = relieve(self.configuration)
        if cheaper is None:
            return None
        self.configuration, how = cheaper
        configurations = {**self.plan.configurations, self.name: self.configuration}
        self.plan = self.plan.model_copy(update={"configurations": configurations})
        save_plan(self.folder, self.plan)
        return how

    def _resume(self) -> TrainingState | None:
        """The last checkpoint, and the history up to it."""
        path = self.here / CHECKPOINT
        if not path.exists():
            return None
        try:
            state = load_state(path.read_bytes())
        except ModelError as error:
            raise ModelError(f"{path}: {error}; begin anew with --restart") from error
        self.rows = read_history(self.here)[: state.epoch]
        log.info("resuming at epoch %d (%.0f s trained so far)", state.epoch + 1, state.elapsed_s)
        return state

    def _keep(self, facts: EpochFacts, state: TrainingState) -> None:
        """After each epoch: one more line of history, and a checkpoint."""
        self.rows.append(facts.to_row())
        for tracker in self.trackers:
            tracker.record(self.rows[-1])
        self._keep_soon(state)
        dice = "" if facts.validation_dice is None else f", validation Dice {facts.validation_dice:.4f}"
        log.info(
            "epoch %d: loss %.4f%s, learning rate %.2g, %.1f s (%.0f %% waiting for data)",
            facts.epoch,
            facts.train_loss,
            dice,
            facts.learning_rate,
            facts.epoch_s,
            100 * facts.data_s / max(facts.epoch_s, 1e-9),
        )

    def _keep_soon(self, state: TrainingState) -> None:
        """Let the writer write a checkpoint while the training goes on."""
        rows = tuple(self.rows)
        self.writer.put(lambda: self._try_to_write(state, rows))

    def _draw(self) -> None:
        """The history as a picture, which is no reason to fail."""
        self.drawn_at = time.monotonic()
        with suppress(StorageError):
            write_bytes(self.here / PICTURE, draw_progress(read_history(self.here)))

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        """Open the trackers before a step is taken, and close them however it ends."""
        with ExitStack() as stack:
            name = f"{self.plan.dataset} {self.name} fold {self.fold_name}"
            for kind in self.tracker_names:
                self.trackers.append(open_tracker(kind, self.here, name))
                stack.callback(self.trackers[-1].close)
            yield
        self.trackers.clear()

    def _try_to_write(self, state: TrainingState, rows: Sequence[Row] | None = None) -> None:
        """A checkpoint, or a warning: a full disk is no reason to lose the training as well."""
        try:
            self._write(state, rows)
            if rows and time.monotonic() - self.drawn_at > PICTURE_EVERY_S:
                self._draw()
        except StorageError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else error
            log.warning(
                "the checkpoint of step %d was not written to %s (%s); the one before stays, and the training goes on",
                state.step,
                self.here,
                reason,
            )

    def _write(self, state: TrainingState, rows: Sequence[Row] | None = None) -> None:
        """History first, then the checkpoint, so that a checkpoint never lacks its history."""
        rows = self.rows if rows is None else rows
        if rows:
            write_text(self.here / HISTORY, "".join(json.dumps(row) + "\n" for row in rows))
        write_bytes(self.here / CHECKPOINT, save_state(state))
        self._write_facts(state)

    def _write_facts(self, state: TrainingState | None) -> None:
        write_record(
            self.here / FACTS,
            TrainedFold(
                fold=self.fold_name,
                seed=self.plan.seed,
                device=name_device(self.device),
                epochs=0 if state is None else state.epoch,
                steps=0 if state is None else state.step,
                elapsed_s=0.0 if state is None else round(state.elapsed_s, 1),
                time_budget_s=self.time_budget_s,
                planned_epochs=self.configuration.training.epochs,
                steps_per_epoch=self.configuration.training.steps_per_epoch,
                acceleration=None if state is None else state.acceleration,
                finished=state is not None and state.finished,
                train=self.fold.train,
                validation=self.fold.validation,
                versions={"autoseg": autoseg.__version__, "torch": importlib.metadata.version("torch")},
            ),
        )

    def _describe_length(self) -> str:
        training = self.configuration.training
        return describe_length(self.time_budget_s, training.epochs, training.steps_per_epoch)


def describe_length(time_budget_s: float | None, epochs: int, steps_per_epoch: int) -> str:
    """How long a training is to be, in words."""
    if time_budget_s is not None:
        return f"{time_budget_s:g} s"
    return f"{epochs} epochs of {steps_per_epoch} steps"


def mask_path(here: Path, case_id: str) -> Path:
    """Where a fold's folder holds the mask of a case that it held out."""
    return here / "validation" / f"{case_id}.nii.gz"


def probabilities_path(here: Path, case_id: str) -> Path:
    """Where a fold's folder holds the probabilities of a case that it held out, if they are kept."""
    return here / "validation" / f"{case_id}.npz"


def read_facts(here: Path, *, advice: str) -> TrainedFold:
    """What was trained in a fold's folder."""
    return read_record(TrainedFold, here / FACTS, advice=advice)


def hash_fold(fold_name: str) -> int:
    """A number of its own for each fold's random stream."""
    return int(hash_settings(fold_name), 16) % 2**31


def read_history(folder: Path) -> list[Row]:
    """The rows of a fold's history, one per epoch; none before the first."""
    path = folder / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
