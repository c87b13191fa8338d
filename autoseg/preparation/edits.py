"""Files that a person may edit: a hash beside each detects edits, nothing is overwritten, and a plan is checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from autoseg.core.errors import AutosegError, PlanError
from autoseg.core.records import Dataset, Plan, Record, render_record
from autoseg.core.store import check_name, read_record, sha256, write_record, write_text

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Record)
Edited = Literal["refuse", "keep", "replace"]


@dataclass(frozen=True, kw_only=True)
class PendingFile(Generic[R]):
    """Content of a file before it is written.

    Attributes:
        path: of the file.
        record: its content.
        action: ``keep`` leaves the file unchanged, ``write`` writes it, ``replace`` writes it and leaves a copy of the
            edited one.
    """

    path: Path
    record: R
    action: Literal["keep", "write", "replace"]

    def write(self) -> None:
        """Write the file and its hash, unless it is kept."""
        if self.action == "keep":
            return
        if self.action == "replace":
            copy = self.path.with_name(f"{self.path.stem}.before.json")
            self.path.replace(copy)
            log.info("the edited %s is kept as %s", self.path.name, copy.name)
        write_record(self.path, self.record)
        write_text(_hash_file(self.path), sha256(self.path))

    def log_change(self) -> None:
        """Log the change that writing would make."""
        same = self.action == "keep" or (self.path.exists() and self.path.read_text() == render_record(self.record))
        log.info(
            "%s would %s", self.path.name, "stay unchanged" if same else "change" if self.path.exists() else "be new"
        )


def resolve_edits(path: Path, new: R, edited: Edited, dataset_name: str) -> PendingFile[R]:
    """The file's next content: the new record, unless a person has edited the file since autoseg wrote it.

    Args:
        new: record that autoseg would write.
        edited: treatment of an edited file: stop, use it, or replace it, leaving a copy.
        dataset_name: for the message.

    Raises:
        PlanError: the file was edited and ``edited`` is ``refuse``, or it was edited wrongly.
    """
    if not is_edited(path) or path.read_text() == render_record(new):
        return PendingFile(path=path, record=new, action="write")
    if edited == "refuse":
        raise PlanError(f"{path} was edited by hand; {advice(dataset_name)}")
    if edited == "replace":
        return PendingFile(path=path, record=new, action="replace")
    log.info("%s was edited by hand and is used unchanged", path)
    return PendingFile(path=path, record=read_record(type(new), path, advice=advice(dataset_name)), action="keep")


def is_edited(path: Path) -> bool:
    """Whether the file exists and differs from the last one that autoseg wrote."""
    stored = _hash_file(path)
    return path.exists() and (not stored.exists() or stored.read_text() != sha256(path))


def advice(dataset_name: str) -> str:
    """Advice on an edited file, the last clause of a message."""
    return f"use it with autoseg_plan -d {dataset_name} --keep, or plan again over it with --replace (a copy is kept)"


def check_plan(plan: Plan, dataset: Dataset, path: Path) -> None:
    """Check a plan for faults that would otherwise stop a training.

    Args:
        path: of the plan, for messages.

    Raises:
        PlanError: it is for other channels or labels than the dataset has, or a configuration's name, network or loss
            cannot be; the message names the key.
    """
    for key in ("channels", "labels", "regions", "ignore_label"):
        planned, actual = getattr(plan, key), getattr(dataset, key)
        if planned != actual:
            raise PlanError(
                f"{path}: '{key}' is {planned!r}, but the dataset has {actual!r}; change dataset.json if that is "
                f"wrong, or plan again with: autoseg_plan -d {dataset.name} --replace"
            )
    for name in plan.configurations:
        check_configuration(plan, name, path)


def check_configuration(plan: Plan, name: str, path: Path) -> None:
    """Check one configuration's name, network with its patch and tile, and loss.

    Raises:
        PlanError: one of them cannot be; the message names the key.
    """
    from autoseg.losses import build_loss  # imports torch, which processes that preprocess cases never need
    from autoseg.networks import check_sizes, fit_settings

    configuration = plan.configurations[name]
    key = f"configurations.{name}"
    try:
        check_name(name, "configuration")
        key = f"configurations.{name}.network"
        fit_settings(configuration.network, dimensions=configuration.dimensions, patch=configuration.patch_size)
        check_sizes(configuration)
        key = f"configurations.{name}.loss"
        build_loss(
            configuration.loss,
            regions=tuple(plan.regions.values()),
            ignore_label=plan.ignore_label,
            outputs=len(plan.outputs.names),
        )
    except AutosegError as error:
        raise PlanError(f"{path}: '{key}': {error}") from error


def _hash_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")
