"""Scores of masks on disk: case by case in parallel, each stored so that a second run skips it, and written."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg import __version__
from autoseg.core.errors import CasesError, DataError, PlanError
from autoseg.core.geometry import box_slices
from autoseg.core.images import read_voxels, strip_ending
from autoseg.core.parallel import Progress, count_workers, map_cases, no_progress
from autoseg.core.probabilities import read_probabilities
from autoseg.core.records import Case, CaseScores, Dataset, Label, ScoredCase, Scores
from autoseg.core.runs import note_case
from autoseg.core.store import check_ours, hash_settings, read_record, sha256, write_record, write_text
from autoseg.datasets import read_label
from autoseg.datasets.reading import ROUNDING, WHITE
from autoseg.evaluation.cases import name_targets, score_case
from autoseg.evaluation.conventions import Convention
from autoseg.evaluation.summary import summarize
from autoseg.evaluation.tables import render_csv, render_summary_csv
from autoseg.metrics import METRICS

log = logging.getLogger(__name__)

CASE_SCORES = "case_scores"  # folder beside scores.json with the scores of each case
LAST_SCORES = "scores_summary.csv"  # is written last
# Two masks, their comparison and its distances for a large scan (about 20 million voxels).
BYTES_PER_WORKER = 2**30
# Raise it when a metric's code changes its numbers and neither its description nor autoseg's version does.
REVISION = 1


@dataclass(frozen=True, kw_only=True)
class ScoringTask:
    """Everything a worker needs to score a case.

    Attributes:
        dataset: names of the label values; without its cases.
        case: with its label files.
        mask: the prediction; None where it is missing.
        convention: metrics, and the rules of each.
        cache: folder for each case's scores; None stores nothing.
    """

    dataset: Dataset
    case: Case
    mask: Path | None
    convention: Convention
    cache: Path | None


def score_masks(
    dataset: Dataset,
    masks: Mapping[str, Path],
    *,
    convention: Convention,
    missing: Sequence[str] = (),
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """Score masks (case id -> file) against a dataset's labels.

    Args:
        convention: metrics, and the rules of each.
        missing: cases without a mask, which get the worst score of every metric.
        cache: folder for the scores of each case; None stores nothing.

    Raises:
        CasesError: some pairs cannot be compared; each is named.
    """
    for name in convention.metrics:
        _ = METRICS[name]  # an unknown one is reported once, not for every case
    cases = {case.id: case for case in dataset.cases}
    shared = dataset.model_copy(update={"cases": (), "left_out": {}})
    files: dict[str, Path | None] = {**masks, **dict.fromkeys(missing)}
    tasks = [
        (case, ScoringTask(dataset=shared, case=cases[case], mask=path, convention=convention, cache=cache))
        for case, path in files.items()
    ]
    # A process starts in about a second: not worth it for a handful of cases.
    workers = workers or count_workers(max(1, len(tasks) // 8), BYTES_PER_WORKER)
    scored: dict[str, CaseScores] = {}
    failures: dict[str, str] = {}
    for done, outcome in enumerate(map_cases(score_files, tasks, workers=workers), start=1):
        if outcome.value is not None:
            scored[outcome.name] = outcome.value
        else:
            failures[outcome.name] = outcome.failure or "no score"
        note_case(outcome.name, failures.get(outcome.name), outcome.seconds)
        progress(done, len(tasks), "scoring")
    if failures:
        consequence = (
            "nothing was written" if cache is None else "the others are stored, and no scores.json was written"
        )
        raise CasesError(failures, of=len(tasks), doing="scoring", others=consequence)
    scores = summarize(
        [scored[case] for case in sorted(scored)],
        convention.metrics,
        empty_score=convention.empty_score,
        penalty_mm=convention.penalty_mm,
    )
    return scores.model_copy(update={"preset": convention.preset, "rules": convention.rules})


def check_scores(folder: Path) -> None:
    """Refuse a folder whose files of these names are not autoseg's, before anything is scored.

    Raises:
        UsageError: one of them was not written by autoseg.
    """
    check_ours(folder / "scores.json", '"conventions"')
    check_ours(folder / "scores.csv", "case,label,reference_volume_ml,")
    check_ours(folder / LAST_SCORES, "label,reference_volume,metric,")


def write_scores(folder: Path, scores: Scores) -> None:
    """Write ``scores.json``, ``scores.csv`` (per case) and ``scores_summary.csv``."""
    write_record(folder / "scores.json", scores)
    write_text(folder / "scores.csv", render_csv(scores))
    write_text(folder / LAST_SCORES, render_summary_csv(scores))
    log.info("wrote %s, scores.csv and scores_summary.csv", folder / "scores.json")


def score_files(task: ScoringTask) -> CaseScores:
    """Score one case, or read its stored scores when neither its files nor any setting has changed.

    Raises:
        DataError: mask and label do not lie on one grid, or hold values that cannot be scored.
    """
    return _score_or_read(task).model_copy(update={"group": task.case.group})  # scores of 0.1 do not hold it


def _score_or_read(task: ScoringTask) -> CaseScores:
    if task.cache is None:
        return _score(task)
    path, key = task.cache / f"{task.case.id}.json", _make_key(task)
    if path.exists():
        try:
            stored = read_record(ScoredCase, path, advice="score again")
        except PlanError:  # of another version, or damaged: the case is scored again
            stored = None
        if stored is not None and stored.key == key:
            return stored.scores
    scores = _score(task)
    write_record(path, ScoredCase(key=key, scores=scores))
    return scores


def _score(task: ScoringTask) -> CaseScores:
    dataset, case, convention = task.dataset, task.case, task.convention
    label = read_label(dataset, case)
    voxels = None if task.mask is None else _read_mask(case, task.mask, label)
    probabilities = None
    if task.mask is not None and _needs_probabilities(convention.metrics):
        path = _probabilities_of(task.mask)
        probabilities = _read_target_probabilities(case, path, name_targets(dataset), label.voxels.shape)
    return score_case(
        case.id,
        voxels,
        label.voxels,
        spacing=label.grid.spacing,
        dataset=dataset,
        convention=convention,
        probabilities=probabilities,
    )


def _read_mask(case: Case, path: Path, label: Label) -> np.ndarray:
    """(Z,Y,X), whole numbers as integers; rounded and black and white as labels are read."""
    voxels, grid = read_voxels(path)
    if not grid.matches(label.grid):
        raise DataError(
            f"case {case.id}: the mask {path} lies on another grid ({grid.describe()}) than the label "
            f"{case.labels[0]} ({label.grid.describe()}): {grid.describe_difference(label.grid)}; score masks on the "
            f"scan's own grid"
        )
    if voxels.dtype.kind == "f" and np.abs(voxels - np.rint(voxels)).max() <= ROUNDING:
        voxels = np.rint(voxels).astype(np.int32)
    if set(np.unique(label.voxels)) <= {0, 1} and set(np.unique(voxels)) == {0, WHITE}:
        voxels = (voxels == WHITE).astype(np.uint8)  # an image editor's mask: black and white
    return voxels


def _read_target_probabilities(
    case: Case, path: Path, targets: dict[str, tuple[int, ...]], shape: Sequence[int]
) -> dict[str, np.ndarray]:
    """Probability of each label or region, from what ``--probabilities`` wrote beside the mask.

    Args:
        path: ``<case>.npz``.
        targets: name -> label values.
        shape: of the mask.

    Returns:
        name -> (Z,Y,X) float.

    Raises:
        DataError: the file is missing, or has other labels or another shape.
        ModelError: the file is damaged.
    """
    if not path.is_file():
        raise DataError(f"case {case.id}: average_precision needs {path}; predict with --probabilities")
    stored = read_probabilities(path, advice="predict the case again")
    if stored.shape != tuple(shape):
        raise DataError(f"case {case.id}: {path} has shape {stored.shape} and the mask {tuple(shape)}; predict again")
    outputs, inside = stored.outputs, box_slices(stored.box)
    probabilities = {}
    for name, members in targets.items():
        if name in outputs.names and (outputs.overlap or len(members) == 1):
            channels = [outputs.names.index(name)]
        elif not outputs.overlap and set(members) <= set(outputs.values):
            channels = [outputs.values.index(member) for member in members]
        else:
            raise DataError(
                f"case {case.id}: {path} holds {', '.join(outputs.names)} and not {name}; score what the model predicts"
            )
        probabilities[name] = np.zeros(stored.shape, stored.voxels.dtype)
        probabilities[name][inside] = stored.voxels[channels].sum(axis=0, dtype=stored.voxels.dtype)
    return probabilities


def _needs_probabilities(metrics: Sequence[str]) -> bool:
    return any(METRICS[name].needs_probability for name in metrics)


def _probabilities_of(mask: Path) -> Path:
    return mask.with_name(f"{strip_ending(mask)}.npz")


def _make_key(task: ScoringTask) -> str:
    """Hash of the contents of all files and of everything that shapes a score; paths do not enter."""
    files = list(task.case.labels)
    if task.mask is not None:
        files.append(task.mask)
        if _needs_probabilities(task.convention.metrics):
            files.append(_probabilities_of(task.mask))
    digests = [sha256(path) if path.is_file() else "" for path in files]  # reading reports what is missing
    case = task.case.model_copy(update={"channels": (), "labels": ()})
    dataset = task.dataset.model_copy(update={"cases": (), "left_out": {}})
    described = [METRICS[name].describe(task.convention.empty_score) for name in task.convention.metrics]
    return hash_settings(digests, task.mask is None, case, dataset, task.convention, described, __version__, REVISION)
