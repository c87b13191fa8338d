"""Records of a fold while it trains: history, checkpoints, facts, picture and trackers."""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import autoseg
from autoseg.core.background import BackgroundWriter
from autoseg.core.devices import name_device
from autoseg.core.errors import StorageError
from autoseg.core.records import TrainedFold
from autoseg.core.store import write_bytes, write_record
from autoseg.folds.files import CHECKPOINT, FACTS, PICTURE, Row, read_facts, read_history, write_history
from autoseg.folds.setup import FoldSetup
from autoseg.model import save_weights
from autoseg.reporting import Tracker, draw_progress, open_tracker
from autoseg.training import Checkpoint, EpochFacts, TrainingState, pack_checkpoint

log = logging.getLogger(__name__)

PICTURE_EVERY_S = 60.0


def repair_records(folder: Path) -> None:
    """Complete the records of a fold whose weights are written: a full disk or an interrupt may have cost others."""
    rows = read_history(folder)
    if (folder / FACTS).exists():
        facts = read_facts(folder, advice="start again with --restart")
        if not facts.finished:
            epochs, steps = len(rows), sum(int(row.get("steps") or 0) for row in rows)
            elapsed_s = round(float(rows[-1].get("elapsed_s") or 0), 1) if rows else facts.elapsed_s
            done = {"epochs": epochs, "steps": steps, "elapsed_s": elapsed_s} if epochs > facts.epochs else {}
            write_record(folder / FACTS, facts.model_copy(update={"finished": True, **done}))
    if rows and not (folder / PICTURE).exists():
        draw_history(folder)


def draw_history(folder: Path) -> None:
    """Draw the history of a fold; failing to write the picture is not an error."""
    with suppress(StorageError):
        write_bytes(folder / PICTURE, draw_progress(read_history(folder)))


class FoldRecorder:
    """Writes a fold's files while it trains, in a thread of its own; a context manager, which closes the trackers.

    Args:
        setup: the fold.
        rows: history up to the checkpoint that the training resumes from.
    """

    def __init__(self, setup: FoldSetup, rows: list[Row]) -> None:
        self.setup, self.rows = setup, rows
        self.trackers: list[Tracker] = []
        self.drawn_at = time.monotonic()

    def __enter__(self) -> Self:
        setup = self.setup
        with ExitStack() as stack:
            for kind in dict.fromkeys(setup.trackers) if setup.ranks.leads else ():
                self.trackers.append(open_tracker(kind, setup.folder, setup.name))
                stack.callback(self.trackers[-1].close)
            self.writer = stack.enter_context(BackgroundWriter())
            self.stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.__exit__(kind, error, trace)

    def record_epoch(self, facts: EpochFacts) -> None:
        """Append a row to the history, the trackers and the log."""
        self.rows.append(facts.to_row())
        for tracker in self.trackers:
            tracker.record(self.rows[-1])
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

    def save_in_background(self, state: TrainingState) -> None:
        """Capture the state, and write it while the training continues; a newer checkpoint replaces a waiting one."""
        checkpoint, facts, rows = state.capture(), self._facts(state), tuple(self.rows)
        self.writer.put(lambda: self._save_if_possible(checkpoint, facts, rows))

    def save_facts(self, state: TrainingState) -> None:
        """Write the facts alone, before the first checkpoint, so that every resume can be checked."""
        write_record(self.setup.folder / FACTS, self._facts(state))

    def save_end(self, state: TrainingState) -> None:
        """Write the final weights, or the checkpoint of a training that was stopped.

        The weights come last, so that a fold that has them lacks nothing; a checkpoint may fail where they fit.

        Raises:
            StorageError: they or the records could not be written.
        """
        if not state.finished:
            self._save(state.capture(), self._facts(state), self.rows)
            return
        self._save_if_possible(state.capture(), self._facts(state), self.rows)
        write_history(self.setup.folder, self.rows)
        write_record(self.setup.folder / FACTS, self._facts(state))
        self._draw()
        save_weights(self.setup.model_folder, self.setup.fold_name, state.final_weights())

    def _save_if_possible(self, checkpoint: Checkpoint, facts: TrainedFold, rows: Sequence[Row]) -> None:
        """Write a checkpoint, or warn: a full disk must not end the training as well."""
        try:
            self._save(checkpoint, facts, rows)
            if rows and time.monotonic() - self.drawn_at > PICTURE_EVERY_S:
                self._draw()
        except StorageError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else error
            log.warning(
                "the checkpoint of step %d was not written to %s (%s); the previous one is kept and the training "
                "continues",
                facts.steps,
                self.setup.folder,
                reason,
            )

    def _save(self, checkpoint: Checkpoint, facts: TrainedFold, rows: Sequence[Row]) -> None:
        """Write the history first, then the checkpoint, so that a checkpoint never lacks its history."""
        folder = self.setup.folder
        if rows:
            write_history(folder, rows)
        write_bytes(folder / CHECKPOINT, pack_checkpoint(checkpoint))
        write_record(folder / FACTS, facts)

    def _draw(self) -> None:
        self.drawn_at = time.monotonic()
        draw_history(self.setup.folder)

    def _facts(self, state: TrainingState) -> TrainedFold:
        setup, training = self.setup, self.setup.configuration.training
        return TrainedFold(
            fold=setup.fold_name,
            seed=setup.plan.seed,
            device=name_device(setup.device),
            epochs=state.epoch,
            steps=state.step,
            elapsed_s=round(state.elapsed_s, 1),
            time_budget_s=setup.time_budget_s,
            planned_epochs=training.epochs,
            steps_per_epoch=training.steps_per_epoch,
            acceleration=state.acceleration,
            finished=state.finished,
            train=setup.fold.train,
            validation=setup.fold.validation,
            versions={"autoseg": autoseg.__version__, "torch": importlib.metadata.version("torch")},
        )
