"""Cascade input: out-of-fold masks of the first stage for training, and a copy of its model for prediction."""

from __future__ import annotations

import logging
import math
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from autoseg.core.arrays import is_prepared, read_priors, write_prior
from autoseg.core.errors import DataError, ModelError
from autoseg.core.images import read_voxels
from autoseg.core.parallel import WORKER_BYTES, Progress, count_workers, run_cases
from autoseg.core.records import Folds, Label, Placement, Plan, PreparedCase, PreprocessingSettings
from autoseg.core.store import Store, hash_settings, sha256
from autoseg.core.text import join_names
from autoseg.folds.files import mask_path, read_facts
from autoseg.model import changed_folds, copy_model, fold_folder, have_same_channels, load_plan, trained_folds
from autoseg.preparation import arrays_folder, read_folds
from autoseg.preprocessing import prepare_label

log = logging.getLogger(__name__)

BYTES_PER_VOXEL = 16  # a mask, its turned copy, and one class as float32 before and after resampling
CASES_PER_WORKER = 8  # a process starts in about a second, which is worth it for several cases


def add_priors(
    store: Store, plan: Plan, configuration_name: str, prepared: Mapping[str, PreparedCase], progress: Progress
) -> dict[str, PreparedCase]:
    """Preprocessed cases of a cascade with the out-of-fold masks of its first stage.

    Masks are resampled to the cascade's grid once and cached beside the arrays, until a mask or the plan changes.

    Args:
        store: of results and arrays.
        plan: with the cascade.
        configuration_name: of the cascade.
        prepared: case id -> preprocessed case.
        progress: of the masks.

    Raises:
        ModelError: folds of the first stage are not trained, or lack masks; the message has the command to run.
        CasesError: a mask is not on its scan's grid.
    """
    configuration = plan.configurations[configuration_name]
    source = configuration.cascade_from or ""
    masks = find_masks(store.results(plan.dataset, source), plan, read_folds(store, plan.dataset), list(prepared))
    settings = configuration.preprocessing
    folder = arrays_folder(store.preprocessed(plan.dataset), settings) / f"priors_{source}"
    keys = {case: _prior_key(masks[case], prepared[case].placement) for case in prepared}
    todo = [case for case in prepared if not is_prepared(folder, case, keys[case])]
    if todo:
        log.info("resampling %d masks of %s to the grid of %s", len(todo), source, configuration_name)
        tasks = [(case, (case, prepared[case].placement, masks[case], settings, folder, keys[case])) for case in todo]
        largest = max(math.prod(prepared[case].placement.grid.shape) for case in todo)
        workers = count_workers(math.ceil(len(todo) / CASES_PER_WORKER), largest * BYTES_PER_VOXEL + WORKER_BYTES)
        run_cases(_prepare_prior, tasks, workers, lambda case, done: None, "preparing masks", progress)
    advice = f"delete {folder} and run the same command again"
    return {case.id: case for case in read_priors(folder, prepared.values(), advice=advice)}


def find_masks(source: Path, plan: Plan, folds: Folds, cases: list[str]) -> dict[str, Path]:
    """The mask of each case, predicted by the fold of the first stage that held it out.

    Args:
        source: the first stage's model folder.
        plan: of the dataset.
        folds: of the dataset.
        cases: ids.

    Raises:
        ModelError: as ``add_priors``; or no fold holds a case out.
    """
    name, train = source.name, f"autoseg_train -d {plan.dataset} -c {source.name}"
    held_out: dict[str, list[str]] = defaultdict(list)
    for number, fold in enumerate(folds.folds):
        for case in fold.validation:
            held_out[case].append(str(number))
    never = [case for case in cases if case not in held_out]
    if never:
        raise ModelError(
            f"a cascade needs an out-of-fold mask of every case by {name}, but no fold in folds.json "
            f"holds out {_some(never)}; remove them from folds.json, or hold each out once and train {name} again"
        )
    trained = set(trained_folds(source))
    # Folds written by hand may hold a case out several times: any trained one will do.
    chosen = {case: next((f for f in held_out[case] if f in trained), held_out[case][0]) for case in cases}
    untrained = sorted(set(chosen.values()) - trained, key=int)
    if untrained:
        raise ModelError(
            f"a cascade needs an out-of-fold mask of every case by {name}; still to be trained: "
            f"{'; '.join(f'{train} -f {fold}' for fold in untrained)}"
        )
    if not have_same_channels(load_plan(source), plan):
        raise ModelError(
            f"{source} was trained for other channels, labels or regions than the plan of {plan.dataset} now has; "
            f"train it again with --restart"
        )
    for used in sorted(set(chosen.values()), key=int):
        _check_fold(source, used, [case for case in cases if chosen[case] == used], train)
    return {case: mask_path(fold_folder(source, chosen[case]), case) for case in cases}


def check_source(source: Path, folder: Path, *, restarted: str | None) -> None:
    """Check that all folds of a cascade have one first stage.

    Args:
        source: the first stage's model folder; it may be missing.
        folder: the cascade's model folder.
        restarted: the fold that starts again, which does not count.

    Raises:
        ModelError: the first stage was trained again since folds of the cascade were begun.
    """
    begun = sorted(path.name for path in folder.glob("fold_*") if path.name != f"fold_{restarted}")
    changed = changed_folds(source, folder / source.name) if begun else ()
    if changed:
        raise ModelError(
            f"{source} was trained again (fold {', '.join(changed)}) since {folder} was begun ({', '.join(begun)}); "
            f"the folds of a cascade must have one source: train them all with --restart, or put the previous "
            f"{source.name} back"
        )


def copy_source(source: Path, folder: Path) -> None:
    """Copy the first stage's model into the cascade's folder; folds that are copied already stay.

    Args:
        source, folder: as for ``check_source``, which comes first.
    """
    target = folder / source.name
    if changed_folds(source, target):
        shutil.rmtree(target)
    if set(trained_folds(source)) - set(trained_folds(target)):
        copy_model(source, target)
        log.info("copied %s, folds %s, into %s", source.name, ", ".join(trained_folds(target)), folder)


def _check_fold(source: Path, fold: str, cases: list[str], train: str) -> None:
    """Check that a trained fold held these cases out, and has predicted them."""
    folder = fold_folder(source, fold)
    restart = f"train it again with: {train} -f {fold} --restart"
    facts = read_facts(folder, advice=restart)
    trained_on = [case for case in cases if case not in facts.validation]
    if trained_on:
        raise ModelError(
            f"{folder} did not hold out {_some(trained_on)} as folds.json now says; put folds.json back, or {restart}"
        )
    missing = [case for case in cases if not mask_path(folder, case).exists()]
    if missing:
        raise ModelError(
            f"{folder} is trained but lacks the masks of {_some(missing)}; make them with the same command: "
            f"{train} -f {fold}"
        )


def _some(cases: list[str]) -> str:
    return f"{len(cases)} cases ({join_names(cases, limit=3)})" if len(cases) > 1 else cases[0]


def _prior_key(mask: Path, placement: Placement) -> str:
    """Hash of all that a prior depends on, except the settings that its folder is named after."""
    return hash_settings(sha256(mask), placement)


def _prepare_prior(task: tuple[str, Placement, Path, PreprocessingSettings, Path, str]) -> None:
    case, placement, path, settings, folder, key = task
    voxels, grid = read_voxels(path)
    if not grid.matches(placement.grid) or voxels.dtype.kind not in "iu":
        raise DataError(
            f"case {case}: {path} is not the mask that autoseg_train wrote ({voxels.dtype} on {grid.describe()}; the "
            f"scan has {placement.grid.describe()}); delete it and run that fold's autoseg_train again"
        )
    write_prior(folder, case, prepare_label(Label(voxels=voxels, grid=grid), placement, settings), placement, key)
