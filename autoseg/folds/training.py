"""``autoseg_train``: one fold of one configuration, then predictions and scores of its held-out cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autoseg.core.devices import choose_device, choose_rank_device, name_device
from autoseg.core.errors import UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Configuration, Dataset, PreparedCase, Scores
from autoseg.core.runs import RUN, Run, recorded
from autoseg.core.store import Store
from autoseg.evaluation import Convention, apply_scoring
from autoseg.evaluation.scoring import score_masks, write_scores
from autoseg.folds.cascade import add_priors, check_source, copy_source
from autoseg.folds.files import mask_path
from autoseg.folds.held_out import predict_held_out
from autoseg.folds.inputs import choose_fold, note_inputs, read_cases, read_plan_for
from autoseg.folds.model_folder import claim_model_folder, has_folds, inherit_from_model, plan_identity
from autoseg.folds.postprocessing import SettingSearch
from autoseg.folds.probing import add_stages
from autoseg.folds.running import run_fold
from autoseg.folds.setup import FoldSetup
from autoseg.folds.tasks import SegmentationTask
from autoseg.folds.transfer_files import initial_weights_folder
from autoseg.model import load_plan, save_plan, trained_folds
from autoseg.options import TrainOptions, command_line
from autoseg.preparation import open_raw
from autoseg.preparation.subsets import subset_name, take_subset
from autoseg.training import ALONE, Ranks, joined


def train(
    store: Store,
    options: TrainOptions,
    *,
    ranks: Ranks = ALONE,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = no_progress,
) -> Scores | None:
    """Train a fold, or resume it; then predict and score its held-out cases, and search post-processing that helps.

    Args:
        store: raw, preprocessed and result folders.
        options: of the command.
        ranks: of this process among those that train the fold together; only the first one writes and scores.
        should_stop: asked after every step and before every case.
        progress: of steps and cases.

    Returns:
        Scores of the held-out cases as predicted, without post-processing; None for fold ``all``, after a stop, and in
        all processes but the first.

    Raises:
        UsageError, PlanError, StaleError, ModelError, TrainingError, MemoryShortageError, StorageError: each with its
            advice.
    """
    device = choose_rank_device(choose_device(options.device), ranks.local)
    name = options.configuration
    plan = read_plan_for(store, name, options)
    dataset = open_raw(store, options.dataset)
    fold = choose_fold(store, dataset, options.fold)
    if options.subset is not None:
        plan, fold = take_subset(store, plan, name, options.fold, fold, options.subset)
        name = subset_name(name, options.subset)
    model_folder = store.results(options.dataset, name)
    if has_folds(model_folder, options.fold, restart=options.restart):
        plan = inherit_from_model(plan, model_folder, name)
    elif options.time_budget_s is not None and ranks.world == 1:
        plan = add_stages(store, plan, name, options.device)
    setup = FoldSetup(
        plan=plan,
        configuration_name=name,
        fold_name=options.fold,
        fold=fold,
        model_folder=model_folder,
        device=device,
        trackers=options.trackers,
        ranks=ranks,
    )
    _check_ranks(setup.configuration, name, ranks, options.fit)
    path = setup.folder / RUN if ranks.leads else None
    with recorded(store, path, ("autoseg_train", *command_line(options)), should_stop=should_stop) as run:
        return _train(store, options, setup, dataset, run, should_stop=should_stop, progress=progress)


def _train(
    store: Store,
    options: TrainOptions,
    setup: FoldSetup,
    dataset: Dataset,
    run: Run,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Scores | None:
    """Train the fold that was set up, then predict and score."""
    ranks, fold, name = setup.ranks, setup.fold, setup.configuration_name
    scored, convention = apply_scoring(setup.configuration.scoring, dataset, with_probabilities=options.probabilities)
    cases = read_cases(store, dataset, setup.plan, name, [*fold.train, *fold.validation])
    with joined(ranks, setup.device):
        if ranks.leads:
            cases = _claim(store, setup, cases, options.restart, progress)
            run.begin()
            run.device = name_device(setup.device)
            note_inputs(run, store, dataset, fold)
        ranks.wait()
        if not ranks.leads and setup.configuration.cascade_from is not None and not setup.is_finished():
            cases = add_priors(store, setup.plan, name, cases, progress)  # written by the first process
        task = SegmentationTask(initial_weights_folder(store, options.dataset))
        run_fold(setup, task, cases, save_memory=options.fit, should_stop=should_stop, progress=progress)
    if ranks.leads:
        run.add_model(setup.model_folder, [setup.fold_name])
    if not ranks.leads or not setup.is_finished() or not fold.validation:
        return None
    search = SettingSearch(dataset=dataset, outputs=setup.plan.outputs) if options.postprocessing else None
    if not predict_held_out(
        setup, dataset, cases, options.probabilities, search, should_stop=should_stop, progress=progress
    ):
        return None
    return _score_held_out(setup, scored, convention, search, progress)


def _score_held_out(
    setup: FoldSetup, dataset: Dataset, convention: Convention, search: SettingSearch | None, progress: Progress
) -> Scores:
    """Write the scores of the held-out cases, and what they choose as post-processing."""
    masks = {case: mask_path(setup.folder, case) for case in setup.fold.validation}
    scores = score_masks(dataset, masks, convention=convention, progress=progress)
    write_scores(setup.folder, scores)
    if search is not None:
        search.choose(setup.model_folder)
    return scores


def _check_ranks(configuration: Configuration, name: str, ranks: Ranks, fit: bool) -> None:
    """Check that several processes get equal shares of a batch.

    Raises:
        UsageError: they do not, or ``--fit`` is requested, which decides in one process.
    """
    if ranks.world == 1:
        return
    sizes = configuration.batch_size, *(stage.batch_size for stage in configuration.training.stages)
    if uneven := [size for size in sizes if size % ranks.world]:
        raise UsageError(
            f"a batch of {uneven[0]} samples ('{name}') cannot be shared evenly by {ranks.world} "
            f"devices; use a number of devices that divides it, or edit batch_size in the plan"
        )
    if fit:
        raise UsageError("--fit works on one device; leave it out, or plan for less with: autoseg_plan --memory")


def _claim(
    store: Store, setup: FoldSetup, cases: dict[str, PreparedCase], restart: bool, progress: Progress
) -> dict[str, PreparedCase]:
    """Claim the model folder; for a cascade, add the masks of its first stage to the cases and copy its model."""
    plan, name, folder = setup.plan, setup.configuration_name, setup.model_folder
    first_stage = setup.configuration.cascade_from
    unfinished = restart or not setup.is_complete()
    source: Path | None = None if first_stage is None else store.results(plan.dataset, first_stage)
    if source is not None and unfinished:
        cases = add_priors(store, plan, name, cases, progress)
        check_source(source, folder, restarted=setup.fold_name if restart else None)
    is_new = claim_model_folder(
        folder,
        setup.fold_name,
        restart=restart,
        agrees=not has_folds(folder, setup.fold_name, restart=restart)
        or plan_identity(load_plan(folder), name) == plan_identity(plan, name),
        conflict=f"another plan of '{name}'",
    )
    if is_new:
        save_plan(folder, plan)
    if source is not None and (unfinished or not trained_folds(folder / source.name)):
        copy_source(source, folder)
    return cases
