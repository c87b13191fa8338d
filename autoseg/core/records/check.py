"""Result of checking a raw dataset."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record

Certainty = Literal["certain", "likely", "possible"]


class Suspicion(Record):
    """One sign of a fault in a case.

    Attributes:
        case: its id.
        kind: of fault, as the page lists them.
        certainty: ``certain``: a fact of the files; ``likely``: far beyond its threshold; ``possible``: beyond it.
        strength: the measure in units of its threshold; it ranks suspicions of one certainty.
        title: a few words.
        sentence: measured values, and those of the other cases.
        cases: ids of others that it concerns.
    """

    case: str
    kind: str
    certainty: Certainty
    strength: float
    title: str
    sentence: str
    cases: tuple[str, ...] = ()


class CheckedCase(Record):
    """Measures of one case that the comparison used.

    Attributes:
        case: its id.
        problem: sentence on why it cannot be read; empty if it can.
        spacing: mm along (z,y,x), on axes turned to the canonical orientation; None if it cannot be read.
        shape: voxels along the same axes.
        head_ml: volume of the head.
        head_mm: extent of the head along (z,y,x).
        mask_voxels: voxels of each label.
        outside_share: share of the mask outside the head.
        cut_share: largest share that a border of the scan has of the mask's largest section along the same axis.
    """

    case: str
    problem: str = ""
    spacing: tuple[float, float, float] | None = None
    shape: tuple[int, int, int] | None = None
    head_ml: float = 0.0
    head_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mask_voxels: dict[str, int] = Field(default_factory=dict)
    outside_share: float = 0.0
    cut_share: float = 0.0


class Check(Record):
    """Suspicions about a dataset, the strongest first.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset: its name.
        version: of autoseg.
        compared: whether there were enough cases to compare each with the others.
        suspicions: ranked.
        cases: measures of every case.
        fixed: name of the dataset that the safe repairs made; empty if none.
        changes: one sentence for each repair.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    version: str
    compared: bool
    suspicions: tuple[Suspicion, ...]
    cases: tuple[CheckedCase, ...]
    fixed: str = ""
    changes: tuple[str, ...] = ()
