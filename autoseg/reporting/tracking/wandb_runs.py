"""The history as an offline run of Weights & Biases, in ``wandb/`` of the fold."""

from __future__ import annotations

from pathlib import Path

from autoseg.reporting.tracking import Row, Tracker, measured


def open_wandb(folder: Path, name: str) -> Tracker:
    """An offline run; nothing leaves the machine before ``wandb sync``."""
    return _WandB(folder, name)


class _WandB:
    def __init__(self, folder: Path, name: str) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(console="off", silent=True)
        self.run = wandb.init(project="autoseg", name=name, dir=str(folder), mode="offline", settings=settings)

    def record(self, row: Row) -> None:
        self.run.log(measured(row), step=int(row["epoch"] or 0))

    def close(self) -> None:
        self.run.finish()
