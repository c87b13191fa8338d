"""``autoseg_pretrain``: train a planned network to reconstruct masked blocks of scans; labels are not used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoseg.core.arrays import read_prepared
from autoseg.core.devices import choose_device, name_device
from autoseg.core.errors import CasesError, UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Configuration, Fold, Plan, PreparedCase, Pretraining
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, hash_settings, read_record, write_record
from autoseg.datasets import find_scans
from autoseg.folds.inputs import choose_fold, read_cases, read_plan_for
from autoseg.folds.model_folder import claim_model_folder
from autoseg.folds.running import run_fold
from autoseg.folds.setup import FoldSetup
from autoseg.folds.tasks import MaskedReconstructionTask
from autoseg.model import save_plan
from autoseg.options import PretrainOptions, command_line
from autoseg.preparation import arrays_folder, open_raw
from autoseg.preparation.arrays import prepare_scans
from autoseg.transfer.masking import choose_block
from autoseg.transfer.sources import PRETRAINING

log = logging.getLogger(__name__)

# Augmentations that change intensities; the network should reconstruct scans as they are.
INTENSITY_AUGMENTATIONS = (
    "noise", "blur", "brightness", "contrast", "low_resolution", "bias_field", "inverted_gamma", "gamma",
    "substitution",
)  # fmt: skip


def pretrain(
    store: Store,
    options: PretrainOptions,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> Path | None:
    """Train a planned network to reconstruct masked blocks, or resume it.

    Returns:
        The folder of the pre-trained model; None after a stop.

    Raises:
        UsageError, PlanError, StaleError, ModelError, TrainingError, StorageError: each with its remedy.
        CasesError: some of the further scans are bad; the others are prepared.
    """
    plan = read_plan_for(store, options.configuration, options)
    name = options.configuration or plan.recommended
    if plan.configurations[name].cascade_from is not None:
        raise UsageError(f"'{name}' is a cascade, whose input has masks; pre-train its first stage, or '3d'")
    plan = _plan_reconstruction(plan, name)
    cases = _read_scans(store, plan, name, options, progress)
    facts = _describe(plan, name, options.masked_share, cases)
    unlabelled = {case.id: _without_label(case) for case in cases}
    setup = FoldSetup(
        plan=plan,
        configuration_name=name,
        fold_name=options.fold,
        fold=Fold(train=tuple(sorted(unlabelled)), validation=()),
        model_folder=store.pretrained(options.dataset, name),
        device=choose_device(options.device),
    )
    words = ("autoseg_pretrain", *command_line(options))
    with recorded(store, setup.folder / RUN, words, should_stop=should_stop) as run:
        _claim(setup, facts, restart=options.restart)
        run.begin()
        run.device = name_device(setup.device)
        log.info(
            "pre-training %s %s on %d scans with and %d without a label",
            options.dataset,
            name,
            facts.labelled,
            facts.unlabelled,
        )
        task = MaskedReconstructionTask(facts)
        run_fold(setup, task, unlabelled, save_memory=False, should_stop=should_stop, progress=progress)
        run.add_model(setup.model_folder, [setup.fold_name])
    return setup.model_folder if setup.is_finished() else None


def _plan_reconstruction(plan: Plan, name: str) -> Plan:
    """The plan with this configuration alone, for patches drawn evenly and moved or mirrored, not changed otherwise."""
    configuration = plan.configurations[name]
    training = configuration.training.model_copy(update={"validation_cases": 0, "stop_patience": None})
    augmentation = configuration.augmentation.model_copy(
        update={**{f"{change}_probability": 0.0 for change in INTENSITY_AUGMENTATIONS}, "device": "auto"}
    )
    sampling = configuration.sampling.model_copy(
        update={"foreground_share": 0.0, "lesion_share": 0.0, "empty_case_share": None}
    )
    reconstruction = configuration.model_copy(
        update={"training": training, "augmentation": augmentation, "sampling": sampling, "transfer": None}
    )
    memory = {name: plan.memory[name]} if name in plan.memory else {}
    return plan.model_copy(update={"configurations": {name: reconstruction}, "recommended": name, "memory": memory})


def _read_scans(
    store: Store, plan: Plan, name: str, options: PretrainOptions, progress: Progress
) -> list[PreparedCase]:
    """Preprocessed cases of the dataset, without those that the fold holds out, and of the further scans.

    Raises:
        UsageError: there is no such fold.
        StaleError: arrays are missing, or older than the plan or the scans.
        CasesError: some of the further scans are bad.
    """
    dataset = open_raw(store, plan.dataset)
    held_out = choose_fold(store, dataset, options.fold).validation
    case_ids = [case.id for case in dataset.cases if case.id not in held_out]
    prepared = list(read_cases(store, dataset, plan, name, case_ids).values())
    if options.scans is None:
        return prepared
    cases, failures = find_scans(options.scans, plan.channels)
    if failures:
        raise CasesError(failures, of=len(cases) + len(failures), doing=f"finding scans in {options.scans}")
    renamed = tuple(case.model_copy(update={"id": f"unlabelled_{case.id}"}) for case in cases)
    settings, preprocessed = plan.configurations[name].preprocessing, store.preprocessed(plan.dataset)
    folder = preprocessed / arrays_folder(preprocessed, settings).name.replace("arrays", "scans")
    prepare_scans(dataset.model_copy(update={"cases": renamed}), folder, settings, options.workers, progress)
    return prepared + read_prepared(folder, [case.id for case in renamed], advice="run the same command again")


def _without_label(case: PreparedCase) -> PreparedCase:
    """The case with a label of zeros, which takes no memory: its pages are never written."""
    return replace(case, label=np.zeros(case.image.shape[1:], np.uint8), lesions=None, prior=None)


def _describe(plan: Plan, name: str, masked_share: float, cases: Sequence[PreparedCase]) -> Pretraining:
    configuration = plan.configurations[name]
    labelled = sum(case.label is not None for case in cases)
    return Pretraining(
        dataset=plan.dataset,
        configuration=name,
        masked_share=masked_share,
        block=choose_block(configuration.patch_size),
        identity=_identity(configuration, plan.channels),
        labelled=labelled,
        unlabelled=len(cases) - labelled,
    )


def _identity(configuration: Configuration, channels: Sequence[str]) -> str:
    """Hash of all that must stay equal for a resume: network, input and optimiser, not length and checkpoints."""
    settings = (configuration.preprocessing, configuration.network, configuration.optimiser, configuration.augmentation)
    return hash_settings(*settings, configuration.patch_size, configuration.batch_size, tuple(channels))


def _claim(setup: FoldSetup, facts: Pretraining, *, restart: bool) -> None:
    """Claim the model folder, and write the plan and the facts of the pre-training.

    Raises:
        ModelError: the folder holds another pre-training.
    """
    folder, path = setup.model_folder, setup.model_folder / PRETRAINING
    previous = read_record(Pretraining, path, advice=f"delete {folder}") if path.exists() else facts
    keys = ("identity", "masked_share", "block")
    claim_model_folder(
        folder,
        setup.fold_name,
        restart=restart,
        agrees=all(getattr(previous, key) == getattr(facts, key) for key in keys),
        conflict=f"another plan or share of masked blocks, {previous.masked_share:g}",
    )
    save_plan(folder, setup.plan)
    write_record(path, facts)
