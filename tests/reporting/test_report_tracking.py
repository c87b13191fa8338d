"""Histories for other programs: every tracker takes every row, and a missing package is said."""

import importlib.util
import sys
import types

import pytest

from autoseg.core.errors import UsageError
from autoseg.reporting import TRACKERS, open_tracker

ROWS = [
    {"epoch": 1, "train_loss": 1.5, "validation_dice": None, "steps": 4},
    {"epoch": 2, "train_loss": None, "validation_dice": 0.5, "steps": 4},
]


@pytest.mark.parametrize("kind", TRACKERS.names())
def test_every_tracker_takes_rows_and_leaves_files(kind, tmp_path):
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    for _ in range(2):  # a training that goes on opens it again
        tracker = open_tracker(kind, tmp_path / "fold_0", "Tiny 3d fold 0")
        for row in ROWS:
            tracker.record(row)
        tracker.close()
    assert [path for path in (tmp_path / "fold_0" / kind).rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", TRACKERS.names())
def test_a_missing_package_is_said(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UsageError, match=f"--log {kind}: the package {kind} is not installed; .* pip install {kind}"):
        open_tracker(kind, tmp_path, "any")


def test_an_unknown_tracker_is_said(tmp_path):
    with pytest.raises(UsageError, match="unknown tracker 'visdom'; choose from: tensorboard, wandb, mlflow"):
        open_tracker("visdom", tmp_path, "any")


def test_wandb_stays_offline_and_gets_what_was_measured(tmp_path, monkeypatch):
    told = []

    class FakeRun:
        def log(self, values, step):
            told.append((step, values))

        def finish(self):
            told.append("finished")

    def init(**options):
        told.append((options["mode"], options["dir"]))
        return FakeRun()

    fake = types.ModuleType("wandb")
    fake.Settings, fake.init = dict, init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker = open_tracker("wandb", tmp_path, "any")
    for row in ROWS:
        tracker.record(row)
    tracker.close()
    assert told == [
        ("offline", str(tmp_path)),
        (1, {"train_loss": 1.5, "steps": 4.0}),
        (2, {"validation_dice": 0.5, "steps": 4.0}),
        "finished",
    ]


class FakeClient:
    """MLflow's client as far as it is used: one store for all of its instances."""

    calls, runs, experiments = [], [], []

    def __init__(self, tracking_uri):
        self.calls.append(tracking_uri)

    def get_experiment_by_name(self, name):
        return types.SimpleNamespace(experiment_id="1") if name in self.experiments else None

    def create_experiment(self, name, where):
        self.experiments.append(name)
        return "1"

    def search_runs(self, experiments, max_results):
        return self.runs[:max_results]

    def create_run(self, experiment, run_name):
        self.runs.append(types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name)))
        return self.runs[-1]

    def update_run(self, run, status):
        self.calls.append((run, status))

    def log_batch(self, run, metrics):
        self.calls.append((run, [(name, value, step) for name, value, _, step in metrics]))

    def set_terminated(self, run):
        self.calls.append((run, "ended"))


def test_mlflow_goes_on_in_the_run_of_the_fold(tmp_path, monkeypatch):
    for content in (FakeClient.calls, FakeClient.runs, FakeClient.experiments):
        content.clear()
    fake, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
    fake.MlflowClient, entities.Metric = FakeClient, lambda *values: values
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    for row in ROWS:
        tracker = open_tracker("mlflow", tmp_path, "Tiny 3d fold 0")
        tracker.record(row)
        tracker.close()
    where = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    run = "Tiny 3d fold 0"
    assert FakeClient.calls == [
        where,
        (run, [("train_loss", 1.5, 1), ("steps", 4.0, 1)]),
        (run, "ended"),
        where,
        (run, "RUNNING"),
        (run, [("validation_dice", 0.5, 2), ("steps", 4.0, 2)]),
        (run, "ended"),
    ]
