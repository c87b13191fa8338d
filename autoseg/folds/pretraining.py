"""``autoseg_pretrain``: a planned network learns to fill in what is masked in scans; no labels are looked at."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from autoseg.core.arrays import is_prepared, read_prepared
from autoseg.core.devices import choose_device, name_device, use_all_cores
from autoseg.core.errors import CasesError, ModelError, StaleError, UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Configuration, Dataset, Fold, Plan, PreparedCase, Pretraining
from autoseg.core.store import Store, hash_settings, read_record, write_record
from autoseg.datasets import find_scans
from autoseg.folds.data import open_batches
from autoseg.folds.fold_run import FoldRun
from autoseg.folds.out_of_memory import fit_within_memory
from autoseg.losses import DeepLoss
from autoseg.model import PLAN, fold_folder, save_plan
from autoseg.networks import Part, build_network
from autoseg.options import PretrainOptions
from autoseg.preparation import arrays_folder, case_key, open_raw, read_folds, read_plan
from autoseg.preparation.arrays import prepare_scans
from autoseg.preparation.checks import check_configuration
from autoseg.training import Ranks
from autoseg.training.run import BatchSource
from autoseg.transfer.masking import MaskedBatches, choose_block, masked_loss
from autoseg.transfer.origins import PRETRAINING

log = logging.getLogger(__name__)

ALL = "all"
# What changes the look of a patch beyond moving it; the network shall fill in scans as they are.
PLAIN = (
    "noise", "blur", "brightness", "contrast", "low_resolution", "bias_field", "inverted_gamma", "gamma",
)  # fmt: skip


def pretrain(
    store: Store,
    options: PretrainOptions,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> Path | None:
    """Teach a planned network to fill in masked blocks, or go on where the last run of the same command stopped.

    Returns:
        The folder of what was learned; None when it was stopped early.

    Raises:
        UsageError, PlanError, StaleError, ModelError, TrainingError, StorageError: each says what to do.
        CasesError: some of the further scans are bad; the others are prepared.
    """
    name, fold_name, masked_share = options.dataset, options.fold, options.masked_share
    target = choose_device(options.device)
    plan = read_plan(store, name)
    own = options.configuration or plan.recommended
    if own not in plan.configurations:
        raise UsageError(f"the plan of {name} has no configuration '{own}'; it has: {', '.join(plan.configurations)}")
    if plan.configurations[own].cascade_from is not None:
        raise UsageError(f"'{own}' is a cascade, which sees masks; pre-train the configuration that feeds it, or '3d'")
    check_configuration(plan, own, store.preprocessed(name) / PLAN)  # before --restart removes anything
    plan = _plan_lesson(plan, own, options)
    prepared = _gather(store, plan, own, options, progress)
    folder = store.pretrained(name, own)
    facts = _describe(plan, own, masked_share, prepared)
    _claim(folder, fold_name, plan, facts, options.restart)
    lesson = MaskedReconstructionTask(facts)
    blank = {case.id: _without_label(case) for case in prepared}
    fold = Fold(train=tuple(sorted(blank)), validation=())
    run = FoldRun(plan, own, fold_name, fold, folder, target, options.time_budget_s, lesson)
    run.check_previous_run()
    if run.is_finished():
        log.info("%s is there already; --restart begins anew", folder)
        return folder
    run.warn_if_length_changed()
    threads = use_all_cores()
    torch.use_deterministic_algorithms(target.type == "cpu")
    log.info(
        "pre-training %s %s on %d scans with and %d without a label, on %s (%d threads)",
        name, own, facts.labelled, facts.unlabelled, name_device(target), threads,
    )  # fmt: skip
    fit_within_memory(run, blank, fit=False, should_stop=should_stop, progress=progress)
    if not run.is_finished():
        log.info("stopped; run the same command again to go on")
        return None
    return folder


class MaskedReconstructionTask:
    """The lesson of filling in blocks: the planned network with one output per image channel.

    Args:
        facts: block and share.
    """

    def __init__(self, facts: Pretraining) -> None:
        self.facts = facts

    def network(self, plan: Plan, name: str, *, fresh: bool) -> nn.Module:
        """The planned network, which gives images."""
        configuration = plan.configurations[name]
        network = build_network(
            configuration.network,
            dimensions=configuration.dimensions,
            input_channels=len(plan.channels),
            output_channels=len(plan.channels),
            seed=plan.seed,
        )
        network.deep_supervision = False  # type: ignore[assignment]
        return network

    def parts(self, plan: Plan, name: str) -> Mapping[str, Part]:
        """None: everything is trained alike."""
        return {}

    def batches(
        self,
        plan: Plan,
        name: str,
        cases: Sequence[PreparedCase],
        *,
        seed: Sequence[int],
        device: torch.device,
        ranks: Ranks,
    ) -> AbstractContextManager[BatchSource]:
        """Patches drawn evenly over the scans, with blocks masked."""
        facts = self.facts

        @contextmanager
        def opened() -> Iterator[BatchSource]:
            with open_batches(plan, name, cases, seed=seed, device=device, ranks=ranks) as batches:
                yield MaskedBatches(batches, block=facts.block, share=facts.masked_share, seed=seed)

        return opened()

    def loss(self, plan: Plan, name: str) -> DeepLoss:
        """Of masked voxels only."""
        return masked_loss

    def validate(self, *_: object) -> None:
        """Nothing is held out."""
        return


def _plan_lesson(plan: Plan, name: str, options: PretrainOptions) -> Plan:
    """The plan with this configuration alone: patches are drawn evenly, moved and mirrored, and otherwise left."""
    configuration = plan.configurations[name]
    said = {"epochs": options.epochs, "steps_per_epoch": options.steps_per_epoch}
    changes: dict[str, object] = {key: value for key, value in said.items() if value is not None}
    training = configuration.training.model_copy(update={**changes, "validation_cases": 0, "stop_patience": None})
    augmentation = configuration.augmentation.model_copy(
        update={**{f"{change}_probability": 0.0 for change in PLAIN}, "device": "auto"}
    )
    sampling = configuration.sampling.model_copy(
        update={"foreground_share": 0.0, "lesion_share": 0.0, "empty_case_share": None}
    )
    learned = configuration.model_copy(
        update={"training": training, "augmentation": augmentation, "sampling": sampling, "transfer": None}
    )
    memory = {name: plan.memory[name]} if name in plan.memory else {}
    return plan.model_copy(
        update={
            "configurations": {name: learned},
            "recommended": name,
            "memory": memory,
            "seed": plan.seed if options.seed is None else options.seed,
        }
    )


def _gather(
    store: Store,
    plan: Plan,
    name: str,
    options: PretrainOptions,
    progress: Progress,
) -> list[PreparedCase]:
    """Preprocessed cases of the dataset and of the further scans.

    Raises:
        UsageError: there is no such fold.
        StaleError: arrays are missing, or older than the plan or the scans.
        CasesError: some of the further scans are bad.
    """
    dataset = open_raw(store, plan.dataset)
    settings = plan.configurations[name].preprocessing
    folder = arrays_folder(store.preprocessed(plan.dataset), settings)
    advice = f"make them with: autoseg_plan -d {plan.dataset} --keep"
    ids = _choose_cases(store, dataset, options.fold)
    keys = {case.id: case_key(dataset, case) for case in dataset.cases}
    old = [case for case in ids if not is_prepared(folder, case, keys[case])]
    if old:
        raise StaleError(
            f"the arrays of {len(old)} cases are missing or older than their scans ({old[0]} ...); {advice}"
        )
    prepared = read_prepared(folder, ids, advice=advice)
    if options.scans is None:
        return prepared
    cases, failures = find_scans(options.scans, plan.channels)
    if failures:
        raise CasesError(failures, of=len(cases) + len(failures), doing=f"finding scans in {options.scans}")
    renamed = tuple(case.model_copy(update={"id": f"unlabelled_{case.id}"}) for case in cases)
    further = dataset.model_copy(update={"cases": renamed})
    own = store.preprocessed(plan.dataset) / folder.name.replace("arrays", "scans")
    prepare_scans(further, own, settings, options.workers, progress)
    return prepared + read_prepared(own, [case.id for case in renamed], advice="run the same command again")


def _choose_cases(store: Store, dataset: Dataset, fold_name: str) -> list[str]:
    every = [case.id for case in dataset.cases]
    if fold_name == ALL:
        return every
    folds = read_folds(store, dataset.name).folds
    if not fold_name.isdigit() or int(fold_name) >= len(folds):
        raise UsageError(f"there is no fold '{fold_name}' of {dataset.name}; use 0 to {len(folds) - 1}, or all")
    held_out = set(folds[int(fold_name)].validation)
    return [case for case in every if case not in held_out]


def _without_label(case: PreparedCase) -> PreparedCase:
    """The case with a label of zeros, which costs nothing: its pages are never written."""
    return replace(case, label=np.zeros(case.image.shape[1:], np.uint8), lesions=None, prior=None)


def _describe(plan: Plan, name: str, masked_share: float, prepared: Sequence[PreparedCase]) -> Pretraining:
    configuration = plan.configurations[name]
    labelled = sum(case.label is not None for case in prepared)
    return Pretraining(
        dataset=plan.dataset,
        configuration=name,
        masked_share=masked_share,
        block=choose_block(configuration.patch_size),
        identity=_identify(configuration, plan.channels),
        labelled=labelled,
        unlabelled=len(prepared) - labelled,
    )


def _identify(configuration: Configuration, channels: Sequence[str]) -> str:
    """What must be equal to go on: network, input and optimiser; length and checkpoints may change."""
    settings = (configuration.preprocessing, configuration.network, configuration.optimiser, configuration.augmentation)
    return hash_settings(*settings, configuration.patch_size, configuration.batch_size, tuple(channels))


def _claim(folder: Path, fold_name: str, plan: Plan, facts: Pretraining, restart: bool) -> None:
    """Make the folder this lesson's own, or refuse.

    Raises:
        ModelError: what was begun there was another lesson.
    """
    here = fold_folder(folder, fold_name)
    if restart and here.exists():
        shutil.rmtree(here)
        log.info("removed %s to begin anew", here)
    path = folder / PRETRAINING
    if path.exists() and any(folder.glob("fold_*")):
        before = read_record(Pretraining, path, advice=f"delete {folder} and begin anew")
        same = (before.identity, before.masked_share, before.block) == (facts.identity, facts.masked_share, facts.block)
        if not same:
            raise ModelError(
                f"{folder} was begun with another plan or share of masked blocks ({before.masked_share:g}); plan and "
                f"mask as before, or move that folder away"
            )
    save_plan(folder, plan)
    write_record(path, facts)
