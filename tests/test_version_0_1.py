"""What version 0.1 left on disk opens, goes on and predicts the same.

``version_0_1/state.tar.xz`` was written by the commands of version 0.1 (commit f4fc69e): six scans of 12 x 20 x 16
voxels, planned with features cut to 4 and 8, ``autoseg_run`` over folds 0 and 1, fold 2 of ``3d`` stopped at step 4 of
12, the weights that this fold ended with when it was resumed then, and masks of a new scan. Arrays, pictures, pages
and the checkpoints of finished folds are left out.
"""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from autoseg.core.images import read_voxels
from autoseg.core.records import BestModel, Experiment, Fingerprint, Folds, Plan, Scores, TrainedFold
from autoseg.core.store import read_record
from autoseg.training import unpack_checkpoint

ARCHIVE = Path(__file__).parent / "version_0_1" / "state.tar.xz"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def state(template, tmp_path):
    """A copy of the folder, with the files' times: they tell whether a scan has changed."""
    shutil.copytree(template, tmp_path / "state", copy_function=shutil.copy2)
    return tmp_path / "state"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Plan, "autoseg_preprocessed/Tiny/plan.json"),
        (Folds, "autoseg_preprocessed/Tiny/folds.json"),
        (Fingerprint, "autoseg_preprocessed/Tiny/fingerprint.json"),
        (Plan, "autoseg_results/Tiny/3d/plan.json"),
        (TrainedFold, "autoseg_results/Tiny/3d/fold_0/fold.json"),
        (Scores, "autoseg_results/Tiny/3d/fold_0/scores.json"),
        (Scores, "autoseg_results/Tiny/experiment/held_out/scores.json"),
        (Scores, "scores/scores.json"),
        (Experiment, "autoseg_results/Tiny/experiment.json"),
        (BestModel, "autoseg_results/Tiny/best/best.json"),
    ],
)
def test_records_open(template, kind, path):
    assert isinstance(read_record(kind, template / path, advice="none"), kind)


def test_a_checkpoint_opens(template):
    checkpoint = unpack_checkpoint((template / "autoseg_results/Tiny/3d/fold_2/checkpoint.pt").read_bytes())
    assert (checkpoint["epoch"], checkpoint["step"]) == (1, 4)


def same_voxels(one, other):
    mine, theirs = read_voxels(one), read_voxels(other)
    assert mine[1] == theirs[1]
    # Another processor may round a tie the other way; a changed network differs in hundreds of 3,840 voxels.
    return np.count_nonzero(mine[0] != theirs[0]) <= 2 and theirs[0].any()


def test_its_model_predicts_the_same_voxels(run, state):
    masks = state / "masks"
    code, _, err = run("predict", "-i", state / "scans", "-o", masks, "-d", "Tiny", "-c", "3d", "-f", 0, 1,
                       "--device", "cpu", "--engine", "torch", "--root", state)  # fmt: skip
    assert code == 0, err
    assert same_voxels(masks / "new.nii.gz", state / "expected/3d/new.nii.gz")


def test_its_best_model_predicts_the_same_voxels(run, state):
    masks = state / "masks"
    code, _, err = run("predict", "-i", state / "scans", "-o", masks, "-d", "Tiny",
                       "--device", "cpu", "--engine", "torch", "--root", state)  # fmt: skip
    assert code == 0, err
    assert same_voxels(masks / "new.nii.gz", state / "expected/best/new.nii.gz")


def test_its_stopped_training_ends_with_the_same_weights(run, state):
    assert run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--device", "cpu", "--root", state)[0] == 0
    code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", 2, "--epochs", 4, "--steps-per-epoch", 3,
                       "--device", "cpu", "--root", state)  # fmt: skip
    assert code == 0, err
    mine = load_file(state / "autoseg_results/Tiny/3d/fold_2/model.safetensors")
    theirs = load_file(state / "expected/resumed_3d_fold_2.safetensors")
    assert mine.keys() == theirs.keys()
    for name, weight in theirs.items():
        # A bias before a norm has no influence, and its gradient is rounding alone.
        if not name.endswith("all_modules.0.bias"):
            np.testing.assert_allclose(mine[name], weight, rtol=1e-3, atol=1e-4)  # other processors round otherwise


def test_its_scores_are_what_is_computed_today(run, state):
    masks = state / "autoseg_results/Tiny/3d/fold_0/validation"
    code, _, err = run("evaluate", "-p", masks, "-d", "Tiny", "-f", 0, "-o", state / "again", "--root", state)
    assert code == 0, err
    before, now = (json.loads((state / folder / "scores.json").read_text()) for folder in ("scores", "again"))
    for case in now["cases"]:
        assert case.pop("group") is None  # the patient, which scores of 0.1 do not hold
        assert len(case.pop("reference")) == 12  # nor a hash of the reference
    assert now["cases"] == before["cases"]


def test_its_experiment_is_not_trained_again(run, state):
    from autoseg.cli import run as run_experiment

    weights = state / "autoseg_results/Tiny/3d/fold_0/model.safetensors"
    written = weights.stat().st_mtime_ns
    assert run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--device", "cpu", "--root", state)[0] == 0
    with pytest.raises(SystemExit) as stop:
        run_experiment(["-d", "Tiny", "-f", "0", "1", "--device", "cpu", "--epochs", "4", "--steps-per-epoch", "25",
                        "--root", str(state), "-q"])  # fmt: skip
    assert stop.value.code == 0
    assert weights.stat().st_mtime_ns == written
