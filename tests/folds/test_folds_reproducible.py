"""Same seed, same weights; killed at any moment and resumed, same weights."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

RUN = ("-d", "Tiny", "-c", "3d", "-f", "0", "--epochs", "4", "--steps-per-epoch", "4")


def weights(root):
    return load_file(root / "autoseg_results" / "Tiny" / "3d" / "fold_0" / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def spawn(root):
    code = "import sys; from autoseg.cli import train; train(sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *RUN, "--root", str(root)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def undisturbed(planned_template, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "root"
    shutil.copytree(planned_template, root)
    process = spawn(root)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    return weights(root)


def test_two_processes_give_equal_weights(run, planned, undisturbed):
    assert run("train", *RUN, "--root", planned)[0] == 0
    assert equal(weights(planned), undisturbed)


def test_another_seed_gives_other_weights(run, planned, undisturbed):
    assert run("train", *RUN, "--seed", 7, "--root", planned)[0] == 0
    assert not equal(weights(planned), undisturbed)


@pytest.mark.parametrize(("epoch", "number"), [(1, signal.SIGTERM), (2, signal.SIGKILL)])
def test_killed_and_resumed_equals_undisturbed(run, planned, undisturbed, epoch, number):
    process = spawn(planned)
    for line in process.stderr:
        if f"epoch {epoch}:".encode() in line:
            time.sleep(0.02 * epoch)  # somewhere inside the next epoch
            os.kill(process.pid, number)
            break
    process.communicate(timeout=300)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    folder = planned / "autoseg_results" / "Tiny" / "3d" / "fold_0"
    code, _, err = run("train", *RUN, "--root", planned)
    assert code == 0, err
    assert number == signal.SIGKILL or "resuming at epoch" in err  # a kill may come before any checkpoint
    assert equal(weights(planned), undisturbed)
    assert len((folder / "history.jsonl").read_text().splitlines()) == 4


def test_restart_starts_again(run, trained):
    code, _, err = run("train", *RUN, "--restart", "--root", trained)
    assert code == 0
    assert "to start again" in err
    assert "epoch 4:" in err
