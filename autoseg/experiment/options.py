"""Options of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoseg.experiment.cluster import ClusterOptions
from autoseg.experiment.requests import Length


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """What an experiment is asked for.

    Attributes:
        configurations: names in the plan; empty for all.
        folds: their names; empty for all.
        target: name in METRICS of what decides, averaged over labels.
        device: ``auto``, ``cpu`` or ``cuda``.
        length: of the trainings.
        cluster: where work is handed to; None does it here.
        keep_probabilities: leave those of the held-out cases on disk, so that a later comparison need not predict.
    """

    configurations: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    target: str = "dice"
    device: str = "auto"
    length: Length = field(default_factory=Length)
    cluster: ClusterOptions | None = None
    keep_probabilities: bool = True
