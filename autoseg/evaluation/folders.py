"""``autoseg_evaluate``: masks against labels, per case and label, with a summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autoseg.core.errors import CasesError, DataError, UsageError
from autoseg.core.images import file_ending, read_voxels, strip_ending
from autoseg.core.parallel import Progress, count_workers, map_cases, no_progress
from autoseg.core.records import Case, CaseScores, Dataset, Folds, Scores
from autoseg.core.store import Store, read_record, write_record, write_text
from autoseg.datasets import find_dataset, open_dataset
from autoseg.evaluation import (
    DEFAULT_METRICS,
    Convention,
    follow_preset,
    pair_masks,
    render_csv,
    render_summary_csv,
    summarize,
)
from autoseg.evaluation.scoring import ScoringTask, score_files
from autoseg.metrics import METRICS
from autoseg.options import EvaluateOptions

log = logging.getLogger(__name__)

# Two masks, their comparison and its distances for a large scan (about 20 million voxels).
BYTES_PER_WORKER = 2**30
MOST_VALUES = 65535  # up to which values are counted instead of sorted
KEPT = "case_scores"  # beside scores.json: the scores of each case, to go on from


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What masks are scored against, and how.

    Attributes:
        references: a folder of label files, or a dataset in a known layout.
        dataset_name: a dataset under ``autoseg_raw`` instead.
        fold: only the cases that this fold of the dataset holds out.
        cases: only these.
        metrics: instead of the preset's or the default ones; ``all`` is every one that masks alone can have.
        preset: a challenge whose metrics and conventions are followed.
        allow_missing: count a missing mask as the worst score there is, instead of refusing.
    """

    references: Path | None = None
    dataset_name: str | None = None
    fold: str | None = None
    cases: tuple[str, ...] | None = None
    metrics: tuple[str, ...] | None = None
    preset: str | None = None
    allow_missing: bool = False


def evaluate(store: Store, options: EvaluateOptions, *, progress: Progress = no_progress) -> Scores:
    """Score a folder of masks and write the scores beside them, or into the output folder.

    The scores of each case are kept, so that a second call scores only what has changed or was not done.

    Raises:
        UsageError: a folder does not exist, or holds nothing to score.
        DataError: predictions are missing; CasesError: some pairs cannot be compared.
    """
    asked = Asked(
        references=options.references,
        dataset_name=options.dataset,
        fold=options.fold,
        cases=options.cases,
        metrics=options.metrics,
        preset=options.preset,
        allow_missing=options.allow_missing,
    )
    output = options.output or options.predictions
    scores = score_folder(
        store, options.predictions, asked, kept=output / KEPT, workers=options.workers, progress=progress
    )
    write_scores(output, scores)
    return scores


def score_folder(
    store: Store,
    predictions: Path,
    asked: Asked,
    *,
    kept: Path | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """Score a folder of masks and write nothing but the scores of each case, into ``kept``; errors as ``evaluate``."""
    dataset, convention = follow(store, asked)
    masks = list_masks(predictions)
    labels = {case.id: case.labels[0] for case in dataset.cases if case.labels}
    pairing = pair_masks(masks, labels, allow_missing=asked.allow_missing)
    chosen = {pair.case: pair.prediction for pair in pairing.pairs}
    return score_masks(
        dataset,
        chosen,
        convention=convention,
        missing=pairing.missing,
        kept=kept,
        workers=workers,
        progress=progress,
    )


def follow(store: Store, asked: Asked) -> tuple[Dataset, Convention]:
    """The references that are asked for, and how they are scored.

    Raises:
        UsageError: a folder, preset, metric, fold or case that does not exist.
    """
    dataset = _references(store, asked.references, asked.dataset_name)
    dataset, convention = follow_preset(asked.preset, dataset) if asked.preset else (dataset, Convention())
    if asked.metrics is not None:
        convention = replace(convention, metrics=_name_metrics(asked.metrics))
    wanted = _wanted_cases(store, asked)
    if wanted is None:
        return dataset, convention
    labelled = {case.id for case in dataset.cases if case.labels}
    unknown = [case for case in wanted if case not in labelled]
    if unknown:
        raise UsageError(f"there is no label of case {unknown[0]}; name cases as the label files are named")
    cases = tuple(case for case in dataset.cases if case.id in set(wanted))
    return dataset.model_copy(update={"cases": cases}), convention


def score_masks(
    dataset: Dataset,
    masks: Mapping[str, Path],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    convention: Convention | None = None,
    missing: Sequence[str] = (),
    kept: Path | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """Score masks (case id -> file) against a dataset's labels.

    Args:
        metrics: names from the METRICS table, where no ``convention`` is given.
        convention: which metrics, and how.
        missing: cases without a mask, which get the worst score of every metric.
        kept: folder that keeps the scores of each case, to go on from; None keeps nothing.

    Raises:
        CasesError: some pairs cannot be compared; each is named.
    """
    convention = convention or Convention(metrics=tuple(metrics))
    for name in convention.metrics:
        METRICS[name]  # one that does not exist is told once, not for every case
    cases = {case.id: case for case in dataset.cases}
    shared = dataset.model_copy(update={"cases": (), "left_out": {}})
    files: dict[str, Path | None] = {**masks, **dict.fromkeys(missing)}
    tasks = [
        (case, ScoringTask(dataset=shared, case=cases[case], mask=path, convention=convention, kept=kept))
        for case, path in files.items()
    ]
    # A process starts in about a second: not worth it for a handful of cases.
    workers = workers or count_workers(max(1, len(tasks) // 8), BYTES_PER_WORKER)
    found: dict[str, CaseScores] = {}
    failures: dict[str, str] = {}
    for done, outcome in enumerate(map_cases(score_files, tasks, workers=workers), start=1):
        if outcome.value is not None:
            found[outcome.name] = outcome.value
        else:
            failures[outcome.name] = outcome.failure or "no score"
        progress(done, len(tasks), "scoring")
    if failures:
        left = "nothing was written" if kept is None else "the others are kept, and no scores.json was written"
        raise CasesError(failures, of=len(tasks), doing="scoring", others=left)
    scores = summarize(
        [found[case] for case in sorted(found)],
        convention.metrics,
        empty_score=convention.empty_score,
        penalty_mm=convention.penalty_mm,
    )
    return scores.model_copy(update={"preset": convention.preset, "rules": convention.rules})


def write_scores(folder: Path, scores: Scores) -> None:
    """Write ``scores.json``, ``scores.csv`` (per case) and ``scores_summary.csv``."""
    write_record(folder / "scores.json", scores)
    write_text(folder / "scores.csv", render_csv(scores))
    write_text(folder / "scores_summary.csv", render_summary_csv(scores))
    log.info("wrote %s, scores.csv and scores_summary.csv", folder / "scores.json")


def list_masks(folder: Path) -> dict[str, Path]:
    """Case id -> image file in a folder.

    Raises:
        UsageError: there is no such folder, or no image in it.
        DataError: two files of one case.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the folder that holds the masks")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or file_ending(path) is None:
            continue
        if strip_ending(path) in found:
            raise DataError(f"{folder} holds two files of case {strip_ending(path)}: {path.name} and another ending")
        found[strip_ending(path)] = path
    if not found:
        raise UsageError(f"{folder} holds no image (.nii.gz, .nii, .mha, .nrrd); give the folder that holds the masks")
    return found


def _name_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    if "all" not in metrics:
        return tuple(dict.fromkeys(metrics))
    return tuple(name for name in METRICS if name in metrics or not METRICS[name].needs_probability)


def _wanted_cases(store: Store, asked: Asked) -> tuple[str, ...] | None:
    """The cases that are asked for by name or by fold; None: all."""
    if asked.fold is None:
        return asked.cases
    if asked.dataset_name is None:
        raise UsageError("a fold belongs to a planned dataset; name it with -d")
    path = store.preprocessed(asked.dataset_name) / "folds.json"
    folds = read_record(Folds, path, advice=f"plan the dataset first: autoseg_plan -d {asked.dataset_name}").folds
    if not asked.fold.isdigit() or int(asked.fold) >= len(folds):
        raise UsageError(f"there is no fold {asked.fold}; {path} holds folds 0 to {len(folds) - 1}")
    held_out = folds[int(asked.fold)].validation
    strangers = [case for case in asked.cases or () if case not in held_out]
    if strangers:
        raise UsageError(f"fold {asked.fold} does not hold out case {strangers[0]}; give a fold or cases, not both")
    return held_out if asked.cases is None else asked.cases


def _references(store: Store, references: Path | None, dataset_name: str | None) -> Dataset:
    if dataset_name is not None:
        return open_dataset(store.raw(dataset_name), dataset_name)
    if references is None:
        raise UsageError("give the labels with -r FOLDER, or the dataset that holds them with -d NAME")
    if not references.is_dir():
        raise UsageError(f"{references} is no folder; give the folder that holds the labels")
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
    """The whole numbers in a file; counting is much sooner than sorting where they are small."""
    voxels = read_voxels(path)[0].ravel()
    if voxels.dtype.kind == "f":
        voxels = np.rint(voxels)
    if voxels.min(initial=0) < 0 or voxels.max(initial=0) > MOST_VALUES:
        return [int(value) for value in np.unique(voxels)]
    return [int(value) for value in np.flatnonzero(np.bincount(voxels.astype(np.intp)))]
