"""``--devices 2`` on the CPU: the training of one process, in two that start, stop and die together."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from autoseg.folds.files import read_history

TRAIN = ("-d", "Tiny", "-c", "3d", "-f", "0", "--epochs", "2", "--steps-per-epoch", "4")


def fold_of(root):
    return root / "autoseg_results" / "Tiny" / "3d" / "fold_0"


def facts_of(root):
    return json.loads((fold_of(root) / "fold.json").read_text())


def spawn(root, *options):
    code = "import sys; from autoseg.cli import train; train(sys.argv[1:])"
    argv = [sys.executable, "-c", code, *TRAIN, "--root", str(root), "--devices", "2", *options]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def finish(process):
    out, err = (text.decode() for text in process.communicate(timeout=300))
    return process.returncode, out, err


def ranks_of(process):
    """The pids of the two ranks, the first one first."""
    found = {}
    for child in psutil.Process(process.pid).children():
        rank = child.environ().get("RANK")
        if rank is not None:
            found[int(rank)] = child.pid
    return [found[rank] for rank in sorted(found)]


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for_steps(process, root):
    """Until something was written, in the middle of a long training."""
    for _ in range(3000):
        if (fold_of(root) / "checkpoint.pt").exists():
            return
        assert process.poll() is None, finish(process)
        time.sleep(0.02)
    pytest.fail("it never came")


@pytest.fixture
def long(planned):
    """A plan whose checkpoints come quickly."""
    path = planned / "autoseg_preprocessed" / "Tiny" / "plan.json"
    plan = json.loads(path.read_text())
    plan["configurations"]["3d"]["training"]["checkpoint_minutes"] = 0.001
    path.write_text(json.dumps(plan))
    return planned


def test_two_devices_train_as_one(run, planned, tmp_path):
    shutil.copytree(planned, tmp_path / "alone")
    code, out, err = finish(spawn(planned))
    assert code == 0, err
    assert "training Tiny 3d fold 0 on cpu x 2" in err
    assert err.count("epoch 2:") == 1  # only the first speaks
    assert out.count("95 % interval") == 1
    assert run("train", *TRAIN, "--root", tmp_path / "alone")[0] == 0
    both, alone = (read_history(fold_of(root)) for root in (planned, tmp_path / "alone"))
    assert [row["steps"] for row in both] == [4, 4]
    assert [r["train_loss"] for r in both] == pytest.approx([r["train_loss"] for r in alone], rel=1e-3)
    assert (fold_of(planned) / "scores.json").exists()


def test_a_signal_stops_both(long):
    process = spawn(long, "--steps-per-epoch", "50")
    wait_for_steps(process, long)
    os.kill(process.pid, signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGTERM, err
    assert "stopped; run the same command again" in err
    assert 0 < facts_of(long)["steps"] < 100


def test_a_process_that_dies_ends_the_other_with_a_sentence_and_the_same_command_goes_on(long):
    victim = 1
    process = spawn(long, "--steps-per-epoch", "50")
    wait_for_steps(process, long)
    pids = ranks_of(process)
    os.kill(pids[victim], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 2, err
    assert f"process {victim + 1} of 2 was killed by signal 9 (SIGKILL), so the others were ended" in err
    assert "Traceback" not in err
    assert not is_running(pids[1 - victim])
    code, _, err = finish(spawn(long))
    assert code == 0, err
    assert "resuming at epoch 1" in err
    assert facts_of(long)["finished"]


def test_processes_whose_launcher_dies_stop_by_themselves(long):
    process = spawn(long, "--steps-per-epoch", "100000")
    wait_for_steps(process, long)
    ranks = [psutil.Process(pid) for pid in ranks_of(process)]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # its streams close when the last of them lets go of them, a little before its end
    _, still_running = psutil.wait_procs(ranks, timeout=60)
    assert not still_running
    assert facts_of(long)["steps"] > 0


@pytest.mark.parametrize(
    ("world", "options", "message"),
    [("3", (), "cannot be shared evenly by 3 devices"), ("2", ("--fit",), "--fit works on one device")],
)
def test_what_cannot_be_shared_is_said(run, planned, monkeypatch, world, options, message):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, value)
    code, _, err = run("train", *TRAIN, *options, "--root", planned)
    assert code == 2
    assert message in err
    assert not fold_of(planned).exists()


def test_torchrun_starts_them_again_and_they_resume(long):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "autoseg.train"]
    argv = [*launcher, *meeting, *TRAIN, "--steps-per-epoch", "25", "--root", str(long)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for_steps(process, long)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 0, err
    assert "resuming at epoch" in err
    assert facts_of(long)["finished"]
    assert facts_of(long)["steps"] == 50
    assert (fold_of(long) / "scores.json").exists()
