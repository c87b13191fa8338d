"""A time budget that is given to a training: it begins on a coarser grid where the time is short, and folds agree."""

import pytest

from autoseg.core.store import Store
from autoseg.folds import probing
from autoseg.model import load_plan
from autoseg.preparation import read_plan


@pytest.fixture
def slow(monkeypatch):
    """A machine of a hundredth of a GFLOP per second; the number of measurements."""
    measured = []
    monkeypatch.setattr(probing, "measure_configuration", lambda *_: measured.append(1) or (0.01, 1.0))
    return measured


def train(run, root, *options, fold=0):
    code, _, err = run("train", "-d", "Tiny", "-c", "2d", "-f", fold, "--device", "cpu", *options, "--root", root)
    assert code == 0, err
    return err, load_plan(root / "autoseg_results" / "Tiny" / "2d").configurations["2d"].training


def test_a_short_training_begins_on_a_coarser_grid_and_other_folds_follow(run, planned, slow):
    err, training = train(run, planned, "--time-budget", "1s")
    assert "fewer than 30" in err
    (stage,) = training.stages
    assert "stage 1 of 2: patch" in err
    err, again = train(run, planned, "--time-budget", "2s", fold=1)
    assert again.stages == (stage,)
    assert len(slow) == 1
    assert "begins on a coarser grid, as" in err


def test_with_enough_time_nothing_changes(run, planned, monkeypatch):
    monkeypatch.setattr(probing, "measure_configuration", lambda *_: (1e6, 1.0))
    err, training = train(run, planned, "--time-budget", "1s")
    assert "enough to train as planned" in err
    assert not training.stages


def test_epochs_are_trained_without_stages(run, planned, slow):
    _, training = train(run, planned, "--epochs", 1, "--steps-per-epoch", 2)
    assert not training.stages
    assert not slow


def test_the_planned_time_is_the_default_length(run, planned):
    assert run("plan", "-d", "Tiny", "--time-budget", "1s", "--device", "cpu", "--root", planned)[0] == 0
    err, training = train(run, planned)
    assert training.time_budget_s == 1
    assert run("plan", "-d", "Tiny", "--time-budget", "none", "--device", "cpu", "--root", planned)[0] == 0
    code, _, err = run("plan", "-d", "Tiny", "--time-budget", "soon", "--root", planned)
    assert code == 2
    assert "invalid duration 'soon'" in err


def test_a_measured_speed_is_kept(run, planned, monkeypatch):
    measured = []
    monkeypatch.setattr(probing, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(probing, "measure_configuration", lambda *_: measured.append(1) or (50.0, 1.0))
    for _ in range(2):
        assert run("plan", "-d", "Tiny", "--time-budget", "1s", "--device", "cpu", "--root", planned)[0] == 0
    assert len(measured) == 2 * probing.ROUNDS  # 2d and 3d, in the first plan alone


@pytest.mark.parametrize(("gain", "precision"), [(1.9, "bfloat16"), (0.6, "auto")])
def test_bfloat16_is_planned_where_the_machine_is_faster_in_it(run, planned, monkeypatch, gain, precision):
    def measure(plan, name, device):
        return (50.0 * gain if plan.configurations[name].training.precision == "bfloat16" else 50.0), 1.0

    monkeypatch.setattr(probing, "measure_configuration", measure)
    monkeypatch.setattr(probing, "cpu_has_bfloat16", lambda: True)
    assert run("plan", "-d", "Tiny", "--time-budget", "1s", "--device", "cpu", "--root", planned)[0] == 0
    plan = read_plan(Store(planned), "Tiny")
    assert {made.training.precision for made in plan.configurations.values()} == {precision}
    assert plan.speed.gflops_3d == max(50.0, 50.0 * gain)
    assert ("In bfloat16 a step is 1.9 times as fast" in plan.reasons["3d.training"]) == (gain > 1)


def test_other_programs_do_not_decide_on_bfloat16(run, planned, monkeypatch):
    rates = {"auto": iter([50.0, 49.0] * 2), "bfloat16": iter([30.0, 90.0] * 2)}  # the first round was disturbed
    monkeypatch.setattr(
        probing,
        "measure_configuration",
        lambda plan, name, _: (next(rates[plan.configurations[name].training.precision]), 1.0),
    )
    monkeypatch.setattr(probing, "cpu_has_bfloat16", lambda: True)
    assert run("plan", "-d", "Tiny", "--time-budget", "1s", "--device", "cpu", "--root", planned)[0] == 0
    speed = read_plan(Store(planned), "Tiny").speed
    assert (speed.gflops_2d, speed.bfloat16_gain_2d) == (90.0, 1.8)


def test_a_cpu_without_bfloat16_does_not_try_it(run, planned, monkeypatch):
    monkeypatch.setattr(probing, "cpu_has_bfloat16", lambda: False)
    assert run("plan", "-d", "Tiny", "--time-budget", "1s", "--device", "cpu", "--root", planned)[0] == 0
    assert read_plan(Store(planned), "Tiny").speed.bfloat16_gain_3d is None
