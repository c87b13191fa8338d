"""What an experiment keeps on disk beside its outcome, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from autoseg.core.records import CaseScores, Record
from autoseg.core.store import Store

BEST = "best"
EXPERIMENT = "experiment"
RESERVED = (BEST, EXPERIMENT)  # folders beside those of the configurations


class RunState(Record):
    """What cannot be told from the folds' own files.

    Attributes:
        schema_version: format version (``schema`` on disk).
        elapsed_s: seconds of all runs of the command so far.
        beside_s: job -> seconds that it took beside its training, over all runs: reading, and predicting and scoring
            its held-out cases.
        expected_s: job -> seconds that this was expected to take, from trying the network before anything was trained.
        concluded: hash of all that the outcome rests on, once it is written.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    elapsed_s: float = 0.0
    beside_s: dict[str, float] = Field(default_factory=dict)
    expected_s: dict[str, float] = Field(default_factory=dict)
    concluded: str = ""


class CaseStudy(Record):
    """What every candidate scored in one held-out case.

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
    """Where an experiment's files lie.

    Attributes:
        results: folder of the dataset's results.
    """

    results: Path

    @classmethod
    def of(cls, store: Store, dataset: str) -> ExperimentPaths:
        """Of a dataset."""
        return cls(results=store.results(dataset, EXPERIMENT).parent)

    @property
    def outcome(self) -> Path:
        """The record ``Experiment``."""
        return self.results / "experiment.json"

    @property
    def state(self) -> Path:
        """The record ``RunState``."""
        return self.results / EXPERIMENT / "state.json"

    @property
    def held_out(self) -> Path:
        """Masks of the winner on cases that it did not see, and their scores."""
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
