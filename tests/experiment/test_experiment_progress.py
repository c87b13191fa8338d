"""State of an experiment over several runs of the command."""

from pathlib import Path

import pytest

from autoseg.core.records import parse_record, render_record
from autoseg.core.store import Store, write_record
from autoseg.experiment.records import ExperimentPaths, Job, RunState, TrainingResult
from autoseg.experiment.train_all import ExperimentProgress
from autoseg.preparation import read_folds, read_plan


@pytest.fixture
def open_again(planned):
    store = Store(planned)
    plan, folds = read_plan(store, "Tiny"), read_folds(store, "Tiny")
    return lambda: ExperimentProgress(store, plan, folds, ("3d", "2d"), ("0", "1"))


def test_overhead_adds_up_over_runs(open_again):
    job = Job("3d", "0")
    for seconds in (2.0, 3.5):
        open_again().add_overhead(TrainingResult(job=job, overhead_s=seconds))

    assert open_again().state.overhead_s == {"3d fold 0": 5.5}


def test_a_killed_run_took_at_least_the_time_of_its_work(open_again, planned):
    """10 s of work on one slot are 10 s, on two slots 5 s; a longer time on record stands."""
    write_record(ExperimentPaths.of(Store(planned), "Tiny").state, state(elapsed_s=7.0, beside_s={"3d fold 0": 10.0}))
    experiment = open_again()

    assert experiment.elapsed_s() == pytest.approx(10.0, abs=1.0)
    experiment.parallel_slots = 2
    assert experiment.elapsed_s() == pytest.approx(7.0, abs=1.0)


def state(**values):
    return RunState.model_validate(values)


def test_the_state_keeps_the_keys_of_version_0_1():
    text = '{"schema": 1, "elapsed_s": 1.0, "beside_s": {"3d fold 0": 2.0}, "expected_s": {}, "concluded": ""}'
    found = parse_record(RunState, text, path=Path("state.json"), advice="")

    assert found.overhead_s == {"3d fold 0": 2.0}
    assert '"beside_s"' in render_record(found)
    assert "overhead_s" not in render_record(found)
