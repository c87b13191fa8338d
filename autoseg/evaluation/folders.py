"""Folders of masks and labels: find both, resolve what is scored and by which convention, and score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoseg.core.errors import DataError, UsageError
from autoseg.core.images import file_ending, read_voxels, strip_ending
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Case, Dataset, Folds, Scores
from autoseg.core.store import Store, read_record
from autoseg.datasets import find_dataset, open_dataset
from autoseg.evaluation.conventions import Convention, apply_preset
from autoseg.evaluation.pairing import pair_masks
from autoseg.evaluation.scoring import score_masks
from autoseg.metrics import METRICS
from autoseg.options import EvaluateOptions

LARGEST_COUNTED = 65535  # larger values are sorted instead of counted


def score_folder(
    store: Store, options: EvaluateOptions, *, cache: Path | None, progress: Progress = no_progress
) -> Scores:
    """Score a folder of masks.

    Args:
        cache: folder for the scores of each case, so that a second call scores only what has changed; None for none.

    Raises:
        UsageError: a folder does not exist, or holds nothing to score.
        DataError: predictions are missing.
        CasesError: some pairs cannot be compared.
    """
    dataset, convention = resolve_targets(store, options)
    labels = {case.id: case.labels[0] for case in dataset.cases if case.labels}
    pairing = pair_masks(list_masks(options.predictions), labels, allow_missing=options.allow_missing)
    return score_masks(
        dataset,
        {pair.case: pair.prediction for pair in pairing.pairs},
        convention=convention,
        missing=pairing.missing,
        cache=cache,
        workers=options.workers,
        progress=progress,
    )


def resolve_targets(store: Store, options: EvaluateOptions) -> tuple[Dataset, Convention]:
    """The references to score against, and the convention of the scores.

    Raises:
        UsageError: a folder, preset, metric, fold or case that does not exist.
    """
    dataset = _open_references(store, options.references, options.dataset)
    dataset, convention = apply_preset(options.preset, dataset) if options.preset else (dataset, Convention())
    if options.metrics is not None:
        convention = replace(convention, metrics=_resolve_metrics(options.metrics))
    requested = _requested_cases(store, options)
    if requested is None:
        return dataset, convention
    labelled = {case.id for case in dataset.cases if case.labels}
    unknown = [case for case in requested if case not in labelled]
    if unknown:
        raise UsageError(f"case {unknown[0]} has no label; name cases as the label files are named")
    cases = tuple(case for case in dataset.cases if case.id in set(requested))
    return dataset.model_copy(update={"cases": cases}), convention


def list_masks(folder: Path) -> dict[str, Path]:
    """Case id -> image file in a folder.

    Raises:
        UsageError: there is no such folder, or no image in it.
        DataError: two files of one case.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the folder that holds the masks")
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or file_ending(path) is None:
            continue
        if strip_ending(path) in masks:
            raise DataError(
                f"{folder} has two files of case {strip_ending(path)}: {path.name} and another; keep one of them"
            )
        masks[strip_ending(path)] = path
    if not masks:
        raise UsageError(f"{folder} has no image (.nii.gz, .nii, .mha, .nrrd); give the folder that holds the masks")
    return masks


def _resolve_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    if "all" not in metrics:
        return tuple(dict.fromkeys(metrics))
    return tuple(name for name in METRICS if name in metrics or not METRICS[name].needs_probability)


def _requested_cases(store: Store, options: EvaluateOptions) -> tuple[str, ...] | None:
    """Cases chosen by name or by fold; None for all."""
    if options.fold is None:
        return options.cases
    if options.dataset is None:
        raise UsageError("--fold needs a planned dataset; name it with -d")
    path = store.preprocessed(options.dataset) / "folds.json"
    folds = read_record(Folds, path, advice=f"plan the dataset first: autoseg_plan -d {options.dataset}").folds
    if not options.fold.isdigit() or int(options.fold) >= len(folds):
        raise UsageError(f"unknown fold {options.fold}; {path} holds folds 0 to {len(folds) - 1}")
    held_out = folds[int(options.fold)].validation
    not_held_out = [case for case in options.cases or () if case not in held_out]
    if not_held_out:
        raise UsageError(f"fold {options.fold} does not hold out case {not_held_out[0]}; give either a fold or cases")
    return held_out if options.cases is None else options.cases


def _open_references(store: Store, references: Path | None, dataset_name: str | None) -> Dataset:
    if dataset_name is not None:
        return open_dataset(store.raw(dataset_name), dataset_name)
    if references is None:
        raise UsageError("give the labels with -r FOLDER, or the dataset that holds them with -d NAME")
    if not references.is_dir():
        raise UsageError(f"{references} is not a folder; give the folder that holds the labels")
    if not any(file_ending(path) for path in references.iterdir() if path.is_file()):
        return open_dataset(references, references.name)
    return _plain_folder(references)


def _plain_folder(folder: Path) -> Dataset:
    """A folder of label files: named as in the dataset.json beside it, else by the values that occur."""
    files = list_masks(folder)
    cases = tuple(Case(id=case, channels=(), labels=(path,)) for case, path in files.items())
    if (folder.parent / "dataset.json").exists():
        dataset = find_dataset(folder.parent, folder.parent.name)
        groups = {case.id: case.group for case in dataset.cases}
        cases = tuple(case.model_copy(update={"group": groups.get(case.id)}) for case in cases)
        return dataset.model_copy(update={"cases": cases})
    values = sorted({value for path in files.values() for value in _list_values(path)} - {0})
    labels = {"background": 0} | {("lesion" if values == [1] else f"label_{value}"): value for value in values or [1]}
    return Dataset(name=folder.name, kind="folder", channels=(), labels=labels, cases=cases)


def _list_values(path: Path) -> list[int]:
    """The whole numbers in a file, by counting where they are small, which is much faster than sorting."""
    voxels = read_voxels(path)[0].ravel()
    if voxels.dtype.kind == "f":
        voxels = np.rint(voxels)
    if voxels.min(initial=0) < 0 or voxels.max(initial=0) > LARGEST_COUNTED:
        return [int(value) for value in np.unique(voxels)]
    return [int(value) for value in np.flatnonzero(np.bincount(voxels.astype(np.intp)))]
