import os
import signal

import numpy as np
import psutil
import pytest

from autoseg.core.errors import CasesError, DataError
from autoseg.core.parallel import _Pool, count_workers, free_memory_bytes, map_cases


def act(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(3)
    if what == "huge":
        np.empty(2**62, np.uint8)
    if what == "bad":
        raise DataError("case x: bad scan")
    if what == "bug":
        raise KeyError("oops")
    return what * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_values_and_failures_come_back_by_name(workers):
    tasks = [("a", "x"), ("b", "bad"), ("c", "bug"), ("d", "y")]
    found = {outcome.name: outcome for outcome in map_cases(act, tasks, workers=workers)}
    assert found["a"].value == "xx"
    assert found["d"].value == "yy"
    assert found["b"].failure == "case x: bad scan"
    assert not found["b"].is_bug
    assert found["c"].is_bug
    assert "KeyError" in found["c"].trace


def test_a_worker_that_dies_is_named_and_the_rest_go_on():
    tasks = [("a", "die"), ("b", "x"), ("c", "leave"), ("d", "y"), ("e", "z")]
    found = {outcome.name: outcome for outcome in map_cases(act, tasks, workers=2)}
    assert "case a: its worker process was killed by signal 9 (SIGKILL)" in found["a"].failure
    assert "case c: its worker process ended with exit code 3" in found["c"].failure
    assert [found[name].value for name in "bde"] == ["xx", "yy", "zz"]


def test_workers_fit_the_memory_and_the_items():
    assert count_workers(1, 1, cores=8) == 1
    assert count_workers(100, 2**60, cores=8) == 1
    assert count_workers(100, 1, cores=3) == 3


def make_group(folder, limit, current=0, cached=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon {current - cached}\ninactive_file {cached}\n")


def test_a_container_or_a_job_may_have_less_memory_than_the_machine(tmp_path):
    own, groups = tmp_path / "own", tmp_path / "groups"
    own.write_text("1:name=systemd:/\n0::/job/step\n")
    make_group(groups / "job" / "step", "max")
    assert 10**6 < free_memory_bytes(groups, own) <= psutil.virtual_memory().total
    make_group(groups / "job", 1000, current=700, cached=200)  # the step is inside the job
    assert free_memory_bytes(groups, own) == 500
    make_group(groups / "job" / "step", 100, current=90)
    assert free_memory_bytes(groups, own) == 10
    make_group(groups / "job" / "step", 100, current=110)
    assert free_memory_bytes(groups, own) == 0


@pytest.mark.parametrize("text", ["", "0::/../outside\n", "0::/gone\n", "12:memory:/old\n"])
def test_without_control_groups_the_machine_decides(tmp_path, text):
    (tmp_path / "own").write_text(text)
    assert 10**6 < free_memory_bytes(tmp_path / "groups", tmp_path / "own") <= psutil.virtual_memory().total
    assert free_memory_bytes(tmp_path / "groups", tmp_path / "none") > 10**6


def test_memory_that_runs_out_is_said_of_its_case():
    (outcome,) = map_cases(act, [("a", "huge")], workers=1)
    assert outcome.failure == "case a: the machine ran out of memory; close other programs, or use fewer workers"
    assert not outcome.is_bug


def test_a_worker_dies_of_one_case_and_the_others_still_use_all_workers():
    tasks = [(str(number), "die" if number < 3 else "x") for number in range(8)]
    found = {outcome.name: outcome for outcome in map_cases(act, tasks, workers=2)}
    assert [name for name, outcome in sorted(found.items()) if outcome.failure] == ["0", "1", "2"]
    assert len(found) == 8


def test_a_worker_that_dies_before_it_is_given_a_case_is_named():
    pool = _Pool(act, workers=1)
    process, connection = pool._start()
    process.kill()
    process.join()
    pool._give(iter([("a", "x")]), (process, connection))
    found = {outcome.name: outcome for outcome in pool.run(iter([("b", "y")]))}
    assert "case a: its worker process was killed by signal 9 (SIGKILL)" in found["a"].failure
    assert found["b"].value == "yy"


def test_failed_cases_are_listed_in_the_order_of_their_ids():
    error = CasesError({"b": "case b: bad scan", "a": "no label"}, of=3, doing="reading")
    assert str(error) == "2 of 3 cases failed while reading; the others are done:\n  a: no label\n  b: bad scan"
