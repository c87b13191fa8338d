"""Files that a person may edit: a seal beside each tells whether somebody has, and nothing is overwritten silently."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from autoseg.core.errors import PlanError
from autoseg.core.records import Record, render_record
from autoseg.core.store import read_record, sha256, write_record, write_text

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Record)
Edited = Literal["refuse", "keep", "replace"]


@dataclass(frozen=True, kw_only=True)
class PendingFile(Generic[R]):
    """Content of a file before it is written.

    Attributes:
        path: of the file.
        record: what will be used.
        fate: ``keep`` leaves the file as it is, ``write`` writes what was made, ``replace`` leaves a copy of what a
            person edited.
    """

    path: Path
    record: R
    fate: Literal["keep", "write", "replace"]

    def write(self) -> None:
        """Write the file and its seal, if it is to change."""
        if self.fate == "keep":
            return
        if self.fate == "replace":
            copy = self.path.with_name(f"{self.path.stem}.before.json")
            self.path.replace(copy)
            log.info("the edited %s is kept as %s", self.path.name, copy.name)
        write_record(self.path, self.record)
        write_text(_seal(self.path), sha256(self.path))

    def say(self) -> None:
        """Log what writing would change."""
        same = self.fate == "keep" or (self.path.exists() and self.path.read_text() == render_record(self.record))
        log.info(
            "%s would %s", self.path.name, "stay as it is" if same else "change" if self.path.exists() else "be new"
        )


def settle(path: Path, made: R, edited: Edited, name: str) -> PendingFile[R]:
    """Decide what a file will hold: what was made, unless a person has edited it since autoseg wrote it.

    Args:
        made: what autoseg would write.
        edited: what to do with an edited file: stop, use it, or replace it, leaving a copy.
        name: the dataset's, for the message.

    Raises:
        PlanError: the file was edited and ``edited`` is ``refuse``, or it was edited wrongly.
    """
    if not is_edited(path) or path.read_text() == render_record(made):
        return PendingFile(path=path, record=made, fate="write")
    if edited == "refuse":
        raise PlanError(f"{path} was edited by hand; {advice(name)}")
    if edited == "replace":
        return PendingFile(path=path, record=made, fate="replace")
    log.info("%s was edited by hand and is used as it is", path)
    return PendingFile(path=path, record=read_record(type(made), path, advice=advice(name)), fate="keep")


def is_edited(path: Path) -> bool:
    """Whether the file is there and is not what autoseg wrote last."""
    seal = _seal(path)
    return path.exists() and (not seal.exists() or seal.read_text() != sha256(path))


def advice(name: str) -> str:
    """Advice on an edited file, the last clause of a message."""
    return f"autoseg_plan -d {name} --keep uses it as it is, --replace makes it new (and keeps a copy)"


def _seal(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")
