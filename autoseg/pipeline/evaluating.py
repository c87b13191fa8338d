"""``autoseg_evaluate``: masks against labels, per case and label, with a summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.errors import CasesError, DataError, UsageError
from autoseg.core.images import file_ending, read_voxels, strip_ending
from autoseg.core.parallel import Progress, count_workers, map_cases, no_progress
from autoseg.core.records import Case, CaseScores, Dataset, Scores
from autoseg.core.store import Store, write_record, write_text
from autoseg.datasets import find_dataset, open_dataset, read_label
from autoseg.evaluation import DEFAULT_METRICS, pair_masks, render_csv, score_case, summarize

log = logging.getLogger(__name__)

# Two masks, their comparison and its distances for a large scan (about 20 million voxels).
BYTES_PER_WORKER = 2**30


def evaluate(
    store: Store,
    predictions: Path,
    *,
    references: Path | None = None,
    dataset_name: str | None = None,
    output: Path | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    allow_missing: bool = False,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """Score a folder of masks and write ``scores.json`` and ``scores.csv`` beside them (or into ``output``).

    Args:
        predictions: ``<case>.nii.gz`` (or another image ending), one value per class.
        references: a folder of label files with the same names, or a dataset in a known layout.
        dataset_name: a dataset under ``autoseg_raw`` instead of ``references``.

    Raises:
        UsageError: a folder does not exist, or holds nothing to score.
        DataError: predictions are missing; CasesError: some pairs cannot be compared.
    """
    dataset = _references(store, references, dataset_name)
    masks = list_masks(predictions)
    labels = {case.id: case.labels[0] for case in dataset.cases if case.labels}
    pairing = pair_masks(masks, labels, allow_missing=allow_missing)
    chosen = {pair.case: pair.prediction for pair in pairing.pairs}
    scores = score_masks(dataset, chosen, metrics=metrics, workers=workers, progress=progress)
    write_scores(output or predictions, scores)
    return scores


def score_masks(
    dataset: Dataset,
    masks: Mapping[str, Path],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """Score masks (case id -> file) against a dataset's labels.

    Raises:
        CasesError: some pairs cannot be compared; each is named.
    """
    cases = {case.id: case for case in dataset.cases}
    tasks = [(case, (dataset, cases[case], path, tuple(metrics))) for case, path in masks.items()]
    # A process starts in about a second: not worth it for a handful of cases.
    workers = workers or count_workers(max(1, len(tasks) // 8), BYTES_PER_WORKER)
    found: dict[str, CaseScores] = {}
    failures: dict[str, str] = {}
    for done, outcome in enumerate(map_cases(_score, tasks, workers=workers), start=1):
        if outcome.value is not None:
            found[outcome.name] = outcome.value
        else:
            failures[outcome.name] = outcome.failure or "no score"
        progress(done, len(tasks), "scoring")
    if failures:
        raise CasesError(failures, of=len(tasks), doing="scoring", others="nothing was written")
    return summarize([found[case] for case in sorted(found)], metrics)


def write_scores(folder: Path, scores: Scores) -> None:
    """Write ``scores.json`` and ``scores.csv``."""
    write_record(folder / "scores.json", scores)
    write_text(folder / "scores.csv", render_csv(scores))
    log.info("wrote %s and scores.csv", folder / "scores.json")


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


def _score(task: tuple[Dataset, Case, Path, tuple[str, ...]]) -> CaseScores:
    dataset, case, path, metrics = task
    label = read_label(dataset, case)
    voxels, grid = read_voxels(path)
    if not grid.matches(label.grid):
        raise DataError(
            f"case {case.id}: the mask {path} lies on another grid ({grid.describe()}) than the label "
            f"{case.labels[0]} ({label.grid.describe()}); score masks on the scan's own grid"
        )
    if voxels.dtype.kind == "f" and np.array_equal(voxels, np.rint(voxels)):
        voxels = voxels.astype(np.int32)
    return score_case(
        case.id,
        voxels,
        label.voxels,
        spacing=label.grid.spacing,
        labels=dataset.labels,
        regions=dataset.regions,
        ignore_label=dataset.ignore_label,
        metrics=metrics,
    )


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
        return dataset.model_copy(update={"cases": cases})
    values = sorted({int(value) for path in files.values() for value in np.unique(np.rint(read_voxels(path)[0]))} - {0})
    labels = {"background": 0} | {("lesion" if values == [1] else f"label_{value}"): value for value in values or [1]}
    return Dataset(name=folder.name, kind="folder", channels=(), labels=labels, cases=cases)
