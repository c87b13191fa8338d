"""``autoseg_train``: one fold of one configuration, then predictions and scores of its held-out cases."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from autoseg.core.arrays import is_prepared, read_prepared
from autoseg.core.cropped_probabilities import BoxedProbabilities
from autoseg.core.devices import choose_device, choose_rank_device, name_device, use_cores
from autoseg.core.errors import ModelError, StaleError, UsageError
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.probabilities import write_probabilities
from autoseg.core.records import Case, Configuration, Dataset, Fold, Plan, PreparedCase, Scores, ScoringSettings
from autoseg.core.store import Store, hash_settings
from autoseg.evaluation import Convention, follow_settings
from autoseg.evaluation.folders import score_masks, write_scores
from autoseg.folds.cascade import add_priors, check_source, copy_source
from autoseg.folds.fold_run import FoldRun, probabilities_path
from autoseg.folds.out_of_memory import CHECKPOINTING, fit_within_memory, inherit_memory_savings
from autoseg.folds.tasks import SegmentationTask
from autoseg.folds.transfer_files import starts_folder
from autoseg.model import PLAN, fold_folder, load_model, load_plan, save_plan, trained_folds
from autoseg.options import LengthOptions, TrainOptions
from autoseg.prediction import predict_mask, predict_probabilities
from autoseg.preparation import arrays_folder, case_key, check_folds, open_raw, read_folds, read_plan
from autoseg.preparation.checks import check_configuration
from autoseg.preparation.subsets import subset_name, take_subset
from autoseg.training import ALONE, Ranks, joined

log = logging.getLogger(__name__)


def train(
    store: Store,
    options: TrainOptions,
    *,
    ranks: Ranks = ALONE,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> Scores | None:
    """Train a fold, or go on where the last run of the same command stopped; then predict and score what was held out.

    Args:
        ranks: of this process among those that train the fold together; only the first one writes and scores.

    Returns:
        Scores of the held-out cases; None for fold ``all``, when ``should_stop`` ended it early, and in all processes
        but the first.

    Raises:
        UsageError, PlanError, StaleError, ModelError, TrainingError, MemoryShortageError, StorageError: each says what
            to do.
    """
    name, configuration_name, fold_name = options.dataset, options.configuration, options.fold
    probabilities, restart = options.probabilities, options.restart
    target = choose_rank_device(choose_device(options.device), ranks.local)
    plan = _with_changes(read_plan(store, name), configuration_name, options, options.seed)
    check_configuration(plan, configuration_name, store.preprocessed(name) / PLAN)  # before --restart removes anything
    dataset = open_raw(store, name)
    fold = _choose_fold(store, name, dataset, fold_name)
    if options.subset is not None:
        plan, fold = take_subset(store, plan, configuration_name, fold_name, fold, options.subset)
        configuration_name = subset_name(configuration_name, options.subset)
    folder = store.results(name, configuration_name)
    plan = inherit_memory_savings(plan, folder, configuration_name)
    configuration = plan.configurations[configuration_name]
    _check_ranks(configuration, configuration_name, ranks, options.fit)
    scored, convention = follow_settings(configuration.scoring, dataset, with_probabilities=probabilities)
    prepared = _read_arrays(store, dataset, configuration, configuration_name, fold)
    lesson = SegmentationTask(starts_folder(store, name))
    run = FoldRun(
        plan,
        configuration_name,
        fold_name,
        fold,
        folder,
        target,
        options.time_budget_s,
        lesson,
        options.trackers,
        ranks,
    )
    with joined(ranks, target):
        if ranks.leads:
            prepared = _make_ready(store, run, prepared, restart, progress)
        ranks.wait()
        if not ranks.leads and configuration.cascade_from is not None and not run.is_finished():
            prepared = add_priors(store, plan, configuration_name, prepared, progress)  # made by the first one
        _fit(run, prepared, options.fit, should_stop, progress)
    if not ranks.leads or not run.is_finished() or not fold.validation:
        return None
    cases = [prepared[case] for case in fold.validation]
    if not _predict_held_out(run, dataset, cases, probabilities, should_stop, progress):
        return None
    return _score_held_out(run, scored, convention, progress)


def _check_ranks(configuration: Configuration, name: str, ranks: Ranks, fit: bool) -> None:
    """Several processes must get equal shares of a batch.

    Raises:
        UsageError: they do not, or ``--fit`` is asked for, which decides in one process.
    """
    if ranks.world == 1:
        return
    if configuration.batch_size % ranks.world:
        raise UsageError(
            f"a batch of {configuration.batch_size} samples ('{name}') cannot be shared evenly by {ranks.world} "
            f"devices; use a number of devices that divides it, or edit batch_size in the plan"
        )
    if fit:
        raise UsageError("--fit works on one device; leave it out, or plan for less with: autoseg_plan --memory")


def _make_ready(
    store: Store, run: FoldRun, prepared: dict[str, PreparedCase], restart: bool, progress: Progress
) -> dict[str, PreparedCase]:
    """Claim the model folder, and give a cascade what feeds it."""
    plan, name, folder = run.plan, run.name, run.folder
    source = run.configuration.cascade_from
    has_work = restart or not run.is_complete()
    if source is not None and has_work:
        prepared = add_priors(store, plan, name, prepared, progress)
        check_source(store.results(plan.dataset, source), folder, restarted=run.fold_name if restart else None)
    _claim(folder, run.fold_name, plan, name, restart)
    if source is not None and (has_work or not trained_folds(folder / source)):
        copy_source(store.results(plan.dataset, source), folder)
    return prepared


def _fit(
    run: FoldRun,
    prepared: dict[str, PreparedCase],
    fit: bool,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> None:
    """Train, unless that is done."""
    threads = use_cores(share=run.ranks.neighbours)
    torch.use_deterministic_algorithms(run.device.type == "cpu")
    run.check_previous_run()
    what = f"{run.plan.dataset} {run.name} fold {run.fold_name}"
    if run.is_finished():
        log.info("%s is trained already; --restart trains it anew", what)
        return
    if run.ranks.leads:
        run.warn_if_length_changed()
    count = f" x {run.ranks.world}" if run.ranks.world > 1 else ""
    log.info("training %s on %s%s (%d threads)", what, name_device(run.device), count, threads)
    fit_within_memory(run, prepared, fit=fit, should_stop=should_stop, progress=progress)
    if run.ranks.leads and not run.is_finished():
        log.info("stopped; run the same command again to go on")


def _with_changes(plan: Plan, name: str, options: LengthOptions, seed: int | None) -> Plan:
    """The plan with what the command line sets, checked."""
    if name not in plan.configurations:
        raise UsageError(
            f"the plan of {plan.dataset} has no configuration '{name}'; it has: {', '.join(plan.configurations)}"
        )
    configuration = plan.configurations[name]
    changes = {"epochs": options.epochs, "steps_per_epoch": options.steps_per_epoch}
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
    advice = f"make them with: autoseg_plan -d {dataset.name} --keep"
    if not folder.exists():
        raise StaleError(f"there are no arrays with the preprocessing that the plan now gives '{name}'; {advice}")
    ids = [*fold.train, *fold.validation]
    cases: dict[str, Case] = {case.id: case for case in dataset.cases}
    old = [case for case in ids if not is_prepared(folder, case, case_key(dataset, cases[case]))]
    if old:
        raise StaleError(
            f"the arrays of {len(old)} cases are missing or older than their scans ({old[0]} ...); {advice}"
        )
    return {case.id: case for case in read_prepared(folder, ids, advice=advice)}


def _claim(folder: Path, fold_name: str, plan: Plan, name: str, restart: bool) -> None:
    """Make the model folder the plan's own, or refuse: folds of one model must come from one plan.

    Raises:
        ModelError: what was trained there was planned otherwise.
    """
    here = fold_folder(folder, fold_name)
    others = [path for path in folder.glob("fold_*") if not (restart and path == here)]
    if (folder / PLAN).exists() and others and _identity(load_plan(folder), name) != _identity(plan, name):
        named = ", ".join(sorted(path.name for path in others))
        raise ModelError(
            f"{folder} holds folds trained with another plan of '{name}' ({named}); "
            f"give the configuration a new name in plan.json, move that folder away, or remove those folds"
        )
    if restart and here.exists():
        shutil.rmtree(here)
        log.info("removed %s to begin anew", here)
    if not others:
        save_plan(folder, plan)


def _identity(plan: Plan, name: str) -> str:
    """What must be equal for folds to belong to one model: all but length, seed, checkpoints, scores and who works."""
    configuration = plan.configurations[name]
    training = configuration.training.model_copy(
        update={"epochs": 1, "steps_per_epoch": 1, "accumulation": 1, "acceleration": "auto", "checkpoint_minutes": 1.0}
    )
    options = {name: value for name, value in configuration.network.options.items() if name != CHECKPOINTING}
    network = configuration.network.model_copy(update={"options": options})
    augmentation = configuration.augmentation.model_copy(update={"device": "auto"})
    comparable = configuration.model_copy(
        update={"training": training, "network": network, "augmentation": augmentation, "scoring": ScoringSettings()}
    )
    return hash_settings(comparable, plan.channels, plan.labels, plan.regions)


def _predict_held_out(
    run: FoldRun,
    dataset: Dataset,
    cases: Sequence[PreparedCase],
    probabilities: bool,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> bool:
    """Predict the held-out cases on their own grids; what is there already stays. False where it was stopped."""
    sources = {case.id: case for case in dataset.cases}
    todo = [case for case in cases if not run.is_predicted(case.id, probabilities=probabilities)]
    if todo:
        model = load_model(run.folder, [run.fold_name], run.device)
        for done, case in enumerate(todo):
            progress(done, len(todo), "predicting held-out cases")
            if should_stop():
                log.info("stopped; run the same command again to go on")
                return False
            if probabilities:
                mask, found = predict_probabilities(model, case, run.device)
                outputs = run.plan.outputs
                boxed = BoxedProbabilities.of(found, overlap=outputs.overlap)
                write_probabilities(probabilities_path(run.here, case.id), boxed, outputs)
            else:
                mask = predict_mask(model, case, run.device)
            like = sources[case.id].channels[0].path
            write_voxels(run.mask_path(case.id), mask.voxels, mask.grid, like=like)
        progress(len(todo), len(todo), "predicting held-out cases")
    return True


def _score_held_out(run: FoldRun, dataset: Dataset, convention: Convention, progress: Progress) -> Scores:
    """Score the masks of the held-out cases and write the scores."""
    masks = {case: run.mask_path(case) for case in run.fold.validation}
    scores = score_masks(dataset, masks, convention=convention, progress=progress)
    write_scores(run.here, scores)
    return scores
