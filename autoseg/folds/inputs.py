"""Inputs of a fold's training: the plan with the requested length, the split and the preprocessed cases."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.core.arrays import is_prepared, read_prepared
from autoseg.core.errors import StaleError, UsageError
from autoseg.core.records import Dataset, Fold, Plan, PreparedCase
from autoseg.core.registry import unknown_name
from autoseg.core.runs import Run
from autoseg.core.store import Store
from autoseg.model import PLAN
from autoseg.options import PretrainOptions, TrainOptions
from autoseg.preparation import arrays_folder, case_key, check_folds, read_folds, read_plan
from autoseg.preparation.edits import check_configuration
from autoseg.preparation.raw import list_all_files

ALL = "all"


def read_plan_for(store: Store, configuration_name: str | None, options: TrainOptions | PretrainOptions) -> Plan:
    """The plan of a dataset with the length and seed of the options; the configuration is checked.

    Args:
        store: of the dataset.
        configuration_name: to train; None for the recommended one.
        options: dataset, length and seed.

    Raises:
        UsageError: the plan has no such configuration.
        PlanError: the configuration cannot be trained.
    """
    plan = read_plan(store, options.dataset)
    name = configuration_name or plan.recommended
    if name not in plan.configurations:
        raise UsageError(unknown_name("configuration", name, plan.configurations, of=plan.dataset))
    length = {"epochs": options.epochs, "steps_per_epoch": options.steps_per_epoch}
    requested: dict[str, float | None] = {key: value for key, value in length.items() if value is not None}
    if requested or options.time_budget_s is not None:
        requested["time_budget_s"] = options.time_budget_s
    configuration = plan.configurations[name]
    training = configuration.training.model_copy(update=requested)
    configurations = {**plan.configurations, name: configuration.model_copy(update={"training": training})}
    seed = plan.seed if options.seed is None else options.seed
    plan = plan.model_copy(update={"configurations": configurations, "seed": seed})
    check_configuration(plan, name, store.preprocessed(plan.dataset) / PLAN)
    return plan


def choose_fold(store: Store, dataset: Dataset, fold_name: str) -> Fold:
    """The split of a fold; ``all`` trains on every labelled case.

    Raises:
        UsageError: there is no such fold.
    """
    labelled = {case.id for case in dataset.cases if case.labels}
    if fold_name == ALL:
        return Fold(train=tuple(sorted(labelled)), validation=())
    folds = read_folds(store, dataset.name)
    check_folds(folds, labelled, store.preprocessed(dataset.name) / "folds.json")
    if not fold_name.isdigit() or int(fold_name) >= len(folds.folds):
        raise UsageError(f"unknown fold '{fold_name}' of {dataset.name}; use 0 to {len(folds.folds) - 1}, or all")
    return folds.folds[int(fold_name)]


def note_inputs(run: Run, store: Store, dataset: Dataset, fold: Fold) -> None:
    """Add the folds and the fold's scans and labels to the record of a run."""
    run.add_content(store.preprocessed(dataset.name) / "folds.json")
    cases = {*fold.train, *fold.validation}
    part = dataset.model_copy(update={"cases": tuple(case for case in dataset.cases if case.id in cases)})
    run.add_files(dataset.name, list_all_files(part))


def read_cases(
    store: Store, dataset: Dataset, plan: Plan, configuration_name: str, case_ids: Sequence[str]
) -> dict[str, PreparedCase]:
    """Preprocessed cases by id, made from the present raw files with the planned preprocessing.

    Raises:
        StaleError: arrays are missing, or older than the plan or the raw files.
    """
    folder = arrays_folder(store.preprocessed(dataset.name), plan.configurations[configuration_name].preprocessing)
    advice = f"make them with: autoseg_plan -d {dataset.name} --keep"
    if not folder.exists():
        raise StaleError(f"there are no arrays with the planned preprocessing of '{configuration_name}'; {advice}")
    cases = {case.id: case for case in dataset.cases}
    stale = [case for case in case_ids if not is_prepared(folder, case, case_key(dataset, cases[case]))]
    if stale:
        raise StaleError(
            f"the arrays of {len(stale)} cases are missing or older than their scans ({stale[0]} ...); {advice}"
        )
    return {case.id: case for case in read_prepared(folder, case_ids, advice=advice)}
