"""Records of an experiment: jobs, requests and results of trainings, the state on disk, and paths.

No torch is imported here, because processes that score one case need none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from autoseg.core.records import CaseScores, Record
from autoseg.core.store import Store
from autoseg.core.text import format_seconds
from autoseg.options import RunOptions, TrainOptions

BEST = "best"
EXPERIMENT = "experiment"
RESERVED = (BEST, EXPERIMENT)  # folders beside those of the configurations


class Stopped(Exception):  # noqa: N818 - not an error: completed steps are stored
    """A stop request ended the experiment early."""


@dataclass(frozen=True, order=True)
class Job:
    """One fold of one configuration."""

    configuration: str
    fold: str

    @property
    def name(self) -> str:
        """Name in logs and records."""
        return f"{self.configuration} fold {self.fold}"


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A job to be trained and predicted now.

    Attributes:
        job: the fold.
        time_budget_s: of its training; None trains for epochs.
    """

    job: Job
    time_budget_s: float | None

    def describe(self) -> str:
        """The time budget for a line of the log; empty where the plan sets the length."""
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
            postprocessing=False,  # searched for the winner, with all folds
            device=experiment.device,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Outcome of a job.

    Attributes:
        job: the fold.
        failure: one sentence, where it failed.
        stopped: a stop request ended it; it can be resumed.
        overhead_s: seconds besides its training, in this run.
    """

    job: Job
    failure: str | None = None
    stopped: bool = False
    overhead_s: float = 0.0


RunTrainings = Callable[[Iterable[TrainingRequest]], Iterator[TrainingResult]]
RunCases = Callable[..., None]  # with the signature of ``run_cases``


class RunState(Record):
    """State that the folds' own files do not hold.

    Attributes:
        schema_version: format version (``schema`` on disk).
        elapsed_s: seconds of all runs of the command so far.
        overhead_s: job -> seconds besides its training, over all runs: reading, and predicting and scoring its
            held-out cases (``beside_s`` on disk).
        expected_s: job -> the same, estimated from the network before anything was trained.
        concluded: hash of everything that the outcome rests on, once it is written.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    elapsed_s: float = 0.0
    overhead_s: dict[str, float] = Field(default_factory=dict, alias="beside_s")
    expected_s: dict[str, float] = Field(default_factory=dict)
    concluded: str = ""


class CaseStudy(Record):
    """Scores of every candidate in one held-out case.

    Attributes:
        schema_version: format version (``schema`` on disk).
        key: hash of the files that were read and of every setting that shapes a score.
        scores: candidate -> its scores.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    key: str
    scores: dict[str, CaseScores]


@dataclass(frozen=True, kw_only=True)
class ExperimentPaths:
    """Paths of an experiment's files.

    Attributes:
        results: folder of the dataset's results.
    """

    results: Path

    @classmethod
    def of(cls, store: Store, dataset_name: str) -> ExperimentPaths:
        """Paths of a dataset's experiment."""
        return cls(results=store.results(dataset_name, EXPERIMENT).parent)

    @property
    def outcome(self) -> Path:
        """The record ``Experiment``."""
        return self.results / "experiment.json"

    @property
    def state(self) -> Path:
        """The record ``RunState``."""
        return self.results / EXPERIMENT / "state.json"

    @property
    def logs(self) -> Path:
        """Logs of trainings on a cluster."""
        return self.results / EXPERIMENT / "logs"

    @property
    def held_out(self) -> Path:
        """Out-of-fold masks of the winner and their scores."""
        return self.results / EXPERIMENT / "held_out"

    @property
    def best(self) -> Path:
        """The winner, ready to predict."""
        return self.results / BEST

    def study(self, case: str) -> Path:
        """The record ``CaseStudy`` of a case."""
        return self.results / EXPERIMENT / "cases" / f"{case}.json"

    def candidate(self, name: str) -> Path:
        """Scores of a candidate on the held-out cases."""
        return self.results / EXPERIMENT / "candidates" / name
