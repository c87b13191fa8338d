"""Histories for other programs: every tracker takes every row, and a missing package is said."""

import importlib.util
import sys
import types

import pytest

from autoseg.core.errors import UsageError
from autoseg.report import TRACKERS, open_tracker

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
    with pytest.raises(UsageError, match="there is no tracker 'visdom'; known are: tensorboard, wandb"):
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
