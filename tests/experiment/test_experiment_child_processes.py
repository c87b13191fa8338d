"""A training as a process of its own: its failure, death, stop, and lock."""

import fcntl
import signal
import stat
import threading
import time

import pytest

from autoseg.experiment import child_processes as children
from autoseg.experiment.child_processes import ChildTraining, run_training


@pytest.fixture
def train_with(tmp_path, monkeypatch):
    """Run a shell script in the place of Python; gives what ``run_training`` gives."""
    token = tmp_path / "token"
    token.write_text("here")
    program = tmp_path / "program"
    monkeypatch.setattr(children, "POLL_S", 0.02)
    monkeypatch.setattr(children.sys, "executable", str(program))

    def call(script, *, is_cancelled=lambda: False, number=None, **changes):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        places = {"log": tmp_path / "logs" / "fold.log", "stop_file": tmp_path / "stop", "token": token}
        task = ChildTraining(**{"command": ("-d", "Tiny"), "device": "cpu", "gpus": 0, **places, **changes})
        return run_training(task, is_cancelled=is_cancelled, worker_number=number)

    return call


def test_it_runs_autoseg_train_and_logs_its_output(train_with, tmp_path):
    assert train_with('echo "$@"')[:2] == (None, False)
    assert (tmp_path / "logs" / "fold.log").read_text() == "-m autoseg.train -d Tiny --device cpu\n"


def test_workers_of_one_machine_share_its_gpus(train_with, tmp_path):
    for number, gpu in ((0, "cuda:0"), (1, "cuda:1"), (2, "cuda:0"), (None, "auto")):
        train_with('echo "$@"', number=number, gpus=2, device="auto")
        assert (tmp_path / "logs" / "fold.log").read_text().splitlines()[-1].endswith(f"--device {gpu}")


def test_the_failure_of_a_training_is_its_last_error(train_with, tmp_path):
    failure, stopped, _ = train_with('echo "autoseg_train: error: old" ; exit 2')
    failure, stopped, _ = train_with('echo one; echo "autoseg_train: error: unknown fold 9" >&2; exit 2')
    assert failure == f"unknown fold 9 (see {tmp_path / 'logs' / 'fold.log'})"
    assert not stopped
    assert train_with("echo Traceback; echo 'KeyError: 7'; exit 1")[0].startswith("KeyError: 7 (see ")


def test_a_killed_training_is_raised_so_that_it_is_retried(train_with):
    with pytest.raises(RuntimeError, match="killed by signal 9"):
        train_with("kill -9 $$")


def test_a_worker_without_our_folder_says_so(train_with, tmp_path):
    failure, _, _ = train_with("exit 0", token=tmp_path / "elsewhere" / "token")
    assert failure == f"this worker does not see {tmp_path / 'elsewhere'}; share the root's folder with all workers"


@pytest.mark.parametrize("how", ["stop file", "cancelled"])
def test_a_stopped_training_gets_an_interrupt_and_time_to_write(train_with, tmp_path, how):
    started = tmp_path / "started"

    def is_cancelled():
        if how == "stop file" and started.exists():
            (tmp_path / "stop").touch()
        return how == "cancelled" and started.exists()

    script = f"trap 'echo written; exit 130' INT; touch {started}; while :; do sleep 0.02; done"
    failure, stopped, _ = train_with(script, is_cancelled=is_cancelled)
    assert (failure, stopped) == (None, True)
    assert (tmp_path / "logs" / "fold.log").read_text() == "written\n"


def test_a_training_that_does_not_stop_is_killed(train_with, tmp_path, monkeypatch):
    monkeypatch.setattr(children, "GRACE_S", 0.1)
    with pytest.raises(RuntimeError, match=f"signal {signal.SIGKILL.value}"):
        train_with(
            f"trap '' INT; touch {tmp_path / 'started'}; while :; do sleep 0.02; done",
            is_cancelled=(tmp_path / "started").exists,
        )


def test_a_second_training_of_a_fold_waits_for_the_first(train_with, tmp_path):
    lock = tmp_path / "logs" / "fold.lock"
    lock.parent.mkdir()
    with lock.open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        ended = []
        thread = threading.Thread(target=lambda: ended.append(train_with("echo second")))
        thread.start()
        time.sleep(0.2)
        assert not ended
        assert (tmp_path / "logs" / "fold.log").read_text() == ""
        fcntl.flock(first, fcntl.LOCK_UN)
        thread.join(120)
    assert ended[0][:2] == (None, False)


def test_a_training_that_waits_for_another_can_be_stopped(train_with, tmp_path):
    lock = tmp_path / "logs" / "fold.lock"
    lock.parent.mkdir()
    polls = []
    with lock.open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        found = train_with("exit 1", is_cancelled=lambda: polls.append(1) or len(polls) > 2)
    assert found[:2] == (None, True)
