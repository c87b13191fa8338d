import os
import signal

import pytest

from autoseg.core.errors import DataError
from autoseg.core.parallel import _Pool, count_workers, map_cases


def act(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(3)
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


def test_a_worker_that_dies_before_it_is_given_a_case_is_named():
    pool = _Pool(act, workers=1)
    process, connection = pool._start()
    process.kill()
    process.join()
    pool._give(iter([("a", "x")]), (process, connection))
    found = {outcome.name: outcome for outcome in pool.run(iter([("b", "y")]))}
    assert "case a: its worker process was killed by signal 9 (SIGKILL)" in found["a"].failure
    assert found["b"].value == "yy"
