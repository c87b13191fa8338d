"""A raw dataset as commands open it: hashes that show changed files, and the cases that ``--skip-bad`` skipped."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from autoseg.core.errors import DataError, UsageError
from autoseg.core.images import list_files
from autoseg.core.records import Case, Dataset, Plan, Record
from autoseg.core.store import Store, hash_settings, read_record, write_record
from autoseg.datasets import log_assumed, log_left_out, open_dataset

LEFT_OUT = "left_out.json"
log = logging.getLogger(__name__)


class LeftOut(Record):
    """Cases that could not be read when the dataset was planned.

    Attributes:
        schema_version: format version (``schema`` on disk).
        reasons: case id -> what is wrong with it (``why`` on disk).
        keys: case id -> hash of its files at that time.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    reasons: dict[str, str] = Field(alias="why")
    keys: dict[str, str]


def open_raw(store: Store, name: str, *, retry_skipped: bool = False) -> Dataset:
    """The raw dataset of that name; one line is logged when it was recognised as distributed.

    Args:
        retry_skipped: include the cases that were skipped when it was planned; they may be repaired by now.
    """
    dataset = open_dataset(store.raw(name), name)
    if dataset.kind != "nnunet":
        log.info(
            "%s is there as distributed (%s, %d cases); no import is needed", name, dataset.kind, len(dataset.cases)
        )
    log_assumed(dataset)
    record_path = store.preprocessed(name) / LEFT_OUT
    if not retry_skipped and record_path.exists():
        dataset = leave_out(
            dataset, read_left_out(record_path, {case.id: case_key(dataset, case) for case in dataset.cases})
        )
    log_left_out(dataset)
    return dataset


def source_key(case: Case) -> str:
    """A hash of the case's files by name, size and time, and of the spacing they do not state."""
    named = [channel.path for channel in case.channels] + list(case.labels)
    stated = [] if case.spacing is None else [case.spacing]
    return hash_settings(*stated, *(facts for path in named for facts in _list_facts(path)))


def list_all_files(dataset: Dataset) -> list[Path]:
    """Every channel and label of a dataset."""
    return [path for case in dataset.cases for path in (*(file.path for file in case.channels), *case.labels)]


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
    """The plan of a dataset, read from disk.

    Raises:
        UsageError: the dataset does not exist.
        PlanError: not planned yet, or edited wrongly.
    """
    path = store.preprocessed(name) / "plan.json"
    if not path.exists() and not store.raw(name).exists():
        datasets = ", ".join(store.datasets()) or "none"
        raise UsageError(f"unknown dataset '{name}' in {store.raw(name).parent}; choose from: {datasets}")
    return read_record(Plan, path, advice=f"make it with: autoseg_plan -d {name}")


def leave_out(dataset: Dataset, reasons: Mapping[str, str]) -> Dataset:
    """The dataset without some of its cases."""
    cases = tuple(case for case in dataset.cases if case.id not in reasons)
    return dataset.model_copy(update={"cases": cases, "left_out": {**dataset.left_out, **reasons}})


def write_left_out(path: Path, reasons: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """Record the skipped cases; no file if there are none.

    Args:
        path: ``left_out.json`` of a preprocessed dataset.
        reasons: case id -> what is wrong with it.
        keys: case id -> hash of its files.
    """
    if reasons:
        write_record(path, LeftOut(why=dict(reasons), keys={case: keys[case] for case in reasons}))
    else:
        path.unlink(missing_ok=True)


def read_left_out(path: Path, keys: Mapping[str, str]) -> dict[str, str]:
    """Case -> reason, for cases that were left out and whose files have not changed.

    Raises:
        PlanError: the file is damaged.
    """
    if not path.exists():
        return {}
    record = read_record(LeftOut, path, advice="delete it and run autoseg_plan --skip-bad again")
    return {
        case: reason for case, reason in record.reasons.items() if case in keys and keys[case] == record.keys.get(case)
    }
