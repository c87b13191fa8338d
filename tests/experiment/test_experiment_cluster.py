"""A real Dask scheduler with two worker processes: one is killed in the middle of a fold, and its fold goes on."""

import json
import os
import signal
import threading
import time

import psutil
import pytest

from autoseg.core.errors import CasesError, DataError, UsageError
from autoseg.core.parallel import no_progress
from autoseg.core.store import Store
from autoseg.experiment.cluster import open_cluster, run_cases_on_cluster, train_on_cluster
from autoseg.experiment.train_all import ExperimentProgress, train_all
from autoseg.options import RunOptions
from autoseg.preparation import read_folds, read_plan

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
pytest.importorskip("cryptography", reason="the package cryptography is not installed")
LOCAL = RunOptions(dataset="Tiny", cluster="local", workers=2, epochs=3, steps_per_epoch=3, device="cpu")


def double(number):
    if number == 3:
        raise DataError("case three: unreadable")
    return 2 * number


def find_training(fold):
    """The process that trains a fold, and the worker that started it."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "autoseg.train" in command and command[command.index("-f") + 1] == fold:
            return process, process.parent()
    return None


def kill_worker_in_mid_fold(root, fold, killed):
    """Once a step of the fold is taken, kill its worker by SIGKILL."""
    log = root / "autoseg_results/Tiny/experiment/logs" / f"3d_fold_{fold}.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if log.exists() and "epoch 1:" in log.read_text() and (found := find_training(fold)):
            found[1].send_signal(signal.SIGKILL)
            killed.append(found[1].pid)
            return
        time.sleep(0.05)


def assert_strangers_are_refused(address):
    """Another user of this machine has no key of this run, with or without encryption of his own."""
    for security in (None, distributed.Security.temporary()):
        with pytest.raises((OSError, TypeError)):
            distributed.Client(address, timeout=2, security=security)


def test_a_cluster_that_cannot_be_encrypted_says_so(planned, monkeypatch, caplog):
    def refuse():
        raise ImportError("Using `Security.temporary` requires `cryptography`")

    monkeypatch.setattr(distributed.Security, "temporary", refuse)
    with open_cluster(LOCAL, Store(planned), 0, lambda: False) as cluster:
        assert cluster.client.scheduler.address.startswith("tcp://127.0.0.1:")
    assert "any user of this machine can run code as you on the workers" in caplog.text


def test_a_worker_killed_in_mid_fold_loses_nothing(planned):
    store = Store(planned)
    plan, folds = read_plan(store, "Tiny"), read_folds(store, "Tiny")
    experiment = ExperimentProgress(store, plan, folds, ("3d",), ("0", "1"))
    killed = []
    with open_cluster(LOCAL, store, 0, lambda: False) as cluster:
        assert cluster.parallel_slots == 2
        assert cluster.client.scheduler.address.startswith("tls://127.0.0.1:")
        assert_strangers_are_refused(cluster.client.scheduler.address)
        workers = set(cluster.client.run(os.getpid).values())
        killer = threading.Thread(target=kill_worker_in_mid_fold, args=(planned, "1", killed))
        killer.start()
        trainings = train_on_cluster(cluster, store, LOCAL, experiment, should_stop=lambda: False)
        failures = train_all(experiment, LOCAL, trainings, should_stop=lambda: False, progress=no_progress)
        killer.join()
        assert failures == {}
        assert len(workers & set(killed)) == 1
        logs = planned / "autoseg_results/Tiny/experiment/logs"
        assert "resuming at epoch" in (logs / "3d_fold_1.log").read_text()
        assert "resuming" not in (logs / "3d_fold_0.log").read_text()
        for fold in "01":
            here = planned / f"autoseg_results/Tiny/3d/fold_{fold}"
            rows = [json.loads(line) for line in (here / "history.jsonl").read_text().splitlines()]
            assert [row["epoch"] for row in rows] == [1, 2, 3]
            assert json.loads((here / "fold.json").read_text())["steps"] == 9
        assert all(status.is_predicted for status in experiment.statuses().values())
        check_cases(cluster)
    assert not list((planned / "autoseg_results/Tiny/experiment").glob(".token*"))
    assert find_training("1") is None


def check_cases(cluster):
    """Functions over cases: values come back, what is bad is named."""
    found = {}
    run = run_cases_on_cluster(cluster, lambda: False)
    with pytest.raises(CasesError, match="1 of 3 cases failed while doubling"):
        run(double, [("one", 1), ("three", 3), ("four", 4)], 1, found.__setitem__, "doubling", no_progress)
    assert found == {"one": 2, "four": 8}


def test_a_queue_needs_a_host_that_others_can_reach(planned):
    with (
        pytest.raises(UsageError, match="set --scheduler-host"),
        open_cluster(RunOptions(dataset="Tiny", cluster="slurm"), Store(planned), 0, lambda: False),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("somewhere", "use local, slurm, pbs, lsf, or a scheduler's address"),
        ("tcp://127.0.0.1:9", "no scheduler answers there"),
    ],
)
def test_an_address_that_is_none_is_said(planned, address, sentence, monkeypatch):
    monkeypatch.setattr("autoseg.experiment.cluster.CONNECT_S", 1)
    with (
        pytest.raises(UsageError, match=sentence),
        open_cluster(RunOptions(dataset="Tiny", cluster=address), Store(planned), 0, lambda: False),
    ):
        pass
