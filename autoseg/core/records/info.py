"""Records of ``autoseg info``: machine, versions, datasets and models."""

from __future__ import annotations

from autoseg.core.records.base import Record


class MachineFacts(Record):
    """The machine of this process.

    Attributes:
        system: name and version of the operating system, and the processor's architecture.
        processor: model of the CPU.
        cores: that this process may use.
        memory_gb, free_memory_gb: 1e9 bytes; free within the limit of a container or job.
        gpus: names, in torch's order.
        free_disk_gb: where the root is.
    """

    system: str
    processor: str
    cores: int
    memory_gb: float
    free_memory_gb: float
    gpus: tuple[str, ...]
    free_disk_gb: float


class ModelFacts(Record):
    """One model that can predict.

    Attributes:
        dataset, configuration: for ``-d`` and ``-c``.
        folds: names of those that are trained; empty for the best of an experiment.
        members: configurations whose probabilities are averaged; one, but for the best of an experiment.
        channels: that a scan must have, in order.
        labels: label or region names of its masks.
        training_cases: number of cases that its folds were trained on or held out; None where it was imported.
        metric: of the score.
        score: mean over the held-out cases; None where none was scored.
        interval: its 95 % bootstrap interval, by patient.
        scored_cases: number of cases in the mean.
    """

    dataset: str
    configuration: str
    folds: tuple[str, ...]
    members: tuple[str, ...]
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    training_cases: int | None
    metric: str
    score: float | None
    interval: tuple[float, float] | None
    scored_cases: int


class Info(Record):
    """Everything that ``autoseg info`` shows.

    Attributes:
        machine: of this process.
        versions: of autoseg, Python and the main libraries.
        datasets: names below the root.
        models: below the root, sorted.
    """

    machine: MachineFacts
    versions: dict[str, str]
    datasets: tuple[str, ...]
    models: tuple[ModelFacts, ...]
