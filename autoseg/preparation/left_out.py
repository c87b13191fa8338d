"""Cases that ``autoseg_plan --skip-bad`` leaves out; training does so, too, until their files change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from autoseg.core.records import Dataset, Record
from autoseg.core.store import read_record, write_record


class LeftOut(Record):
    """Cases that could not be read when the dataset was planned.

    Attributes:
        schema_version: format version (``schema`` on disk).
        why: case id -> what is wrong with it.
        keys: case id -> hash of its files as they were then.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    why: dict[str, str]
    keys: dict[str, str]


def leave_out(dataset: Dataset, why: Mapping[str, str]) -> Dataset:
    """The dataset without some of its cases."""
    kept = tuple(case for case in dataset.cases if case.id not in why)
    return dataset.model_copy(update={"cases": kept, "left_out": {**dataset.left_out, **why}})


def write_left_out(path: Path, why: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """Record the skipped cases; no file if there are none.

    Args:
        path: ``left_out.json`` of a preprocessed dataset.
        why: case id -> what is wrong with it.
        keys: case id -> hash of its files.
    """
    if why:
        write_record(path, LeftOut(why=dict(why), keys={case: keys[case] for case in why}))
    else:
        path.unlink(missing_ok=True)


def read_left_out(path: Path, keys: Mapping[str, str]) -> dict[str, str]:
    """Cases that were left out and whose files are as they were then, and why.

    Raises:
        PlanError: the file is damaged.
    """
    if not path.exists():
        return {}
    noted = read_record(LeftOut, path, advice="delete it and run autoseg_plan --skip-bad again")
    return {case: why for case, why in noted.why.items() if case in keys and keys[case] == noted.keys.get(case)}
