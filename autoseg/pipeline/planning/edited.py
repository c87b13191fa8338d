"""Files that a person may edit: a seal beside each tells whether somebody has, and nothing is overwritten silently."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Literal, TypeVar

from autoseg.core.errors import PlanError
from autoseg.core.records import Record, render_record
from autoseg.core.store import read_record, write_record, write_text

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Record)
Edited = Literal["refuse", "keep", "replace"]


def settle(path: Path, made: R, edited: Edited, name: str, *, write: bool = True) -> R:
    """Write what was made, unless a person has edited the file since autoseg wrote it.

    Args:
        made: what autoseg would write.
        edited: what to do with an edited file: stop, use it, or replace it, leaving a copy.
        name: the dataset's, for the message.
        write: False only says what would be used.

    Raises:
        PlanError: the file was edited and ``edited`` is ``refuse``, or it was edited wrongly.
    """
    if path.exists() and path.read_text() != render_record(made) and is_edited(path):
        if edited == "refuse":
            raise PlanError(f"{path} was edited by hand; {remedy(name)}")
        if edited == "keep":
            log.info("%s was edited by hand and is used as it is", path)
            return read_record(type(made), path, remedy=remedy(name))
        if write:
            copy = path.with_name(f"{path.stem}.before.json")
            path.replace(copy)
            log.info("the edited %s is kept as %s", path.name, copy.name)
    if not write:
        same = path.exists() and path.read_text() == render_record(made)
        log.info("%s would %s", path.name, "stay as it is" if same else "change" if path.exists() else "be new")
    else:
        write_record(path, made)
        write_text(_seal(path), _digest(path))
    return made


def is_edited(path: Path) -> bool:
    """Whether the file is there and is not what autoseg wrote last."""
    seal = _seal(path)
    return path.exists() and (not seal.exists() or seal.read_text() != _digest(path))


def remedy(name: str) -> str:
    """What a user can do about an edited file, the last clause of a message."""
    return f"autoseg_plan -d {name} --keep uses it as it is, --replace makes it new (and keeps a copy)"


def _seal(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
