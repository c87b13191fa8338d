"""The winner as a folder that predicts anywhere: copies of its members' models, and what is done to their masks."""

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
    places: ExperimentPaths,
    dataset: str,
    members: tuple[str, ...],
    folds: tuple[str, ...],
    *,
    postprocessing: Mapping[str, PostProcessing],
    temperature: float,
) -> None:
    """Put the winner in the place of the former one, whole or not at all.

    Args:
        places: of the experiment.
        dataset: its name.
        members: configurations whose probabilities are averaged.
        folds: of each that were compared, and no others.
        postprocessing, temperature: as in the record ``BestModel``.

    Raises:
        StorageError: the disk refuses.
    """
    best = BestModel(dataset=dataset, members=members, postprocessing=dict(postprocessing), temperature=temperature)
    token = uuid.uuid4().hex[:8]
    making, former = (places.best.with_name(f".{token}.{what}") for what in ("best", "former"))
    try:
        for member in members:
            _copy_with_source(places.results / member, making / member, folds)
        write_record(making / BEST_RECORD, best)
        if places.best.exists():
            places.best.replace(former)
        making.replace(places.best)
    except OSError as error:
        raise StorageError(explain_write_error(places.best, error)) from error
    finally:
        if not places.best.exists() and former.exists():
            former.replace(places.best)
        for folder in (making, former):
            shutil.rmtree(folder, ignore_errors=True)


def _copy_with_source(source: Path, target: Path, folds: tuple[str, ...]) -> None:
    """A model folder, and the one inside it that feeds a cascade."""
    copy_model(source, target, folds)
    fed_by = load_plan(source).configurations[source.name].cascade_from
    if fed_by is not None:
        copy_model(source / fed_by, target / fed_by)
