"""The winner as a self-contained folder: copies of its members' models, their temperature and post-processing."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from autoseg.core.errors import StorageError
from autoseg.core.records import BestModel, PostProcessing
from autoseg.core.store import explain_write_error, write_record
from autoseg.experiment.records import ExperimentPaths
from autoseg.model import copy_model, load_plan
from autoseg.prediction.ensembles import BEST_RECORD


def write_best(
    paths: ExperimentPaths,
    dataset_name: str,
    members: tuple[str, ...],
    folds: tuple[str, ...],
    *,
    postprocessing: Mapping[str, PostProcessing],
    temperature: float,
) -> None:
    """Replace the best model, whole or not at all.

    Args:
        paths: of the experiment.
        dataset_name: of the experiment.
        members: configurations whose probabilities are averaged.
        folds: the folds of each that were compared.
        postprocessing, temperature: as in the record ``BestModel``.

    Raises:
        StorageError: the folder cannot be written.
    """
    best = BestModel(
        dataset=dataset_name, members=members, postprocessing=dict(postprocessing), temperature=temperature
    )
    token = uuid.uuid4().hex[:8]
    new, previous = (paths.best.with_name(f".{token}.{kind}") for kind in ("new", "previous"))
    try:
        for member in members:
            _copy_with_source(paths.results / member, new / member, folds)
        write_record(new / BEST_RECORD, best)
        if paths.best.exists():
            paths.best.replace(previous)
        new.replace(paths.best)
    except OSError as error:
        raise StorageError(explain_write_error(paths.best, error)) from error
    finally:
        if not paths.best.exists() and previous.exists():
            previous.replace(paths.best)
        for folder in (new, previous):
            shutil.rmtree(folder, ignore_errors=True)


def _copy_with_source(source: Path, target: Path, folds: tuple[str, ...]) -> None:
    """Copy a model folder, and the source of its cascade inside it."""
    copy_model(source, target, folds)
    cascade_source = load_plan(source).configurations[source.name].cascade_from
    if cascade_source is not None:
        copy_model(source / cascade_source, target / cascade_source)
