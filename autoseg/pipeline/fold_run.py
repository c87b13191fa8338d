"""One fold's folder: resume, train, keep history and checkpoints, write the weights."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import autoseg
from autoseg.batches import Batches
from autoseg.core.errors import ModelError
from autoseg.core.masks import stack_inputs
from autoseg.core.parallel import Progress
from autoseg.core.records import Fold, Outputs, Plan, PreparedCase, TrainedFold
from autoseg.core.store import hash_settings, read_record, write_bytes, write_record, write_text
from autoseg.losses import DeepLoss, build_loss
from autoseg.model import WEIGHTS, fold_folder, planned_network, save_plan, save_weights
from autoseg.pipeline.machine import name_device
from autoseg.planning import relieve
from autoseg.prediction import predict_logits
from autoseg.training import EpochFacts, TrainingState, load_state, save_state, train_fold

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
FACTS = "fold.json"
HISTORY = "history.jsonl"


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
    ) -> None:
        self.plan, self.name, self.fold_name, self.fold = plan, name, fold_name, fold
        self.configuration = plan.configurations[name]
        self.folder, self.here = folder, fold_folder(folder, fold_name)
        self.device, self.time_budget_s = device, time_budget_s
        self.rows: list[dict[str, float | int | None]] = []

    def is_finished(self) -> bool:
        """True once the final weights are on disk."""
        return (self.here / WEIGHTS).exists()

    def mask_path(self, case_id: str) -> Path:
        """Where the mask of a held-out case lies, or will lie."""
        return mask_path(self.here, case_id)

    def is_complete(self) -> bool:
        """True once every held-out case has its mask, too."""
        return self.is_finished() and all(self.mask_path(case).exists() for case in self.fold.validation)

    def check_former(self) -> None:
        """What was trained before must be what is asked for now.

        Raises:
            ModelError: the fold was trained with other cases or from another seed.
        """
        if not (self.here / FACTS).exists():
            return
        former = read_facts(self.here, remedy="begin anew with --restart")
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

    def fit(self, prepared: dict[str, PreparedCase], should_stop: Callable[[], bool], progress: Progress) -> None:
        """The training itself: resume, loop, and the final weights."""
        state = self._resume()
        network = planned_network(self.plan, self.name, seed=self.plan.seed).to(self.device)
        stream = hash_fold(self.fold_name)
        with Batches(
            [prepared[case] for case in self.fold.train],
            self.configuration,
            seed=(self.plan.seed, stream),
            workers=torch.get_num_threads(),
            mask_values=self.plan.mask_values(self.name),
            ignore_label=self.plan.ignore_label,
            pin_memory=self.device.type == "cuda",
        ) as batches:
            state = train_fold(
                network,
                self.configuration,
                batches,
                loss=self._loss(),
                device=self.device,
                time_budget_s=self.time_budget_s,
                state=state,
                validate=self._quick_validation(prepared),
                on_epoch=self._keep,
                on_shortage=self._write_state,
                should_stop=should_stop,
                progress=progress,
                seed=self.plan.seed,
            )
        self._write_state(state)
        if state.finished:
            save_weights(self.folder, self.fold_name, state.final_weights())

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

    def _loss(self) -> DeepLoss:
        return build_loss(
            self.configuration.loss,
            regions=tuple(self.plan.regions.values()),
            ignore_label=self.plan.ignore_label,
        )

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
        """After each epoch: history first, checkpoint last, so that a checkpoint never lacks its history."""
        self.rows.append(facts.to_row())
        write_text(self.here / HISTORY, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._write_state(state)
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

    def _write_state(self, state: TrainingState) -> None:
        write_bytes(self.here / CHECKPOINT, save_state(state))
        write_record(
            self.here / FACTS,
            TrainedFold(
                fold=self.fold_name,
                seed=self.plan.seed,
                device=name_device(self.device),
                epochs=state.epoch,
                steps=state.step,
                elapsed_s=round(state.elapsed_s, 1),
                time_budget_s=self.time_budget_s,
                finished=state.finished,
                train=self.fold.train,
                validation=self.fold.validation,
                versions={"autoseg": autoseg.__version__, "torch": importlib.metadata.version("torch")},
            ),
        )

    def _quick_validation(self, prepared: dict[str, PreparedCase]) -> Callable[[nn.Module], float | None] | None:
        """Mean Dice over a few whole held-out volumes on the preprocessed grid, without mirroring."""
        chosen = self.fold.validation[: self.configuration.training.validation_cases]
        if not chosen:
            return None
        tiling = self.configuration.tiling.model_copy(update={"mirror_axes": ()})
        outputs, masks = self.plan.outputs, self.plan.mask_values(self.name)

        def validate(network: nn.Module) -> float | None:
            dices: list[float] = []
            for case_id in chosen:
                case = prepared[case_id]
                assert case.label is not None  # training cases are labelled
                inputs = stack_inputs(case.image, case.prior, masks)
                logits = predict_logits([network], inputs, tiling, outputs=len(outputs.values), device=self.device)
                dices += quick_dice(logits, case.label, self.plan, outputs)
            return float(np.mean(dices)) if dices else None

        return validate


def quick_dice(logits: np.ndarray, label: np.ndarray, plan: Plan, outputs: Outputs) -> list[float]:
    """Dice of each foreground class or region that the label holds.

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


def mask_path(here: Path, case_id: str) -> Path:
    """Where a fold's folder holds the mask of a case that it held out."""
    return here / "validation" / f"{case_id}.nii.gz"


def read_facts(here: Path, *, remedy: str) -> TrainedFold:
    """What was trained in a fold's folder."""
    return read_record(TrainedFold, here / FACTS, remedy=remedy)


def hash_fold(fold_name: str) -> int:
    """A number of its own for each fold's random stream."""
    return int(hash_settings(fold_name), 16) % 2**31


def read_history(folder: Path) -> list[dict[str, float | int | None]]:
    """The rows of a fold's history, one per epoch; none before the first."""
    path = folder / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
