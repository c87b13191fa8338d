"""Rule 20: what a time budget holds, and the grid, stages and neighbouring slices that follow."""

import pytest

from autoseg.core.errors import UsageError
from autoseg.core.records import MachineSpeed, Plan, parse_record, render_record
from autoseg.core.store import Store
from autoseg.options import PlanOptions
from autoseg.pipeline.plan import resolve_target
from autoseg.planning import explain_plan, make_plan
from autoseg.planning.pricing import price_step
from autoseg.planning.time import TimeBudget

SPEED = MachineSpeed(device="cpu (2 threads)", gflops_2d=100.0, gflops_3d=100.0)
SHAPE, SPACING = (30, 240, 200), (5.0, 1.0, 1.0)
LARGE, SMALL = (30.0,), (0.02,)  # ml


def planned(facts, seconds, *, speed=SPEED, **rest):
    time = None if seconds is None else TimeBudget(seconds=seconds, speed=speed)
    return make_plan(facts, preset="pocket", memory_gb=4, time=time, **rest)


@pytest.fixture
def facts(fingerprint):
    return fingerprint(80, SHAPE, SPACING, channels=("T1", "FLAIR"), lesions=LARGE)


def spacings(plan):
    return {name: made.preprocessing.spacing for name, made in plan.configurations.items()}


def test_the_less_time_the_coarser_the_grid(facts):
    in_plane = {seconds: spacings(planned(facts, seconds))["2d"][1:] for seconds in (60, 600, 3600, 360000)}
    assert in_plane == {60: (4.0, 4.0), 600: (2.0, 2.0), 3600: (1.0, 1.0), 360000: (1.0, 1.0)}
    volume = {seconds: spacings(planned(facts, seconds))["3d"] for seconds in (60, 600, 3600)}
    assert volume == {60: (5.0, 4.0, 4.0), 600: (5.0, 2.0, 2.0), 3600: (5.0, 1.0, 1.0)}


def test_a_faster_machine_plans_a_finer_grid(facts):
    fast = SPEED.model_copy(update={"gflops_2d": 600.0})
    assert spacings(planned(facts, 600, speed=fast))["2d"][1:] == (1.0, 1.0)


def test_small_lesions_keep_their_voxels(fingerprint):
    small = fingerprint(80, SHAPE, SPACING, lesions=SMALL)  # 3.4 mm wide
    assert spacings(planned(small, 60))["2d"][1:] == (1.0, 1.0)


def test_with_much_time_the_plan_is_what_it_was(facts):
    usual, timed = planned(facts, None), planned(facts, 360000)
    for name, made in usual.configurations.items():
        training = made.training.model_copy(update={"time_budget_s": 360000})
        assert timed.configurations[name] == made.model_copy(update={"training": training})
    assert "enough to plan as for any length" in timed.reasons["2d.training"]


def test_a_short_training_begins_on_a_coarser_grid(facts):
    made = planned(facts, 600).configurations["2d"]
    (stage,) = made.training.stages
    assert made.training.time_budget_s == 600
    assert (stage.until, stage.factors) == (0.5, (2, 2))
    assert all(n <= 2 * m < 2 * n for n, m in zip(made.patch_size, stage.patch_size, strict=True))
    assert stage.batch_size == min(4 * made.batch_size, 64)


def test_a_patch_that_shows_a_whole_case_has_no_coarser_beginning(fingerprint):
    crops = fingerprint(200, (36, 50, 35), lesions=LARGE)
    plan = planned(crops, 30)
    assert plan.configurations["3d"].training.stages == ()
    assert len(plan.configurations["2d"].training.stages) == 1
    assert "A patch shows a whole case" in plan.reasons["3d.training"]


def test_an_encoder_with_imagenet_weights_keeps_the_full_resolution(facts):
    plan = planned(facts, 600, cost=price_step, at_hand=lambda encoder: True)
    made, slices = plan.configurations["2d_imagenet"], plan.configurations["2d"]
    assert (made.preprocessing.spacing[1:], slices.preprocessing.spacing[1:]) == ((1.0, 1.0), (2.0, 2.0))
    assert made.training.time_budget_s == 600
    assert [stage.factors for stage in made.training.stages] == [(2, 2)]


def test_steps_of_an_encoder_are_counted_at_its_own_speed(facts):
    speed = SPEED.model_copy(update={"gflops_imagenet": 25.0})
    own, shared = (
        planned(facts, 600, speed=each, cost=price_step, at_hand=lambda encoder: True) for each in (speed, SPEED)
    )
    reason = "2d_imagenet.training"
    passes = [float(plan.reasons[reason].split("dataset ")[1].split(" times")[0]) for plan in (own, shared)]
    assert passes[0] == pytest.approx(passes[1] / 4, rel=0.1)
    assert f"steps of {own.configurations['2d_imagenet'].batch_size} samples" in own.reasons[reason]
    assert own.configurations["2d"] == shared.configurations["2d"]


def test_a_coarse_axis_stays_in_the_stage(fingerprint):
    thick = fingerprint(80, (20, 240, 200), (12.0, 1.0, 1.0), lesions=LARGE)
    (stage,) = planned(thick, 600).configurations["3d"].training.stages
    assert stage.factors == (1, 2, 2)


def test_a_short_training_has_no_cascade(facts):
    assert "3d_cascade" in planned(facts, None).configurations
    plan = planned(facts, 60)
    assert "3d_cascade" not in plan.configurations
    assert plan.reasons["3d_lowres"].endswith("too short for a cascade.")


def test_the_plan_tells_the_time_and_reads_back(facts):
    plan = planned(facts, 600)
    assert parse_record(Plan, render_record(plan), path=None, advice="") == plan
    page = " ".join(explain_plan(plan).split())
    assert "Time: 600 s per fold Real training steps were timed on cpu (2 threads): 100 GFLOP per second" in page
    assert "show the whole dataset" in plan.reasons["2d.training"]
    assert "three of four lesions are still over" in plan.reasons["2d.preprocessing.spacing"]


def test_a_plan_made_twice_is_the_same(facts):
    assert planned(facts, 600) == planned(facts, 600)


def test_nnunet_plans_for_no_time(tmp_path):
    options = PlanOptions(dataset="None", compat="nnunet", memory_gb=8, time_budget_s="10m")
    with pytest.raises(UsageError, match="nnU-Net plans for no time"):
        resolve_target(Store(tmp_path), options)
