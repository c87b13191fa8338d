"""One case on disk: read mask and label, score them, and keep the scores so that a second run need not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg import __version__
from autoseg.core.errors import DataError, PlanError
from autoseg.core.images import read_voxels, strip_ending
from autoseg.core.records import Case, CaseScores, Dataset, Label, ScoredCase
from autoseg.core.store import hash_settings, read_record, sha256, write_record
from autoseg.datasets import read_label
from autoseg.evaluation import Convention, score_case, score_missing
from autoseg.evaluation.cases import name_targets
from autoseg.metrics import METRICS

# To be raised when a metric's code changes its numbers and neither its description nor autoseg's version tells.
REVISION = 1


@dataclass(frozen=True, kw_only=True)
class ScoringTask:
    """What a worker needs to score a case.

    Attributes:
        dataset: what the values mean; without its cases.
        case: with its label files.
        mask: the prediction; None where it is missing.
        convention: which metrics, and how.
        kept: folder that keeps each case's scores; None keeps nothing.
    """

    dataset: Dataset
    case: Case
    mask: Path | None
    convention: Convention
    kept: Path | None


def score_files(task: ScoringTask) -> CaseScores:
    """Score one case, or read its stored scores when neither its files nor any setting has changed.

    Raises:
        DataError: mask and label do not lie on one grid, or hold values that cannot be scored.
    """
    return _score_or_read(task).model_copy(update={"group": task.case.group})  # scores of 0.1 do not hold it


def _score_or_read(task: ScoringTask) -> CaseScores:
    if task.kept is None:
        return _score(task)
    path, key = task.kept / f"{task.case.id}.json", _make_key(task)
    if path.exists():
        try:
            found = read_record(ScoredCase, path, advice="score again")
        except PlanError:  # of another version, or damaged: it is only a copy
            found = None
        if found is not None and found.key == key:
            return found.scores
    scores = _score(task)
    write_record(path, ScoredCase(key=key, scores=scores))
    return scores


def _score(task: ScoringTask) -> CaseScores:
    dataset, case, convention = task.dataset, task.case, task.convention
    label = read_label(dataset, case)
    if task.mask is None:
        return score_missing(
            case.id,
            label.voxels,
            spacing=label.grid.spacing,
            labels=dataset.labels,
            regions=dataset.regions,
            ignore_label=dataset.ignore_label,
            metrics=convention.metrics,
            penalty_mm=convention.penalty_mm,
        )
    voxels = _read_mask(case, task.mask, label)
    probabilities = None
    if _ranks_voxels(convention.metrics):
        targets = name_targets(dataset.labels, dataset.regions, dataset.ignore_label)
        probabilities = read_target_probabilities(case, _probabilities_of(task.mask), targets, voxels.shape)
    return score_case(
        case.id,
        voxels,
        label.voxels,
        spacing=label.grid.spacing,
        labels=dataset.labels,
        regions=dataset.regions,
        ignore_label=dataset.ignore_label,
        metrics=convention.metrics,
        empty_score=convention.empty_score,
        penalty_mm=convention.penalty_mm,
        probabilities=probabilities,
    )


def _read_mask(case: Case, path: Path, label: Label) -> np.ndarray:
    """(Z,Y,X), whole numbers as integers."""
    voxels, grid = read_voxels(path)
    if not grid.matches(label.grid):
        raise DataError(
            f"case {case.id}: the mask {path} lies on another grid ({grid.describe()}) than the label "
            f"{case.labels[0]} ({label.grid.describe()}); score masks on the scan's own grid"
        )
    if voxels.dtype.kind == "f" and np.array_equal(voxels, np.rint(voxels)):
        return voxels.astype(np.int32)
    return voxels


def read_target_probabilities(
    case: Case, path: Path, targets: dict[str, tuple[int, ...]], shape: Sequence[int]
) -> dict[str, np.ndarray]:
    """Probability of each label or region, from what ``--probabilities`` wrote beside the mask.

    Args:
        path: ``<case>.npz``: (K,Z,Y,X) or a box of it, names and values of the K channels.
        targets: name -> label values.
        shape: of the mask.

    Returns:
        name -> (Z,Y,X) float.

    Raises:
        DataError: the file is missing, damaged, or knows other labels.
    """
    if not path.is_file():
        raise DataError(
            f"case {case.id}: there is no {path}, which average_precision needs; predict with --probabilities"
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            channels, box = stored["probabilities"], stored.get("box")
            names, values = [str(name) for name in stored["names"]], [int(value) for value in stored["values"]]
            full = tuple(stored["shape"]) if box is not None else channels.shape[1:]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"case {case.id}: {path} holds no probabilities ({error}); predict the case again") from error
    if tuple(full) != tuple(shape):
        raise DataError(f"case {case.id}: {path} has shape {tuple(full)} and the mask {tuple(shape)}; predict again")
    inside = ... if box is None else tuple(slice(start, stop) for start, stop in box.tolist())
    found = {}
    for name, members in targets.items():
        exclusive = 0 in values  # classes, with the background; otherwise regions, which overlap
        if name in names and not (exclusive and len(members) > 1):
            chosen = [names.index(name)]
        elif exclusive and set(members) <= set(values):
            chosen = [values.index(member) for member in members]
        else:
            raise DataError(
                f"case {case.id}: {path} holds {', '.join(names)} and not {name}; score what the model predicts"
            )
        found[name] = np.zeros(tuple(shape), channels.dtype)
        found[name][inside] = channels[chosen].sum(axis=0, dtype=channels.dtype)
    return found


def _ranks_voxels(metrics: Sequence[str]) -> bool:
    return any(METRICS[name].needs_probability for name in metrics)


def _probabilities_of(mask: Path) -> Path:
    return mask.with_name(f"{strip_ending(mask)}.npz")


def _make_key(task: ScoringTask) -> str:
    """Hash of the contents of all files and of all that shapes a score; not of where the files lie."""
    files = list(task.case.labels)
    if task.mask is not None:
        files.append(task.mask)
        if _ranks_voxels(task.convention.metrics):
            files.append(_probabilities_of(task.mask))
    digests = [sha256(path) if path.is_file() else "" for path in files]  # reading reports what is missing
    case = task.case.model_copy(update={"channels": (), "labels": ()})
    dataset = task.dataset.model_copy(update={"cases": (), "left_out": {}})
    described = [METRICS[name].describe(task.convention.empty_score) for name in task.convention.metrics]
    return hash_settings(digests, task.mask is None, case, dataset, task.convention, described, __version__, REVISION)
