"""Trackers of a training's history: the TRACKERS table, one tracker per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from autoseg.core.errors import UsageError
from autoseg.core.registry import Table

Row = Mapping[str, float | int | None]


class Tracker(Protocol):
    """Records the values of every epoch; None if not measured."""

    def record(self, row: Row) -> None:
        """Record one row of the history, at its ``epoch``."""

    def close(self) -> None:
        """End the record; everything is on disk afterwards."""


# A tracker is opened with the folder of a fold, in which it keeps its files, and a name for people. It makes no
# network call. Its package is imported in its own file only.
TRACKERS: Table[Callable[[Path, str], Tracker]] = Table(
    "tracker",
    {
        "tensorboard": "autoseg.reporting.tracking.tensorboard_events:open_tensorboard",
        "wandb": "autoseg.reporting.tracking.wandb_runs:open_wandb",
        "mlflow": "autoseg.reporting.tracking.mlflow_runs:open_mlflow",
    },
)


def open_tracker(kind: str, folder: Path, name: str) -> Tracker:
    """Open one tracker of the table.

    Args:
        kind: a name in TRACKERS.
        folder: of the fold.
        name: of the training, for people.

    Raises:
        UsageError: there is no such tracker, or its package is not installed.
    """
    try:
        return TRACKERS[kind](folder, name)
    except ImportError as error:
        missing = (error.name or kind).partition(".")[0]
        raise UsageError(
            f"--log {kind}: the package {missing} is not installed; install it with: pip install {kind}"
        ) from error


def measured(row: Row) -> dict[str, float]:
    """The row's values that were measured, without the epoch."""
    return {name: float(value) for name, value in row.items() if value is not None and name != "epoch"}
