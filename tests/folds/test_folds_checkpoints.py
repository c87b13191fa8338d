"""Checkpoints in the middle of an epoch, on a full disk, and what a resume must agree with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from autoseg import model
from autoseg.core import store
from autoseg.core.background import BackgroundWriter
from autoseg.core.errors import StorageError
from autoseg.folds import recording
from autoseg.training import loop
from autoseg.training.state import copy_tensors

LONG = ("-d", "Tiny", "-c", "3d", "-f", "0", "--epochs", "1", "--steps-per-epoch", "60")
SHORT = ("train", "-d", "Tiny", "-c", "3d", "-f", "0", "--epochs", "2", "--steps-per-epoch", "2")


def fold_of(root):
    return root / "autoseg_results" / "Tiny" / "3d" / "fold_0"


def facts_of(root):
    return json.loads((fold_of(root) / "fold.json").read_text())


def weights(root):
    return load_file(fold_of(root) / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def edit_plan(root, **training):
    path = root / "autoseg_preprocessed" / "Tiny" / "plan.json"
    plan = json.loads(path.read_text())
    plan["configurations"]["3d"]["training"].update(training)
    path.write_text(json.dumps(plan))


def spawn(root):
    code = "import sys; from autoseg.cli import train; train(sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", code, *LONG, "--root", str(root)], stderr=subprocess.PIPE)


def wait_for(condition, process):
    for _ in range(12000):
        if condition():
            return
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.01)
    pytest.fail("it never came")


@pytest.fixture(scope="module")
def undisturbed(planned_template, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "root"
    shutil.copytree(planned_template, root)
    process = spawn(root)
    err = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, err
    return weights(root)


def test_a_signal_in_an_epoch_writes_the_state_and_the_resume_is_exact(run, planned, undisturbed):
    process = spawn(planned)
    for line in process.stderr:
        if b"training Tiny" in line:
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGTERM)
            break
    process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    facts = facts_of(planned)
    assert facts["epochs"] == 0
    assert not facts["finished"]
    assert "resuming at epoch 1" in run("train", *LONG, "--root", planned)[2]
    assert equal(weights(planned), undisturbed)


@pytest.mark.parametrize("after_s", [0.0, 0.17])
def test_a_kill_in_an_epoch_loses_little_and_the_resume_is_exact(run, planned, undisturbed, after_s):
    edit_plan(planned, checkpoint_minutes=0.001)
    process = spawn(planned)
    wait_for((fold_of(planned) / "checkpoint.pt").exists, process)
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=300)
    kept = torch.load(fold_of(planned) / "checkpoint.pt", weights_only=True)
    assert 0 < kept["step"] < 60
    assert kept["epoch"] == 0
    assert "resuming at epoch 1" in run("train", *LONG, "--root", planned)[2]
    assert equal(weights(planned), undisturbed)
    assert len((fold_of(planned) / "history.jsonl").read_text().splitlines()) == 1


def test_a_second_signal_ends_at_once(tmp_path):
    code = (
        "import time\n"
        "from autoseg.cli.running import StopSignal\n"
        "stop = StopSignal()\n"
        "print('ready', flush=True)\n"
        "while not stop(): time.sleep(0.01)\n"
        "print('noticed', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    for said, number in ((b"ready\n", signal.SIGTERM), (b"noticed\n", signal.SIGINT)):
        assert process.stdout.readline() == said
        os.kill(process.pid, number)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("step_s", "numbers", "sentence"),
    [(60, (signal.SIGINT, signal.SIGTERM), b"stopped at once"), (0, (signal.SIGINT,), b"no step ended within 0 s")],
)
def test_signals_end_a_training_within_one_long_step(step_s, numbers, sentence):
    code = (
        "import hashlib\n"
        "from autoseg.cli import running\n"
        f"running.STEP_S = {step_s}\n"
        "stop = running.StopSignal()\n"
        "print('ready', flush=True)\n"
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"  # many minutes, in which no handler of Python runs
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, numbers[0])
    while numbers[1:] and process.poll() is None:
        time.sleep(0.5)  # longer than within which two are one
        os.kill(process.pid, numbers[1])
    _, err = process.communicate(timeout=300)
    by_thread = (128 + numbers[-1], sentence + b"; the same command resumes from the last checkpoint\n")
    before_the_step = (
        -numbers[-1],
        b"",
    )  # where Python's own handler saw the first, the second ends the process itself
    assert (process.returncode, err) in ((by_thread, before_the_step) if numbers[1:] else (by_thread,))


def test_a_training_that_was_asked_to_stop_has_all_the_time_it_takes():
    code = (
        "import os, time\n"
        "from autoseg.cli import running\n"
        "running.STEP_S, running.SAME_S = 2, 0\n"
        "stop = running.StopSignal()\n"
        "os.kill(os.getpid(), 2)\n"
        "while not stop(): pass\n"
        "time.sleep(3)\n"
        "stop.exit_if_stopped()\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=300)
    assert (process.returncode, process.stderr) == (130, b"")


@pytest.fixture
def disk(tmp_path):
    """Mounts a small file system, where the machine lets us."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("mounting a small tmpfs needs root")
        return folder

    yield mount
    subprocess.run(["umount", folder], check=False)


def test_a_full_disk_keeps_the_former_checkpoint_and_trains_to_the_end(run, planned, disk, undisturbed):
    """Room for one checkpoint and the weights, not for two checkpoints."""
    edit_plan(planned, validation_cases=0)
    (planned / "autoseg_results").symlink_to(disk("6m"))
    code, _, err = run(*SHORT, "--root", planned)
    assert code == 0, err
    assert "the checkpoint of step 4 was not written" in err
    assert "No space left on device" in err
    assert torch.load(fold_of(planned) / "checkpoint.pt", weights_only=True)["step"] == 2
    assert weights(planned).keys() == undisturbed.keys()
    assert (facts_of(planned)["epochs"], facts_of(planned)["finished"]) == (2, True)
    assert (fold_of(planned) / "progress.png").exists()


@pytest.mark.parametrize("name", ["history.jsonl", "fold.json", "model.safetensors"])
def test_a_training_whose_records_were_not_written_fails_and_the_next_completes_it(
    run, planned, trained_template, monkeypatch, name
):
    edit_plan(planned, validation_cases=0)
    write, refused = store.write_bytes, []

    def refuse(path, content):
        if path.name == name and b'"finished": false' not in content and len(refused) < 2:
            refused.append(path)
            raise StorageError(f"{path} could not be written: the disk is full") from OSError(28, "No space left")
        write(path, content)

    for module in (store, recording, model):
        monkeypatch.setattr(module, "write_bytes", refuse)
    monkeypatch.setattr(BackgroundWriter, "put", lambda writer, job: None)  # the end alone is written
    code, _, err = run(*SHORT, "--no-postprocessing", "--root", planned)
    assert code == 2
    assert f"{name} could not be written: the disk is full" in err
    assert not (fold_of(planned) / "model.safetensors").exists()
    monkeypatch.undo()
    code, _, err = run(*SHORT, "--no-postprocessing", "--root", planned)
    assert code == 0, err
    assert (facts_of(planned)["epochs"], facts_of(planned)["finished"]) == (2, True)
    assert equal(weights(planned), weights(trained_template))


def test_records_of_a_finished_fold_are_completed(run, trained):
    """Version 0.1 could leave such a fold behind on a full disk."""
    fold = fold_of(trained)
    whole, facts = facts_of(trained), facts_of(trained) | {"epochs": 0, "steps": 0, "finished": False}
    (fold / "fold.json").write_text(json.dumps(facts))
    (fold / "progress.png").unlink()
    assert run(*SHORT, "--root", trained)[0] == 0
    assert facts_of(trained) == whole
    assert (fold / "progress.png").read_bytes().startswith(b"\x89PNG")


def test_a_full_disk_fails_at_the_end_when_the_weights_do_not_fit(run, planned, disk):
    edit_plan(planned, validation_cases=0)
    folder = disk("200k")
    (planned / "autoseg_results").symlink_to(folder)
    code, _, err = run(*SHORT, "--root", planned)
    assert code == 2
    assert "epoch 2:" in err
    assert "model.safetensors could not be written: the disk is full" in err
    assert [path.name for path in folder.rglob("*") if path.name.startswith(".")] == []


def test_a_failed_training_leaves_its_last_good_weights_on_disk(run, planned, monkeypatch):
    whole, before = loop.training_step, []

    def step(state, configuration, image, *rest):
        before.append(copy_tensors(state.network.state_dict()))
        return whole(state, configuration, image * (float("nan") if len(before) > 3 else 1), *rest)

    monkeypatch.setattr(loop, "training_step", step)
    code, _, err = run(*SHORT[:-1], 10, "--root", planned)
    assert code == 2
    assert "not finite 3 steps in a row (epoch 1, step 6)" in err
    kept = torch.load(fold_of(planned) / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 6
    assert all(torch.equal(kept["network"][name], weight) for name, weight in before[3].items())
    assert all(torch.isfinite(weight).all() for weight in kept["network"].values())


def test_a_resume_is_checked_before_the_first_checkpoint(run, planned, monkeypatch):
    monkeypatch.setattr(loop, "training_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(*SHORT, "--root", planned)[0] == 130
    assert not (fold_of(planned) / "checkpoint.pt").exists()
    code, _, err = run(*SHORT, "--seed", 5, "--root", planned)
    assert code == 2
    assert "begun with seed 12345, not 5" in err


def test_a_checkpoint_that_nothing_is_known_of_is_refused(run, trained):
    (fold_of(trained) / "model.safetensors").unlink()
    (fold_of(trained) / "fold.json").unlink()
    code, _, err = run(*SHORT, "--root", trained)
    assert code == 2
    assert "has a checkpoint.pt but no fold.json" in err


def test_a_folder_with_notes_of_the_user_is_not_a_begun_fold(run, planned):
    notes = fold_of(planned) / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    code, _, err = run(*SHORT, "--root", planned)
    assert code == 0, err
    assert (notes.parent.parent / "plan.json").exists()
    assert notes.read_text() == "mine"


def test_a_begun_fold_without_the_plan_of_its_model_is_refused_before_a_step(run, trained):
    (fold_of(trained).parent / "plan.json").unlink()
    (fold_of(trained) / "model.safetensors").unlink()
    code, _, err = run(*SHORT, "--root", trained)
    assert code == 2
    assert "plan.json does not exist" in err
    assert "epoch" not in err


@pytest.mark.parametrize(
    ("options", "now", "expected"),
    [
        (("--epochs", 3), "3 epochs of 2 steps", {"planned_epochs": 3, "epochs": 3}),
        # how many steps a second holds is the machine's affair: what came before may have taken all of it
        (("--time-budget", "1s"), "1 s", {"time_budget_s": 1.0}),
    ],
)
def test_another_length_is_said(run, trained, options, now, expected):
    (fold_of(trained) / "model.safetensors").unlink()  # as if it had been stopped
    argv = ("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--steps-per-epoch", 2)
    code, _, err = run(*argv, *options, "--root", trained)
    assert code == 0, err
    assert f"was begun for 2 epochs of 2 steps and resumes for {now}" in err
    facts = facts_of(trained)
    assert {name: facts[name] for name in expected} == expected


def test_another_length_of_a_finished_fold_is_said(run, trained):
    code, _, err = run(*SHORT[:-3], 5, "--steps-per-epoch", 2, "--root", trained)
    assert code == 0
    assert "was trained for 2 epochs of 2 steps; it is not trained for 5 epochs of 2 steps unless it starts ag" in err
    assert facts_of(trained)["epochs"] == 2


def test_the_same_length_needs_no_word(run, trained):
    assert "is not trained for" not in run(*SHORT, "--root", trained)[2]
    (fold_of(trained) / "model.safetensors").unlink()
    code, _, err = run(*SHORT, "--root", trained)
    assert code == 0
    assert "resumes for" not in err


# ----------------------------------------------------------------------------------------------- the writer


def test_of_what_waits_only_the_newest_is_written():
    import threading

    began, go_on, done = threading.Event(), threading.Event(), []

    def first():
        began.set()
        go_on.wait(10)
        done.append(1)

    with BackgroundWriter() as writer:
        writer.put(first)
        began.wait(10)
        writer.put(lambda: done.append(2))
        writer.put(lambda: done.append(3))
        go_on.set()
        writer.wait()
        assert done == [1, 3]
        writer.put(lambda: done.append(4))
    assert done == [1, 3, 4]


def test_what_a_job_raises_comes_out():
    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), BackgroundWriter() as writer:
        writer.put(fail)
    with BackgroundWriter() as writer:
        writer.put(fail)
        with pytest.raises(ValueError, match="broken"):
            writer.wait()


# ----------------------------------------------------------------------------------------------- pictures and trackers


def test_the_picture_is_drawn_while_training_and_for_fold_all(run, planned, monkeypatch):
    from autoseg.folds import recording

    drawn = []
    monkeypatch.setattr(recording, "PICTURE_EVERY_S", -1.0)
    monkeypatch.setattr(recording, "draw_progress", lambda rows: drawn.append(len(rows)) or b"picture")
    code, _, err = run(*SHORT[:5], "-f", "all", *SHORT[7:], "--root", planned)
    assert code == 0, err
    assert drawn[-1] == 2
    assert len(drawn) >= 2
    assert (fold_of(planned).with_name("fold_all") / "progress.png").read_bytes() == b"picture"


def test_trackers_are_told_of_every_epoch_and_closed(run, planned, monkeypatch):
    from autoseg.folds import recording

    told = []

    class Recorder:
        def record(self, row):
            told.append(row["epoch"])

        def close(self):
            told.append("closed")

    monkeypatch.setattr(recording, "open_tracker", lambda kind, folder, name: told.append((kind, name)) or Recorder())
    code, _, err = run(*SHORT, "--log", "wandb", "--root", planned)
    assert code == 0, err
    assert told == [("wandb", "Tiny 3d fold 0"), 1, 2, "closed"]


def test_a_tracker_that_is_not_installed_is_said_before_a_step(run, planned, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, err = run(*SHORT, "--log", "wandb", "--root", planned)
    assert code == 2
    assert "--log wandb: the package wandb is not installed" in err
    assert "epoch 1:" not in err
