"""Rule 16 for networks that leave the plan no choice of topology, and for those with batch norm."""

import math
from dataclasses import replace

import pytest

from autoseg.core.errors import MemoryShortageError
from autoseg.networks import network_traits
from autoseg.planning import add_recipes, make_plan, reduce_memory
from autoseg.planning.fitting import plan_variant
from autoseg.planning.patch import PatchProblem, fit_patch
from autoseg.planning.presets import PRESETS
from autoseg.planning.pricing import Price

STANDARD = PRESETS["standard"]
BRAIN = PatchProblem(
    spacing=(1.0, 1.0, 1.0), shape=(140.0, 170.0, 140.0), dataset_voxels=1e12, input_channels=4, output_channels=2
)
SLICE = replace(BRAIN, spacing=(1.0, 1.0), shape=(50.0, 44.0))


def made_price(step):
    """Half a GB, and a GB for every 64 x 64 pixels and 4 samples at once."""
    gigabytes = step.batch * math.prod(step.patch) / (4 * 64**2)
    return Price(weights=0, activations=round(gigabytes * 1e9), forward_gflop=1.0, step_gflop=1.0)


def plan_slice(name, budget_gb):
    fit = fit_patch(SLICE, STANDARD, memory_gb=4)
    return fit, plan_variant(SLICE, replace(fit, batch=12), name, STANDARD, budget_gb=budget_gb, cost=made_price)


def test_a_patch_is_enlarged_to_what_an_encoder_halves():
    fit, made = plan_slice("unet_resnet", 99)
    assert (fit.patch, made.patch) == ((56, 48), (64, 64))
    assert made.network.features == (16, 64, 256, 512, 1024, 2048)
    assert "padded to multiples of 32 x 32, as unet_resnet requires" in made.reasons["patch_size"]
    assert made.reasons["network"].startswith(
        "unet_resnet on the encoder resnet50, which fixes stages and features and halves the axes 5 and 5 times"
    )


def test_of_an_encoder_no_filters_are_given_up_and_no_batch_goes_in_parts():
    # 12 samples of 64 x 64 need 3.5 GB; on 32 x 64, one halved axis less, 2 GB; nothing in between is offered.
    _, made = plan_slice("unet_resnet", 3.5)
    assert (made.patch, made.batch, made.accumulation) == ((64, 64), 12, 1)
    with pytest.raises(MemoryShortageError, match=r"the cheapest 2D unet_resnet needs about 3.5 GB to train"):
        plan_slice("unet_resnet", 3.4)  # 64 is the least: of 32 pixels one would be left


def test_the_patch_of_an_encoder_shrinks_by_what_it_halves():
    fit = fit_patch(replace(SLICE, shape=(200.0, 200.0)), STANDARD, memory_gb=4)
    problem = replace(SLICE, shape=(200.0, 200.0))
    asked = []

    def price(step):
        asked.append(step)
        return made_price(step)

    made = plan_variant(problem, replace(fit, batch=12), "pspnet", STANDARD, budget_gb=20.0, cost=price)
    assert made.patch == (160, 160)  # multiples of 8: 0.5 + 12 / 4 * 160^2 / 64^2 = 19.25
    assert not any(step.network.options.get("checkpointing") for step in asked)
    assert len({(step.patch, step.batch) for step in asked}) == len(asked)  # nothing is priced twice


def test_strides_are_those_of_the_network():
    fit = fit_patch(replace(SLICE, shape=(200.0, 200.0)), STANDARD, memory_gb=4)
    made = plan_variant(SLICE, fit, "pyramid_net", STANDARD, budget_gb=999.0, cost=made_price)
    total = [math.prod(axis) for axis in zip(*made.network.strides, strict=True)]
    assert total == [8, 8]
    assert made.network.encoder_blocks[:4] == (1, 3, 4, 6)
    assert made.patch == fit.patch


def test_rats_have_one_width():
    fit = fit_patch(BRAIN, STANDARD, memory_gb=4)
    made = plan_variant(BRAIN, fit, "ratlesnetv2", STANDARD, budget_gb=99999.0, cost=made_price)
    assert set(made.network.features) == {32}
    assert not made.network.deep_supervision


def test_a_training_with_batch_norm_saves_memory_by_checkpoints_only(fingerprint):
    facts = fingerprint(10, (40, 70, 60))
    made = add_recipes(make_plan(facts, preset="pocket", memory_gb=4), facts, ("s2a", "s4a"), None).configurations
    slimmer, how = reduce_memory(made["s2a"].model_copy(update={"batch_size": 4}))
    assert slimmer.network.options["checkpointing"]
    assert "activation checkpointing" in how
    assert reduce_memory(slimmer) is None
    assert reduce_memory(made["s4a"]) is None


def test_parts_are_refused_to_batch_norm_by_declaration():
    assert network_traits("ratlesnetv2").normalises_batch
    assert not network_traits("aspp_net").normalises_batch
