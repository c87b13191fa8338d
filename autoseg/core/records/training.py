"""Result of one trained fold: one record next to its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record


class TrainedFold(Record):
    """One trained fold.

    Attributes:
        schema_version: format version (``schema`` on disk).
        fold: its number, or ``all``.
        seed: of every random stream.
        device: cpu, or the GPU's name.
        epochs, steps: done.
        elapsed_s: seconds of training, over all resumes.
        time_budget_s: as requested, or None.
        planned_epochs, steps_per_epoch: the requested length, which does not count with a time budget.
        acceleration: how the network is computed (``none``, ``channels_last``, ``compile``); None before a step.
        finished: whether the planned training was completed.
        train, validation: case ids.
        versions: of autoseg and torch.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    fold: str
    seed: int
    device: str
    epochs: int
    steps: int
    elapsed_s: float
    time_budget_s: float | None
    planned_epochs: int | None = None
    steps_per_epoch: int | None = None
    acceleration: str | None = None
    finished: bool
    train: tuple[str, ...]
    validation: tuple[str, ...]
    versions: dict[str, str]
