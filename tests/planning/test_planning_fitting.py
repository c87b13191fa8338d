"""Rule 16: what is given up, in which order, when a step needs more than the budget; and further networks."""

import math
from dataclasses import replace

import pytest

from autoseg.core.errors import MemoryShortageError, UsageError
from autoseg.networks import NETWORKS, build_network, network_traits
from autoseg.planning import explain_plan, make_plan, price_step
from autoseg.planning.fitting import fit_to_memory, plan_variant
from autoseg.planning.patch import PatchProblem, fit_patch
from autoseg.planning.presets import PRESETS, find_preset
from autoseg.planning.pricing import Price

STANDARD = PRESETS["standard"]
BRAIN = PatchProblem(
    spacing=(1.0, 1.0, 1.0), shape=(140.0, 170.0, 140.0), dataset_voxels=1e12, input_channels=4, output_channels=2
)
SLICE = replace(BRAIN, spacing=(1.0, 1.0), shape=(170.0, 140.0))


def made_price(step):
    """A GB for every 2^20 voxels at once and 16 features, a third of it with checkpointing; nothing for weights."""
    share = step.batch * math.prod(step.patch) / 2**20 * step.network.features[0] / 16
    gigabytes = share / 3 if step.network.options.get("checkpointing") else share
    return Price(weights=0, activations=round(gigabytes * 1e9), forward_gflop=1.0, step_gflop=3.0 * step.batch)


def settle_brain(budget_gb, problem=BRAIN, preset=STANDARD):
    fit = fit_patch(problem, preset, memory_gb=4)
    return fit, fit_to_memory(problem, fit, preset, budget_gb=budget_gb, cost=made_price)


def test_what_fits_stays_as_the_rules_chose_it():
    # 96 x 128 x 96 x 2 / 2^20 = 2.25, twice that for 32 features, and half a GB for the device.
    fit, settled = settle_brain(5.0)
    assert (settled.patch, settled.batch, settled.network) == (fit.patch, fit.batch, fit.network)
    assert fit.patch == (96, 128, 96)
    assert settled.predicted_gb == 5.0
    assert "5.00 GB of the 5 GB" in settled.reasons["memory"]
    assert settled.reasons["patch_size"] == fit.reasons["patch_size"]


@pytest.mark.parametrize(
    ("budget_gb", "features", "checkpointing", "accumulation"),
    [
        (4.9, 24, False, 1),  # 0.5 + 4.5 * 3/4 = 3.875
        (3.8, 16, False, 1),  # 0.5 + 4.5 / 2 = 2.75
        (2.7, 16, True, 1),  # 0.5 + 2.25 / 3 = 1.25
        (1.2, 16, True, 2),  # 0.5 + 0.75 / 2 = 0.875
    ],
)
def test_filters_go_first_then_speed_then_samples_at_once(budget_gb, features, checkpointing, accumulation):
    fit, settled = settle_brain(budget_gb)
    assert (settled.patch, settled.batch) == (fit.patch, 2)
    assert settled.network.features[0] == features
    assert settled.network.options.get("checkpointing", False) is checkpointing
    assert settled.accumulation == accumulation
    assert settled.predicted_gb <= budget_gb
    assert "The first plan needed 5.00 GB" in settled.reasons["memory"]
    assert f"{features / 32:.0%} of the filters" in settled.reasons["memory"]
    assert ("activation checkpointing" in settled.reasons["memory"]) is checkpointing
    assert ("accumulation over 2 parts" in settled.reasons["memory"]) is (accumulation == 2)


def test_the_patch_goes_last():
    # 0.33 GB remain, and the cheapest step needs 0.375 for 96 x 128 x 96, 0.328 with 16 voxels less.
    _, settled = settle_brain(0.83)
    assert settled.patch == (96, 112, 96)
    assert settled.accumulation == 2
    assert "96 x 112 x 96 instead of 96 x 128 x 96" in settled.reasons["memory"]
    assert "too expensive" in settled.reasons["patch_size"]


def test_samples_of_a_large_batch_go_before_anything_else():
    fit, settled = settle_brain(2.5, problem=SLICE)
    # 192 x 160 x 2 / 2^20 = 0.0586 GB a sample; 2 GB hold 34.
    assert fit.batch == 53
    assert settled.batch == 34
    assert settled.network == fit.network
    assert "34 samples instead of the 53" in settled.reasons["batch_size"]


def test_nothing_that_fits_is_an_error_with_the_number():
    with pytest.raises(MemoryShortageError, match=r"the cheapest 3D unet needs about 0\.5.* GB to train.* is 0\.5 GB"):
        settle_brain(0.5)


def test_nnunet_s_choices_are_priced_and_left():
    fit, settled = settle_brain(4.0, preset=find_preset("standard", "nnunet"))
    assert settled.patch == fit.patch
    assert settled.network == fit.network
    assert "exceeds the budget" in settled.reasons["memory"]


# Further networks


def test_a_further_network_has_the_same_patch_and_batch():
    fit = fit_patch(BRAIN, STANDARD, memory_gb=8)
    variant = plan_variant(BRAIN, fit, "dynunet", STANDARD, budget_gb=99, cost=made_price)
    assert (variant.patch, variant.batch) == (fit.patch, fit.batch)
    assert variant.network.name == "dynunet"
    assert variant.network.strides == fit.network.strides
    assert variant.reasons["network"].startswith("dynunet with ")


def test_a_transformer_has_tokens_of_16_voxels_and_its_published_widths():
    fit = fit_patch(BRAIN, STANDARD, memory_gb=16)
    variant = plan_variant(BRAIN, fit, "unetr", STANDARD, budget_gb=99, cost=made_price)
    assert variant.network.features == (16, 32, 64, 128, 768)
    assert variant.topology.divisors == (16, 16, 16)
    assert variant.patch == fit.patch
    assert variant.network.options["patch_size"] == fit.patch


def test_residual_blocks_are_those_of_the_network_not_of_the_preset():
    fit = fit_patch(BRAIN, PRESETS["large"], memory_gb=24)
    variant = plan_variant(BRAIN, fit, "attention_unet", PRESETS["large"], budget_gb=99, cost=made_price)
    assert set(variant.network.encoder_blocks) == {2}
    variant = plan_variant(BRAIN, fit, "segresnet", PRESETS["large"], budget_gb=99, cost=made_price)
    assert variant.network.encoder_blocks[:4] == (1, 2, 2, 4)


def test_on_a_laptop_a_further_network_costs_no_more_arithmetic_than_a_step_may():
    def price(step):
        gflop = math.prod(step.patch) / 2000 * step.network.features[0] / 16
        return Price(weights=0, activations=1, forward_gflop=gflop, step_gflop=3 * gflop * step.batch)

    pocket = PRESETS["pocket"]
    fit = fit_patch(BRAIN, pocket, memory_gb=4)
    variant = plan_variant(BRAIN, fit, "dynunet", pocket, budget_gb=4, cost=price)
    assert price_of(variant, price).step_gflop <= pocket.step_gflop * 1.05
    assert variant.network.features[0] == 8  # narrowed as far as it goes before the patch is cut
    assert math.prod(variant.patch) < math.prod(fit.patch)


def price_of(fit, price):
    """The price of a step of a fit, as far as it depends on patch, batch and features."""

    class Asked:
        patch, batch, network = fit.patch, fit.batch, fit.network

    return price(Asked)


@pytest.mark.parametrize("name", NETWORKS.names())
def test_every_network_is_planned_in_2d_and_3d_and_can_be_built(name, fingerprint):
    made = fingerprint(20, (60, 70, 64))
    plan = make_plan(
        made, preset="large" if name == "unet" else "standard", memory_gb=8, networks=(name,), cost=made_price
    )
    if name == "unet":
        assert plan.configurations["3d"].network.name == "residual_unet"
    assert plan.networks == (name,)
    traits = network_traits(name)
    for configuration in [f"{dimensions}d" for dimensions in traits.dimensions]:
        found = plan.configurations[f"{configuration}_{name}"]
        assert found.network.name == name
        assert found.patch_size == plan.configurations[configuration].patch_size or traits.fixed is not None
        assert f"{configuration}_{name}.memory" in plan.reasons
        build_network(found.network, dimensions=found.dimensions, input_channels=1, output_channels=2, seed=0)
    assert f"Configuration {configuration}_{name}" in explain_plan(plan)


def test_the_preset_s_own_network_is_not_planned_twice(fingerprint):
    plan = make_plan(fingerprint(20, (60, 70, 64)), preset="standard", memory_gb=8, networks=("unet",), cost=made_price)
    assert set(plan.configurations) == {"2d", "3d"}


def test_what_a_network_cannot_be_is_left_out_with_the_reason(fingerprint):
    # Two stages are all that so few voxels give; Swin UNETR needs three.
    made = fingerprint(20, (7, 9, 6))
    plan = make_plan(made, preset="standard", memory_gb=8, networks=("swin_unetr",), cost=made_price)
    assert "3d_swin_unetr" not in plan.configurations
    assert "needs at least 3 stages" in plan.reasons["3d_swin_unetr"]


def test_an_unknown_network_names_the_known_ones(fingerprint):
    with pytest.raises(UsageError, match=r"unknown network 'vnet' \(did you mean .*; choose from: unet, residual_unet"):
        make_plan(fingerprint(20, (60, 70, 64)), preset="standard", memory_gb=8, networks=("vnet",), cost=made_price)


def test_the_cascade_is_priced_with_its_masks(fingerprint):
    asked = []

    def price(step):
        asked.append(step.input_channels)
        return made_price(step)

    made = fingerprint(20, (350, 350, 350), (0.5, 0.5, 0.5), labels={"background": 0, "core": 1, "oedema": 2})
    plan = make_plan(made, preset="standard", memory_gb=8, cost=price)
    assert set(plan.memory) == {"2d", "3d", "3d_lowres", "3d_cascade"}
    assert sorted(set(asked)) == [1, 3]


# Real prices


def test_a_real_plan_for_2_gb_stays_within_it(fingerprint):
    made = fingerprint(60, (138, 169, 138), channels=tuple("abcd"))
    plan = make_plan(made, preset="standard", memory_gb=2, cost=price_step)
    full = plan.configurations["3d"]
    assert full.patch_size == (96, 128, 96)
    assert full.network.features[0] == 16
    assert all(1 < facts.predicted_gb <= 2 for facts in plan.memory.values())
    assert "% of the preset's filters" in plan.reasons["3d.network"]


def test_a_plan_priced_at_its_usual_budget_is_nnunet_s(fingerprint):
    made = fingerprint(60, (138, 169, 138), channels=tuple("abcd"))
    ours, theirs = (make_plan(made, preset="standard", memory_gb=8, cost=cost) for cost in (price_step, None))
    assert ours.configurations == theirs.configurations
    assert theirs.memory == {}
    assert 4 < ours.memory["3d"].predicted_gb < 8
