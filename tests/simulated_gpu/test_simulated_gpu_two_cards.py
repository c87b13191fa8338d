"""Two simulated cards: one training in two processes, and a prediction in two."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.images import read_voxels
from autoseg.folds.files import read_history

HERE = Path(__file__).parent
SCANS = ("-d", "Tiny", "-c", "3d", "-f", "0")


def with_two_cards(*argv):
    """A command whose processes all see two cards; gives what it told its user."""
    paths = [str(HERE / "every_process"), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "SIMULATED_GPUS": "8,8"}
    command = [sys.executable, "-m", "autoseg", *map(str, argv)]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_two_cards_train_as_one_process_does(planned, run, tmp_path):
    length = ("--epochs", "1", "--steps-per-epoch", "2")
    assert run("train", *SCANS, *length, "--root", planned)[0] == 0
    fold = planned / "autoseg_results" / "Tiny" / "3d" / "fold_0"
    alone = [row["train_loss"] for row in read_history(fold)]
    err = with_two_cards("train", *SCANS, *length, "--restart", "--devices", "2", "--root", planned)
    assert "on Simulated GPU 0 x 2" in err
    assert [row["train_loss"] for row in read_history(fold)] == pytest.approx(alone, rel=1e-3)


def test_two_cards_predict_as_one_process_does(trained, run):
    images = trained / "autoseg_raw" / "Tiny" / "imagesTr"
    assert run("predict", *SCANS, "-i", images, "-o", trained / "alone", "--root", trained)[0] == 0
    err = with_two_cards(
        "predict", *SCANS, "-i", images, "-o", trained / "both", "--device", "cuda:0,cuda:1", "--root", trained
    )
    assert "one process on each of cuda:0, cuda:1" in err
    masks = sorted((trained / "alone").glob("*.nii.gz"))
    assert len(masks) == 6
    for path in masks:
        assert np.array_equal(read_voxels(path)[0], read_voxels(trained / "both" / path.name)[0])
