"""Preprocess every case once per distinct settings, into folders named after them."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autoseg.core.arrays import is_prepared, store_image, write_prepared
from autoseg.core.parallel import WORKER_BYTES, Progress, count_workers, run_cases
from autoseg.core.records import Case, CaseFacts, Dataset, Fingerprint, Plan, PreprocessingSettings
from autoseg.core.store import hash_settings
from autoseg.datasets import read_case
from autoseg.planning import find_prepared_shape
from autoseg.preparation.raw import case_key, without_cases
from autoseg.preprocessing import prepare_case

log = logging.getLogger(__name__)
# Bytes per voxel, and per voxel and channel: of the scan as it is read, and of the resampled one. Measured peaks, plus
# a quarter.
BYTES_READ = (10, 10)
BYTES_RESAMPLED = (4, 6)


def arrays_folder(preprocessed: Path, settings: PreprocessingSettings) -> Path:
    """Folder of the arrays with these settings; configurations with equal settings share them.

    Plans made before there was a choice of storage or region have the first of each, and their arrays keep their name.
    """
    first = {"storage": "float32", "region": "nonzero"}
    without = [key for key, value in first.items() if getattr(settings, key) == value]
    return preprocessed / f"arrays_{hash_settings(settings, without=without)}"


def prepare_arrays(
    dataset: Dataset,
    folder: Path,
    plan: Plan,
    fingerprint: Fingerprint,
    keys: Mapping[str, str],
    workers: int | None,
    progress: Progress,
) -> None:
    """Preprocess every case once per distinct settings, and drop arrays that no configuration uses any more.

    Args:
        workers: processes; None takes as many as cores and memory allow while each holds the largest case.

    Raises:
        CasesError: some cases failed; the arrays of the others are kept.
    """
    targets = {arrays_folder(folder, c.preprocessing): c.preprocessing for c in plan.configurations.values()}
    for stale in folder.glob("arrays_*"):
        if stale not in targets:
            shutil.rmtree(stale)
    bare = without_cases(dataset)
    for target, settings in targets.items():
        todo = [case for case in dataset.cases if not is_prepared(target, case.id, keys[case.id])]
        if not todo:
            continue
        names = [n for n, c in plan.configurations.items() if c.preprocessing == settings]
        log.info("preprocessing %d of %d cases for %s", len(todo), len(dataset.cases), ", ".join(names))
        fitting = workers or count_workers(len(todo), max(bytes_per_case(case, settings) for case in fingerprint.cases))
        tasks = [(case.id, (bare, case, settings, target, keys[case.id])) for case in todo]
        run_cases(_prepare, tasks, fitting, lambda case, done: None, "preprocessing", progress)


def prepare_scans(
    dataset: Dataset, target: Path, settings: PreprocessingSettings, workers: int | None, progress: Progress
) -> None:
    """Preprocess scans that were not measured, with or without a label; existing ones of unchanged files stay.

    Args:
        dataset: whose cases they are.
        target: folder of the arrays.
        workers: processes; None takes one.

    Raises:
        CasesError: some scans failed; the arrays of the others are kept.
    """
    keys = {case.id: case_key(dataset, case) for case in dataset.cases}
    bare = without_cases(dataset)
    todo = [case for case in dataset.cases if not is_prepared(target, case.id, keys[case.id])]
    tasks = [(case.id, (bare, case, settings, target, keys[case.id])) for case in todo]
    if tasks:
        log.info("preprocessing %d of %d scans", len(todo), len(dataset.cases))
        run_cases(_prepare, tasks, workers or 1, lambda case, done: None, "preprocessing", progress)


def bytes_per_case(case: CaseFacts, settings: PreprocessingSettings) -> int:
    """Memory to preprocess one case: the scan as read, and as resampled."""
    shape, channels = find_prepared_shape(case, settings), len(settings.channels)
    read, resampled = (per_channel * channels + base for base, per_channel in (BYTES_READ, BYTES_RESAMPLED))
    return WORKER_BYTES + math.prod(case.shape) * read + math.prod(shape) * resampled


def _prepare(task: tuple[Dataset, Case, PreprocessingSettings, Path, str]) -> None:
    dataset, case, settings, folder, key = task
    image, label = read_case(dataset, case)
    prepared = prepare_case(case.id, image, label, settings)
    write_prepared(folder, replace(prepared, image=store_image(prepared.image, settings.storage)), key)
