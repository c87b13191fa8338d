"""What is handed out, and what comes back; it needs no torch, so that workers know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from autoseg.core.text import format_seconds
from autoseg.options import RunOptions, TrainOptions


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

    def options(self, experiment: RunOptions) -> TrainOptions:
        """Options of the training."""
        return TrainOptions(
            dataset=experiment.dataset,
            configuration=self.job.configuration,
            fold=self.job.fold,
            epochs=experiment.epochs,
            steps_per_epoch=experiment.steps_per_epoch,
            time_budget_s=self.time_budget_s,
            fit=True,
            probabilities=True,
            device=experiment.device,
        )


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
