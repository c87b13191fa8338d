"""The history as a run of MLflow, in ``mlflow/mlflow.db`` of the fold."""

from __future__ import annotations

import time
from pathlib import Path

from autoseg.reporting.tracking import Row, Tracker, measured

EXPERIMENT = "autoseg"


def open_mlflow(folder: Path, name: str) -> Tracker:
    """A run in the fold's own database; a resumed training continues its run.

    Show it with ``mlflow ui --backend-store-uri sqlite:///`` and the file. MLflow reports its own use to its makers
    unless ``MLFLOW_DISABLE_TELEMETRY`` is set before it is imported, as ``autoseg_train`` does.
    """
    return _MLflow(folder / "mlflow", name)


class _MLflow:
    def __init__(self, folder: Path, name: str) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        folder.mkdir(parents=True, exist_ok=True)
        # Its plain folders of files are no longer developed, and newer versions refuse them.
        self.client, self.metric = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').resolve()}"), Metric
        existing = self.client.get_experiment_by_name(EXPERIMENT)
        where = (folder / "artifacts").resolve().as_uri()
        experiment = existing.experiment_id if existing else self.client.create_experiment(EXPERIMENT, where)
        before = self.client.search_runs([experiment], max_results=1)
        if before:
            self.run = before[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
        else:
            self.run = self.client.create_run(experiment, run_name=name).info.run_id

    def record(self, row: Row) -> None:
        now, epoch = int(1000 * time.time()), int(row["epoch"] or 0)
        metrics = [self.metric(name, value, now, epoch) for name, value in measured(row).items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self) -> None:
        self.client.set_terminated(self.run)
