"""Results of ``autoseg_verify``: every part that has run on a machine, line by line."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from autoseg.core.records.base import Record

Verdict = Literal["ok", "failed", "skipped"]


class VerifiedLine(Record):
    """One line of the table.

    Attributes:
        name: of what was verified.
        verdict: ``skipped`` where this machine cannot do it.
        result: the figures in words, or the reason.
        advice: what to do where it failed; empty otherwise.
        numbers: the figures, with their units in their names.
    """

    name: str
    verdict: Verdict
    result: str
    advice: str = ""
    numbers: dict[str, float] = Field(default_factory=dict)


class VerifiedPart(Record):
    """One part, run to its end.

    Attributes:
        seconds: that it took.
        lines: at least one.
        trace: the traceback of an error that is not the user's.
    """

    seconds: NonNegativeFloat
    lines: tuple[VerifiedLine, ...]
    trace: str = ""

    @property
    def failed(self) -> bool:
        """Whether a line failed."""
        return any(line.verdict == "failed" for line in self.lines)


class Verification(Record):
    """``verify.json``: what was verified on one device of one machine.

    Attributes:
        schema_version: format version (``schema`` on disk).
        device: cpu, cuda, ...
        machine: processor with its threads, or the GPU's name.
        memory_gb: of the GPU, or free memory of the machine (1e9 bytes).
        gpus: number of GPUs that torch sees.
        versions: of autoseg, torch and Python.
        parts: name -> result, in the order of the table.
        not_run: names of parts still to be run.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    device: str
    machine: str
    memory_gb: NonNegativeFloat
    gpus: NonNegativeInt
    versions: dict[str, str]
    parts: dict[str, VerifiedPart] = Field(default_factory=dict)
    not_run: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of the lines that failed."""
        return tuple(line.name for part in self.parts.values() for line in part.lines if line.verdict == "failed")
