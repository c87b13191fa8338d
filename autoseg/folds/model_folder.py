"""Model folders: all folds in one come from one plan."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from autoseg.core.errors import ModelError
from autoseg.core.records import Plan, ScoringSettings
from autoseg.core.store import hash_settings
from autoseg.folds.files import CHECKPOINT, FACTS
from autoseg.model import PLAN, POSTPROCESSING, WEIGHTS, fold_folder, load_plan

log = logging.getLogger(__name__)

CHECKPOINTING = "checkpointing"


def has_folds(folder: Path, fold_name: str, *, restart: bool) -> bool:
    """Whether a model folder holds a fold that stays: any, or any other where this one starts again."""
    return bool(_begun_folds(folder, without=fold_name if restart else None))


def _begun_folds(folder: Path, *, without: str | None) -> list[str]:
    """Names of the folders of folds whose training has written something; a folder may also hold notes of the user."""
    excluded = None if without is None else fold_folder(folder, without)
    paths = [path for path in folder.glob("fold_*") if path != excluded]
    return sorted(path.name for path in paths if any((path / name).exists() for name in (FACTS, CHECKPOINT, WEIGHTS)))


def claim_model_folder(folder: Path, fold_name: str, *, restart: bool, agrees: bool, conflict: str) -> bool:
    """Make sure that a fold may be trained in a model folder, and remove the fold where it starts again.

    Args:
        folder: of the model.
        fold_name: of the fold.
        restart: whether the fold starts again.
        agrees: whether what the folder holds was trained alike.
        conflict: clause for the error where they were not.

    Returns:
        Whether no fold stays, so that the folder's plan is to be written.

    Raises:
        ModelError: the folds that stay were trained otherwise.
    """
    fold = fold_folder(folder, fold_name)
    others = _begun_folds(folder, without=fold_name if restart else None)
    if others and not agrees:
        raise ModelError(
            f"{folder} holds folds trained with {conflict} ({', '.join(others)}); move that folder away, "
            f"remove those folds, or give the configuration a new name in plan.json"
        )
    if restart or not others:
        (folder / POSTPROCESSING).unlink(missing_ok=True)  # a fold that helped to choose it is gone
    if restart and fold.exists():
        shutil.rmtree(fold)
        log.info("removed %s to start again", fold)
    return not others


def plan_identity(plan: Plan, configuration_name: str) -> str:
    """Hash of all that folds of one model share: not length, seed, memory, checkpoints, scoring and engine."""
    configuration = plan.configurations[configuration_name]
    training = configuration.training.model_copy(
        update={
            "epochs": 1,
            "steps_per_epoch": 1,
            "time_budget_s": None,
            "accumulation": 1,
            "acceleration": "auto",
            "checkpoint_minutes": 1.0,
        }
    )
    options = {name: value for name, value in configuration.network.options.items() if name != CHECKPOINTING}
    network = configuration.network.model_copy(update={"options": options})
    augmentation = configuration.augmentation.model_copy(update={"device": "auto"})
    comparable = configuration.model_copy(
        update={"training": training, "network": network, "augmentation": augmentation, "scoring": ScoringSettings()}
    )
    return hash_settings(comparable, plan.channels, plan.labels, plan.regions)


def inherit_from_model(plan: Plan, folder: Path, configuration_name: str) -> Plan:
    """The plan as the model's folds follow it: with memory savings of ``--fit``, and with stages of ``--time-budget``.

    Args:
        plan: of the dataset.
        folder: of the model.
        configuration_name: in the plan.
    """
    if not (folder / PLAN).exists():
        return plan
    trained, planned = load_plan(folder).configurations.get(configuration_name), plan.configurations[configuration_name]
    if trained is None or trained.batch_size != planned.batch_size or trained.network.name != planned.network.name:
        return plan  # another plan, which ``claim_model_folder`` refuses
    options, parts = dict(planned.network.options), max(planned.training.accumulation, trained.training.accumulation)
    if trained.network.options.get(CHECKPOINTING, False):
        options[CHECKPOINTING] = True
    if options != planned.network.options or parts != planned.training.accumulation:
        log.info("%s saves memory as an earlier --fit chose; delete %s to train without", configuration_name, folder)
    stages = planned.training.stages or trained.training.stages
    if stages != planned.training.stages:
        log.info("%s begins on a coarser grid, as %s does", configuration_name, folder)
    network = planned.network.model_copy(update={"options": options})
    training = planned.training.model_copy(update={"accumulation": parts, "stages": stages})
    saving = planned.model_copy(update={"network": network, "training": training})
    return plan.model_copy(update={"configurations": {**plan.configurations, configuration_name: saving}})
