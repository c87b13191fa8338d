"""``autoseg_train``: one fold of one configuration, then predictions and scores of its held-out cases."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

import autoseg
from autoseg.batches import Batches
from autoseg.core.arrays import is_prepared, read_prepared
from autoseg.core.errors import ModelError, StaleError, UsageError
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import (
    Case,
    Configuration,
    Dataset,
    Fold,
    Outputs,
    Plan,
    PreparedCase,
    Scores,
    TrainedFold,
)
from autoseg.core.store import Store, hash_settings, write_bytes, write_record, write_text
from autoseg.losses import DeepLoss, build_loss
from autoseg.model import (
    PLAN,
    WEIGHTS,
    Model,
    fold_folder,
    load_model,
    load_plan,
    planned_network,
    save_plan,
    save_weights,
)
from autoseg.pipeline.evaluating import score_masks, write_scores
from autoseg.pipeline.machine import choose_device, name_device, use_all_cores
from autoseg.pipeline.planning import arrays_folder, check_folds, open_raw, read_folds, read_plan, source_key
from autoseg.prediction import predict_case, predict_logits
from autoseg.report import draw_progress
from autoseg.training import EpochFacts, TrainingState, load_state, save_state, train_fold

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
FACTS = "fold.json"
HISTORY = "history.jsonl"


def train(
    store: Store,
    name: str,
    configuration_name: str,
    fold_name: str,
    *,
    device: str = "auto",
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    time_budget_s: float | None = None,
    seed: int | None = None,
    restart: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> Scores | None:
    """Train a fold, or go on where the last run of the same command stopped; then predict and score what was held out.

    Returns:
        Scores of the held-out cases; None for fold ``all`` and when ``should_stop`` ended it early.

    Raises:
        UsageError, PlanError, StaleError, TrainingError, StorageError: each says what to do.
    """
    target = choose_device(device)
    plan = _with_changes(read_plan(store, name), configuration_name, epochs, steps_per_epoch, seed)
    dataset = open_raw(store, name)
    fold = _choose_fold(store, name, dataset, fold_name)
    prepared = _read_arrays(store, dataset, plan.configurations[configuration_name], configuration_name, fold)
    folder = store.results(name, configuration_name)
    _claim(folder, fold_name, plan, configuration_name, restart)
    threads = use_all_cores()
    torch.use_deterministic_algorithms(target.type == "cpu")
    log.info(
        "training %s %s fold %s on %s (%d threads)", name, configuration_name, fold_name, name_device(target), threads
    )
    run = _Run(plan, configuration_name, fold_name, fold, folder, target, time_budget_s)
    if not run.is_finished():
        run.fit(prepared, should_stop, progress)
        if not run.is_finished():
            log.info("stopped; run the same command again to go on")
            return None
    if not fold.validation:
        return None
    return _validate(run, dataset, [prepared[case] for case in fold.validation], progress)


class _Run:
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

    def fit(self, prepared: dict[str, PreparedCase], should_stop: Callable[[], bool], progress: Progress) -> None:
        """The training itself: resume, loop, and the final weights."""
        state = self._resume()
        network = planned_network(self.plan, self.configuration, seed=self.plan.seed).to(self.device)
        stream = hash_fold(self.fold_name)
        with Batches(
            [prepared[case] for case in self.fold.train],
            self.configuration,
            seed=(self.plan.seed, stream),
            workers=torch.get_num_threads(),
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
                should_stop=should_stop,
                progress=progress,
                seed=self.plan.seed,
            )
        self._write_state(state)
        if state.finished:
            save_weights(self.folder, self.fold_name, state.final_weights())

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
        history = self.here / HISTORY
        lines = history.read_text().splitlines()[: state.epoch] if history.exists() else []
        self.rows = [json.loads(line) for line in lines]
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
        outputs = self.plan.outputs

        def validate(network: nn.Module) -> float | None:
            dices: list[float] = []
            for case_id in chosen:
                case = prepared[case_id]
                assert case.label is not None  # training cases are labelled
                logits = predict_logits([network], case.image, tiling, outputs=len(outputs.values), device=self.device)
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


def hash_fold(fold_name: str) -> int:
    """A number of its own for each fold's random stream."""
    return int(hash_settings(fold_name), 16) % 2**31


def _with_changes(plan: Plan, name: str, epochs: int | None, steps_per_epoch: int | None, seed: int | None) -> Plan:
    """The plan with what the command line sets, checked."""
    if name not in plan.configurations:
        raise UsageError(
            f"the plan of {plan.dataset} has no configuration '{name}'; it has: {', '.join(plan.configurations)}"
        )
    configuration = plan.configurations[name]
    changes = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    training = configuration.training.model_copy(update={k: v for k, v in changes.items() if v is not None})
    configurations = {**plan.configurations, name: configuration.model_copy(update={"training": training})}
    return plan.model_copy(update={"configurations": configurations, "seed": plan.seed if seed is None else seed})


def _choose_fold(store: Store, name: str, dataset: Dataset, fold_name: str) -> Fold:
    """The split of that name; ``all`` trains on every labelled case.

    Raises:
        UsageError: there is no such fold.
    """
    labelled = {case.id for case in dataset.cases if case.labels}
    if fold_name == "all":
        return Fold(train=tuple(sorted(labelled)), validation=())
    folds = read_folds(store, name)
    check_folds(folds, labelled, store.preprocessed(name) / "folds.json")
    if not fold_name.isdigit() or int(fold_name) >= len(folds.folds):
        raise UsageError(f"there is no fold '{fold_name}' of {name}; use 0 to {len(folds.folds) - 1}, or all")
    return folds.folds[int(fold_name)]


def _read_arrays(
    store: Store, dataset: Dataset, configuration: Configuration, name: str, fold: Fold
) -> dict[str, PreparedCase]:
    """Preprocessed cases of a fold, certain to be made from these files with these settings.

    Raises:
        StaleError: arrays are missing, or older than the plan or the raw files.
    """
    folder = arrays_folder(store.preprocessed(dataset.name), configuration.preprocessing)
    remedy = f"make them with: autoseg_plan -d {dataset.name} --keep"
    if not folder.exists():
        raise StaleError(f"there are no arrays with the preprocessing that the plan now gives '{name}'; {remedy}")
    ids = [*fold.train, *fold.validation]
    cases: dict[str, Case] = {case.id: case for case in dataset.cases}
    old = [case for case in ids if not is_prepared(folder, case, source_key(cases[case]))]
    if old:
        raise StaleError(
            f"the arrays of {len(old)} cases are missing or older than their scans ({old[0]} ...); {remedy}"
        )
    return {case.id: case for case in read_prepared(folder, ids, remedy=remedy)}


def _claim(folder: Path, fold_name: str, plan: Plan, name: str, restart: bool) -> None:
    """Make the model folder the plan's own, or refuse: folds of one model must come from one plan.

    Raises:
        ModelError: what was trained there was planned otherwise.
    """
    here = fold_folder(folder, fold_name)
    if restart and here.exists():
        shutil.rmtree(here)
        log.info("removed %s to begin anew", here)
    if (folder / PLAN).exists() and any(folder.glob("fold_*")):
        before = load_plan(folder)
        if _identity(before, name) != _identity(plan, name):
            raise ModelError(
                f"{folder} holds folds trained with another plan of '{name}'; give the configuration a new name in "
                f"plan.json, move that folder away, or begin anew with --restart (for every fold in it)"
            )
        return
    save_plan(folder, plan)


def _identity(plan: Plan, name: str) -> str:
    """What must be equal for folds to belong to one model: everything but how long they trained and the seed."""
    configuration = plan.configurations[name]
    training = configuration.training.model_copy(update={"epochs": 1, "steps_per_epoch": 1})
    return hash_settings(
        configuration.model_copy(update={"training": training}), plan.channels, plan.labels, plan.regions
    )


def _validate(run: _Run, dataset: Dataset, cases: Sequence[PreparedCase], progress: Progress) -> Scores:
    """Predict the held-out cases on their own grids and score them; masks that are there already stay."""
    target = run.here / "validation"
    sources = {case.id: case for case in dataset.cases}
    todo = [case for case in cases if not (target / f"{case.id}.nii.gz").exists()]
    if todo:
        model: Model = load_model(run.folder, [run.fold_name], run.device)
        for done, case in enumerate(todo):
            progress(done, len(todo), "predicting held-out cases")
            mask, _ = predict_case(model, case, run.device)
            like = sources[case.id].channels[0].path
            write_voxels(target / f"{case.id}.nii.gz", mask.voxels, mask.grid, like=like)
        progress(len(todo), len(todo), "predicting held-out cases")
    masks = {case.id: target / f"{case.id}.nii.gz" for case in cases}
    scores = score_masks(dataset, masks, progress=progress)
    write_scores(run.here, scores)
    with contextlib.suppress(OSError):
        write_bytes(run.here / "progress.png", draw_progress(run.rows or _read_rows(run.here / HISTORY)))
    return scores


def _read_rows(path: Path) -> list[dict[str, float | int | None]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
