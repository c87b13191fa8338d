"""What is handed out, and what comes back; it needs no torch, so that workers know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from autoseg.core.text import format_seconds


class Stopped(Exception):  # noqa: N818 - no error: what is done is kept
    """The work was asked to stop."""


@dataclass(frozen=True, order=True)
class Job:
    """One fold of one configuration."""

    configuration: str
    fold: str

    @property
    def name(self) -> str:
        """For people and records."""
        return f"{self.configuration} fold {self.fold}"


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long folds are trained.

    Attributes:
        time_budget_s: of the whole experiment; None trains for epochs.
        epochs, steps_per_epoch: instead of the plan's.
    """

    time_budget_s: float | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A job as it is handed out.

    Attributes:
        job: which fold of which configuration.
        time_budget_s: of its training; None trains for epochs.
    """

    job: Job
    time_budget_s: float | None

    def describe(self) -> str:
        """How long it is trained, for a line of the log; empty where the plan says it."""
        return "" if self.time_budget_s is None else f", trained for {format_seconds(self.time_budget_s)}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a job.

    Attributes:
        job: which.
        failure: one sentence, where it failed.
        stopped: it is to go on another time.
        beside_s: what it took beside its training, this time.
    """

    job: Job
    failure: str | None = None
    stopped: bool = False
    beside_s: float = 0.0


Work = Callable[[Iterable[TrainingRequest]], Iterator[Report]]
