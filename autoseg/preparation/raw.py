"""A raw dataset as commands open it, and the hashes that tell when its files have changed."""

from __future__ import annotations

import logging
from pathlib import Path

from autoseg.core.errors import DataError, UsageError
from autoseg.core.images import list_files
from autoseg.core.records import Case, Dataset, Plan
from autoseg.core.store import Store, hash_settings, read_record
from autoseg.datasets import log_assumed, log_left_out, open_dataset
from autoseg.preparation.left_out import leave_out, read_left_out

LEFT_OUT = "left_out.json"
log = logging.getLogger(__name__)


def open_raw(store: Store, name: str, *, retry_skipped: bool = False) -> Dataset:
    """The raw dataset of that name; one line is logged when it was recognised as distributed.

    Args:
        retry_skipped: include the cases that were skipped when it was planned; they may be repaired by now.
    """
    dataset = open_dataset(store.raw(name), name)
    if dataset.kind != "nnunet":
        log.info(
            "%s lies there as distributed (%s, %d cases); no import needed", name, dataset.kind, len(dataset.cases)
        )
    log_assumed(dataset)
    noted = store.preprocessed(name) / LEFT_OUT
    if not retry_skipped and noted.exists():
        dataset = leave_out(dataset, read_left_out(noted, {case.id: case_key(dataset, case) for case in dataset.cases}))
    log_left_out(dataset)
    return dataset


def source_key(case: Case) -> str:
    """A hash of the case's files by name, size and time, and of the spacing they do not state."""
    named = [channel.path for channel in case.channels] + list(case.labels)
    stated = [] if case.spacing is None else [case.spacing]
    return hash_settings(*stated, *(facts for path in named for facts in _list_facts(path)))


def _list_facts(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of a file or of each slice; none of what is missing, which reading will report."""
    try:
        return [(file.name, (s := file.stat()).st_size, s.st_mtime_ns) for file in list_files(path)]
    except (DataError, OSError):
        return []


def case_key(dataset: Dataset, case: Case) -> str:
    """A hash of the case's files and of how the dataset reads them."""
    return hash_settings(source_key(case), case.group, case.site, without_cases(dataset, name="", licence=""))


def without_cases(dataset: Dataset, **update: str) -> Dataset:
    """Part of a dataset that a worker needs to read one case."""
    return dataset.model_copy(update={**update, "cases": (), "left_out": {}})


def read_plan(store: Store, name: str) -> Plan:
    """The plan of a dataset as it stands on disk.

    Raises:
        UsageError: the dataset does not exist.
        PlanError: not planned yet, or edited wrongly.
    """
    path = store.preprocessed(name) / "plan.json"
    if not path.exists() and not store.raw(name).exists():
        known = ", ".join(store.datasets()) or "none"
        raise UsageError(f"unknown dataset '{name}' in {store.raw(name).parent}; choose from: {known}")
    return read_record(Plan, path, advice=f"make it with: autoseg_plan -d {name}")
