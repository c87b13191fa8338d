"""What an experiment trains, in which order, and how a time budget is divided; numbers worked by hand."""

import pytest
import torch

from autoseg.core.errors import UsageError
from autoseg.core.records import TrainedFold
from autoseg.core.store import read_record
from autoseg.experiment import jobs
from autoseg.experiment.jobs import (
    JobStatus,
    choose_configurations,
    choose_folds,
    estimate_training,
    list_jobs,
    share_budget,
)
from autoseg.experiment.records import Job
from autoseg.preparation import read_folds, read_plan

NEW = JobStatus(facts=None, is_trained=False, is_predicted=False)
JOBS = [Job("3d", "0"), Job("3d", "1"), Job("2d", "0"), Job("2d", "1")]
EXPECTED = {job.name: 10.0 for job in JOBS}


def facts(*, elapsed_s, time_budget_s=None, steps=10):
    return TrainedFold(
        fold="0",
        seed=1,
        device="cpu",
        epochs=1,
        steps=steps,
        elapsed_s=elapsed_s,
        time_budget_s=time_budget_s,
        finished=False,
        train=(),
        validation=(),
        versions={},
    )


def share(budget_s, spent_s, statuses, overhead_s=None):
    return share_budget(budget_s, spent_s, statuses, expected_s=EXPECTED, overhead_s=overhead_s or {})


@pytest.fixture
def plan(store):
    return read_plan(store, "Tiny")


def test_all_configurations_come_with_the_recommended_one_first(plan):
    assert plan.recommended == "3d"
    assert choose_configurations(plan, ()) == ("3d", "2d")
    assert choose_configurations(plan, ("2d",)) == ("2d",)


def test_a_second_network_on_slices_is_trained_where_it_is_asked_for_or_recommended(plan, monkeypatch):
    lines = []
    monkeypatch.setattr(jobs.log, "info", lambda text, *parts: lines.append(text % parts))
    second = {"2d_imagenet": plan.configurations["2d"], **plan.configurations}
    plan = plan.model_copy(update={"configurations": second})
    assert choose_configurations(plan, ()) == ("3d", "2d")
    assert lines == ["2d_imagenet is not trained; to compare it, too, use: -c 2d_imagenet 2d 3d"]
    assert choose_configurations(plan, ("2d_imagenet",)) == ("2d_imagenet",)
    recommended = plan.model_copy(update={"recommended": "2d_imagenet"})
    assert choose_configurations(recommended, ()) == ("2d_imagenet", "2d", "3d")


def test_what_feeds_a_cascade_is_trained_before_it(plan):
    fed = plan.configurations["3d"].model_copy(update={"cascade_from": "3d"})
    plan = plan.model_copy(update={"configurations": {**plan.configurations, "3d_cascade": fed}})
    assert choose_configurations(plan, ("3d_cascade", "2d")) == ("3d", "3d_cascade", "2d")


def test_a_cascade_needs_all_folds(plan, store):
    fed = plan.configurations["3d"].model_copy(update={"cascade_from": "3d"})
    plan = plan.model_copy(update={"configurations": {**plan.configurations, "3d_cascade": fed}})
    folds = read_folds(store, "Tiny")
    with pytest.raises(UsageError, match="'3d_cascade' is a cascade, which needs every fold"):
        choose_folds(plan, folds, ("3d", "3d_cascade"), ("0",))
    assert choose_folds(plan, folds, ("3d", "3d_cascade"), ()) == ("0", "1", "2", "3", "4")


def test_folds_come_in_their_own_order_and_must_exist(plan, store):
    folds = read_folds(store, "Tiny")
    assert choose_folds(plan, folds, ("3d",), ("3", "1")) == ("1", "3")
    with pytest.raises(UsageError, match="unknown fold '7' of Tiny; use 0 to 4"):
        choose_folds(plan, folds, ("3d",), ("7",))
    with pytest.raises(UsageError, match="unknown fold 'all'"):
        choose_folds(plan, folds, ("3d",), ("all",))


def test_unknown_and_reserved_names_are_refused(plan):
    with pytest.raises(UsageError, match="unknown configuration '4d' of Tiny; choose from: 2d, 3d"):
        choose_configurations(plan, ("4d",))
    named = plan.model_copy(update={"configurations": {**plan.configurations, "best": plan.configurations["3d"]}})
    with pytest.raises(UsageError, match="the configuration name 'best' is reserved"):
        choose_configurations(named, ())


def test_one_configuration_comes_after_the_other():
    assert list_jobs(("3d", "2d"), ("0", "1")) == tuple(JOBS)


def test_a_budget_is_shared_evenly_less_predicting_and_comparing():
    # 1000 s less a twentieth less 4 predictions of 10 s, by 4.
    assert share(1000, 0, dict.fromkeys(JOBS, NEW)) == pytest.approx((950 - 40) / 4)


def test_what_was_spent_and_what_was_begun_count():
    begun = JobStatus(facts=facts(elapsed_s=50, time_budget_s=200), is_trained=False, is_predicted=False)
    statuses = {**dict.fromkeys(JOBS, NEW), JOBS[0]: begun}
    assert share(1000, 60, statuses) == pytest.approx((950 - 60 - 150 - 40) / 3)


def test_predictions_that_took_twice_as_long_are_expected_to_go_on_so():
    done = JobStatus(facts=facts(elapsed_s=200, time_budget_s=200), is_trained=True, is_predicted=True)
    statuses = {**dict.fromkeys(JOBS, NEW), JOBS[0]: done}
    assert share(1000, 220, statuses, {JOBS[0].name: 20.0}) == pytest.approx((950 - 220 - 3 * 20) / 3)


def test_what_is_trained_but_not_yet_predicted_still_takes_its_time():
    trained = JobStatus(facts=facts(elapsed_s=200, time_budget_s=200), is_trained=True, is_predicted=False)
    statuses = {**dict.fromkeys(JOBS, NEW), JOBS[0]: trained}
    assert share(1000, 200, statuses, {JOBS[0].name: 3.0}) == pytest.approx((950 - 200 - 40) / 3)


def test_a_guess_that_is_too_high_leaves_half_to_training():
    # 100 s, of which 4 predictions are guessed to take 40 s, and 40 s are spent: half of 60 s is kept.
    assert share(100, 40, dict.fromkeys(JOBS, NEW)) == pytest.approx((95 - 40 - 30) / 4)


def test_a_budget_that_is_used_up_still_trains_a_little():
    assert share(1000, 5000, dict.fromkeys(JOBS, NEW)) == pytest.approx(0.1 * 1000 / 4)


def test_the_time_left_is_told_by_folds_that_were_begun(plan):
    begun = JobStatus(facts=facts(elapsed_s=30, steps=10), is_trained=False, is_predicted=False)
    statuses = {Job("3d", "0"): begun, Job("3d", "1"): NEW}
    found = estimate_training(plan, statuses, torch.device("cpu"), epochs=2, steps_per_epoch=20)
    # 3 s a step; 30 and 40 steps are left.
    assert found == {"3d": (pytest.approx(210), "from folds that have started")}


def test_steps_are_tried_where_nothing_was_begun(plan, monkeypatch):
    monkeypatch.setattr("autoseg.experiment.jobs.time_step", lambda plan, name, device, ranks: 0.5)
    found = estimate_training(plan, {Job("2d", "0"): NEW}, torch.device("cpu"), epochs=2, steps_per_epoch=20)
    assert found["2d"][0] == pytest.approx(20)
    assert "timed steps" in found["2d"][1]


def test_a_record_of_a_fold_is_read_as_training_writes_it(trained):
    found = read_record(TrainedFold, trained / "autoseg_results/Tiny/3d/fold_0/fold.json", advice="")
    assert found.steps == 4
