"""``--device mps`` on a simulated Apple GPU: train, predict, and one sentence for what torch lacks there."""

import json

import numpy as np
import pytest
import torch

from autoseg.core.images import read_voxels
from autoseg.folds.files import read_history

LENGTH = ("--epochs", "1", "--steps-per-epoch", "2")
TRAIN = ("train", "-d", "Tiny", "-c", "3d", "-f", "0", *LENGTH)


@pytest.fixture
def smaller(planned):
    """The planned root with narrow networks and no mirroring."""
    path = planned / "autoseg_preprocessed" / "Tiny" / "plan.json"
    plan = json.loads(path.read_text())
    for configuration in plan["configurations"].values():
        configuration["tiling"]["mirror_axes"] = []
        configuration["network"]["features"] = [4 for _ in configuration["network"]["features"]]
    path.write_text(json.dumps(plan))
    return planned


def losses(root):
    return [row["train_loss"] for row in read_history(root / "autoseg_results" / "Tiny" / "3d" / "fold_0")]


def test_training_and_prediction(machine, smaller, run):
    code, _, err = run(*TRAIN, "--device", "cpu", "--root", smaller)
    assert code == 0, err
    on_cpu = losses(smaller)
    scans = ("-d", "Tiny", "-c", "3d", "-i", smaller / "autoseg_raw" / "Tiny" / "imagesTr", "--root", smaller)
    assert run("predict", *scans, "-o", smaller / "cpu", "--device", "cpu")[0] == 0
    cards = machine(8, kind="mps")
    assert run("predict", *scans, "-o", smaller / "mps", "--device", "mps")[0] == 0
    for path in (smaller / "cpu").glob("*.nii.gz"):
        assert np.array_equal(read_voxels(path)[0], read_voxels(smaller / "mps" / path.name)[0])
    ran = cards.operations[0]
    assert ran > 100
    code, _, err = run(*TRAIN, "--restart", "--device", "mps", "--root", smaller)
    assert code == 0, err
    assert "on mps" in err
    assert cards.operations[0] > ran + 1000
    assert losses(smaller) == pytest.approx(on_cpu, rel=1e-4)


def test_an_operation_that_torch_lacks_is_one_sentence(machine, smaller, run):
    machine(8, kind="mps", lacking={torch.ops.aten.convolution_backward})
    code, _, err = run(*TRAIN, "--device", "mps", "--root", smaller)
    assert code == 2
    assert "torch lacks the operation aten::convolution_backward on mps; let the CPU do it by setting" in err
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1 before the command, or use --device cpu" in err


def test_what_an_apple_gpu_does_not_do(machine, smaller, run, monkeypatch):
    path = smaller / "autoseg_preprocessed" / "Tiny" / "plan.json"
    plan = json.loads(path.read_text())
    plan["configurations"]["3d"]["augmentation"]["device"] = "gpu"
    path.write_text(json.dumps(plan))
    code, _, err = run(*TRAIN, "--device", "mps", "--root", smaller)
    assert code == 2
    assert "--device mps: torch sees no Apple GPU on this machine" in err
    machine(8, kind="mps")
    code, _, err = run(*TRAIN, "--device", "mps", "--root", smaller)
    assert code == 2
    assert "augmentation.device is gpu, but this training runs on an Apple GPU" in err
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    code, _, err = run(*TRAIN, "--device", "mps", "--root", smaller)
    assert code == 2
    assert "--devices: an Apple GPU trains in one process" in err
