"""``autoseg_run --learning-curve``: every size, scored on the same cases."""

import json

import pytest

from autoseg.cli import run as run_experiment
from autoseg.core.records import CaseScores, Scores
from autoseg.core.store import claimed
from autoseg.experiment import learning_curve


def scores(cases):
    return Scores(
        conventions={}, empty_references={}, summary={},
        cases=tuple(
            CaseScores(case=name, scores={"lesion": {"dice": value}}, reference_volume_ml={}, prediction_volume_ml={})
            for name, value in cases.items()
        ),
    )  # fmt: skip


@pytest.fixture
def called(planned, monkeypatch, capsys):
    """Trainings that are only noted; each is scored by its number of cases."""
    jobs = []

    def train(store, options, **_):
        jobs.append((options.configuration, options.subset, options.fold, options.time_budget_s))
        return scores({f"a{options.fold}": (options.subset or 4) / 10, f"b{options.fold}": None})

    monkeypatch.setattr(learning_curve, "train", train)

    def call(*argv):
        with pytest.raises(SystemExit) as stop:
            run_experiment(["-d", "Tiny", "--root", str(planned), *argv])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return call, jobs, planned


def test_every_size_and_all_cases_are_trained_in_every_fold_and_share_the_time(called):
    call, jobs, root = called
    code, out, _ = call("--learning-curve", "3", "2", "-f", "0", "1", "--time-budget", "60s")
    assert code == 0
    assert jobs == [("3d", size, fold, 10.0) for size in (2, 3, None) for fold in ("0", "1")]
    curve = json.loads((root / "autoseg_results" / "Tiny" / "learning_curve.json").read_text())
    found = [(point["size"], point["cases"], round(point["mean"], 3)) for point in curve["points"]]
    assert found == [(2, 2, 0.2), (3, 2, 0.3), (None, 2, 0.4)]
    assert out.splitlines()[-2].split()[:3] == ["3d", "all", "0.4000"]
    assert curve["forecasts"][0]["reason"].startswith("3 sizes are too few for a forecast")
    assert out.splitlines()[-1].startswith("forecast of 3d: 3 sizes are too few")
    subsets = json.loads((root / "autoseg_preprocessed" / "Tiny" / "subsets.json").read_text())
    assert subsets["sizes"] == [2, 3]


def test_four_sizes_are_extended_to_twice_and_four_times_the_cases(called):
    call, _, root = called
    code, _, err = call("--learning-curve", "1", "2", "3", "-f", "0", "1", "--target", "dice")
    assert code == 0, err
    curve = json.loads((root / "autoseg_results" / "Tiny" / "learning_curve.json").read_text())
    assert curve["forecasts"][0]["cases"] == [10, 20]  # both folds train on 5 of the 6
    assert curve["forecasts"][0]["means"][0] > 0.4


def test_another_experiment_at_work_is_told(called):
    call, jobs, root = called
    with claimed(root / "autoseg_results" / "Tiny" / "experiment", ""):
        code, _, err = call("--learning-curve", "2")
    assert code == 2
    assert "another autoseg_run is at work on Tiny" in err
    assert jobs == []


def test_what_does_not_go_together(called):
    call, jobs, _ = called
    code, _, err = call("--learning-curve", "2", "--cluster", "local")
    assert code == 2
    assert "--learning-curve trains on this machine" in err
    assert jobs == []


def test_sizes_are_really_trained_and_scored_on_the_same_cases(planned, capsys):
    short = ("--epochs", "1", "--steps-per-epoch", "1", "-c", "2d", "-f", "0", "--device", "cpu")
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            run_experiment(["-d", "Tiny", "--root", str(planned), "--learning-curve", "2", *short])
        assert stop.value.code == 0
    results = planned / "autoseg_results" / "Tiny"
    folds = [results / name / "fold_0" for name in ("2d__n2", "2d")]
    assert all(json.loads((fold / "fold.json").read_text())["steps"] == 1 for fold in folds)
    scored = [[case["case"] for case in json.loads((fold / "scores.json").read_text())["cases"]] for fold in folds]
    assert scored[0] == scored[1]
    assert "is trained already" in capsys.readouterr().err
    points = json.loads((results / "learning_curve.json").read_text())["points"]
    assert [point["size"] for point in points] == [2, None]
