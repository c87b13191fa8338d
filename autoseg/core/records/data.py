"""A raw dataset and its splits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from autoseg.core.records.base import Record


class ChannelFile(Record):
    """One channel of one case on disk.

    Attributes:
        path: the file; or the name of one file per slice, with ``%d`` for the slice's number.
        volume: which volume of a file with a fourth axis, or which colour of slices; None for a plain 3D file.
    """

    path: Path
    volume: int | None = None


class Case(Record):
    """One scan session's files.

    Attributes:
        id: unique in its dataset; file names are made from it.
        channels: one file per channel, in the dataset's order.
        labels: label files (named as those of channels), united where there are several; empty for a scan without
            reference.
        spacing: mm along (z,y,x) for files that state none; None takes what the files state.
        group: patient, whose cases folds must not split; None means the case itself.
        site: the hospital or scanner, if known.
    """

    id: str
    channels: tuple[ChannelFile, ...]
    labels: tuple[Path, ...] = ()
    spacing: tuple[float, float, float] | None = None
    group: str | None = None
    site: str | None = None


class Dataset(Record):
    """A raw dataset: its contents and files; voxels are read and checked case by case.

    Attributes:
        name: as given with ``-d``.
        kind: the layout it was found in (``nnunet``, ``isles15``, ...).
        channels: names, in order.
        labels: class name -> value, consecutive from ``background`` = 0 (regions: see below).
        regions: region name -> the values it unites, or empty when classes exclude each other.
        ignore_label: value whose voxels count neither in the loss nor in scores, or None.
        label_values: value on disk -> value in ``labels``; empty means they are the same.
        mask_threshold: values above it are 1 and all others 0, in float masks and, taken as 0 to 1, in masks of 0 to
            255; None for integer labels.
        resample_channels: bring channels on other grids onto the first channel's grid instead of refusing them.
        licence: licence and source, as far as the layout states them.
        cases: all cases that are complete.
        left_out: case id -> reason why it is not among them.
    """

    name: str
    kind: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    ignore_label: int | None = None
    label_values: dict[int, int] = Field(default_factory=dict)
    mask_threshold: float | None = None
    resample_channels: bool = False
    licence: str = ""
    cases: tuple[Case, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)


class Fold(Record):
    """One split: ids of the cases trained on and of those held out."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class FoldRule(Record):
    """Rules by which folds are made, so that they can be made the same way again.

    Attributes:
        rule: ``spread``: groups dealt so that sites and lesion volume are spread; ``leave_one_site_out``: one fold per
            site; ``file``: as a file states them.
        count: requested folds, with ``spread`` alone.
        file: name of the file, with ``file`` alone.
    """

    rule: Literal["spread", "leave_one_site_out", "file"] = "spread"
    count: int | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.count is not None and self.rule != "spread") or (self.file is not None) != (self.rule == "file"):
            raise ValueError(f"count goes with rule 'spread' and file with rule 'file', not with '{self.rule}'")
        if self.count is not None and self.count < 2:
            raise ValueError(f"count {self.count} must be at least 2")
        return self


class Folds(Record):
    """All splits of a dataset, an editable file.

    Attributes:
        schema_version: format version (``schema`` on disk).
        seed: of the shuffling of cases.
        made_by: rule of the splits; older files lack it, and theirs were spread.
        folds: the splits; a case is held out in at most one.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    seed: int
    made_by: FoldRule = Field(default_factory=FoldRule)
    folds: tuple[Fold, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.folds:
            raise ValueError("folds must hold at least one fold")
        held_out: dict[str, int] = {}
        for number, fold in enumerate(self.folds):
            for ids in (fold.train, fold.validation):
                if len(set(ids)) < len(ids):
                    raise ValueError(f"fold {number} names {next(i for i in ids if ids.count(i) > 1)} twice")
            for case in fold.validation:
                if held_out.setdefault(case, number) != number:
                    raise ValueError(f"folds {held_out[case]} and {number} both hold out {case}")
            both = sorted(set(fold.train) & set(fold.validation))
            if both:
                raise ValueError(f"fold {number} trains on and validates {both[0]}")
            if not fold.train:
                raise ValueError(f"fold {number} has no cases to train on")
        return self
