"""Record of one run of a command: ``run.json`` beside what it wrote."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record


class CaseRun(Record):
    """One case of a run.

    Attributes:
        status: ``done``, ``kept`` (a previous run made it) or ``failed``.
        seconds: of wall time; of cases that overlap, since the one before it; None where it was not measured.
        reason: of a failure, one sentence.
    """

    status: Literal["done", "kept", "failed"]
    seconds: float | None = None
    reason: str | None = None


class RunRecord(Record):
    """``run.json``: the last run of a command that wrote into a folder.

    Attributes:
        schema_version: format version (``schema`` on disk).
        command: as it could be typed, with short paths.
        started: time of day with its zone.
        elapsed_s: seconds.
        exit_code: of the command, as in docs/commands.md; None while it runs, and after it was killed.
        error: its last message, where it failed.
        device: ``cpu``, or the GPU's name; None where no network was computed.
        versions: of autoseg, Python and the main libraries.
        model: file -> ``sha256:`` of its content: plans and weights that were used or made.
        inputs: ``sha256:`` of a file's content, or ``files:`` of the names and sizes of many files.
        cases: id -> status and time.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    command: str
    started: str
    elapsed_s: float = 0.0
    exit_code: int | None = None
    error: str | None = None
    device: str | None = None
    versions: dict[str, str]
    model: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, str] = Field(default_factory=dict)
    cases: dict[str, CaseRun] = Field(default_factory=dict)
