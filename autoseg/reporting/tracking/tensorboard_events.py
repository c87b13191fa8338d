"""The history as TensorBoard's event files, in ``tensorboard/`` of the fold."""

from __future__ import annotations

from pathlib import Path

from autoseg.reporting.tracking import Row, Tracker, measured


def open_tensorboard(folder: Path, name: str) -> Tracker:
    """Event files; show them with ``tensorboard --logdir`` and the results folder."""
    return _TensorBoard(folder / "tensorboard")


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def record(self, row: Row) -> None:
        for name, value in measured(row).items():
            self.writer.add_scalar(name, value, int(row["epoch"] or 0))

    def close(self) -> None:
        self.writer.close()
