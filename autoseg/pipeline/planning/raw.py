"""A raw dataset as commands open it, and the hashes that tell when its files have changed."""

from __future__ import annotations

import logging
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import list_files
from autoseg.core.records import Case, Dataset
from autoseg.core.store import Store, hash_settings
from autoseg.datasets import open_dataset, tell_assumed, tell_left_out
from autoseg.pipeline.planning.leaving_out import leave_out, read_left_out

LEFT_OUT = "left_out.json"
log = logging.getLogger(__name__)


def open_raw(store: Store, name: str, *, anew: bool = False) -> Dataset:
    """The raw dataset of that name; says in one line when it was recognised as distributed.

    Args:
        anew: with the cases that were left out when it was planned; they may be whole by now.
    """
    dataset = open_dataset(store.raw(name), name)
    if dataset.kind != "nnunet":
        log.info(
            "%s lies there as distributed (%s, %d cases); no import needed", name, dataset.kind, len(dataset.cases)
        )
    tell_assumed(dataset)
    noted = store.preprocessed(name) / LEFT_OUT
    if not anew and noted.exists():
        dataset = leave_out(dataset, read_left_out(noted, {case.id: case_key(dataset, case) for case in dataset.cases}))
    tell_left_out(dataset)
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
    """What a worker must know of a dataset to read one case of it."""
    return dataset.model_copy(update={**update, "cases": (), "left_out": {}})
