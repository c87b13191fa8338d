"""From the plan's settings to a loss: options and their values, class weights, and deep supervision."""

import re
from pathlib import Path
from typing import Literal

import pytest
import torch

from autoseg.core.errors import PlanError, TrainingError, UsageError
from autoseg.core.records import LossSettings
from autoseg.losses import LOSSES, Loss, Term, build_loss
from autoseg.losses.building import shrink_target

TARGET = torch.randint(0, 3, (2, 4, 6, 8), generator=torch.Generator().manual_seed(0)).to(torch.int16)


def test_outputs_are_weighted():
    settings = LossSettings(name="focal", deep_supervision_weights=(0.75, 0.25, 0.0))
    outputs = [torch.randn((2, 3, *shape)) for shape in ((4, 6, 8), (2, 3, 4), (1, 1, 2))]
    alone = build_loss(LossSettings(name="focal"))
    coarse = shrink_target(TARGET, (2, 3, 4))
    expected = 0.75 * alone(outputs[:1], TARGET) + 0.25 * alone(outputs[1:2], coarse)
    assert torch.allclose(build_loss(settings)(outputs, TARGET), expected)


def test_without_weights_only_the_finest_output_counts():
    outputs = [torch.randn((2, 3, 4, 6, 8)), torch.full((2, 3, 2, 3, 4), torch.nan)]
    assert torch.isfinite(build_loss(LossSettings())(outputs, TARGET))


def test_number_of_outputs_must_fit_the_weights():
    loss = build_loss(LossSettings(deep_supervision_weights=(0.7, 0.3)))
    with pytest.raises(TrainingError, match=r"gave 1 outputs, but loss.deep_supervision_weights has 2"):
        loss([torch.zeros((2, 3, 4, 6, 8))], TARGET)


def test_shrunken_target_takes_the_voxel_nearest_to_each_centre():
    target = torch.arange(12).reshape(1, 2, 6)
    assert shrink_target(target, (2, 2)).tolist() == [[[1, 4], [7, 10]]]
    assert shrink_target(target, (1, 3)).tolist() == [[[7, 9, 11]]]


def test_at_least_one_output_counts():
    with pytest.raises(PlanError, match=r"all loss\.deep_supervision_weights are 0; set at least one above 0"):
        build_loss(LossSettings(deep_supervision_weights=(0.0, 0.0)))


def test_unknown_loss_and_option_are_named():
    with pytest.raises(UsageError, match=r"unknown loss 'dyce'; choose from: dice_ce"):
        build_loss(LossSettings(name="dyce"))
    message = (
        "unknown option 'gama' of loss 'focal' (did you mean 'gamma'?); choose from: gamma, alpha, class_weights; "
    )
    with pytest.raises(PlanError, match=re.escape(message)):
        build_loss(LossSettings(name="focal", options={"gama": 1.0}))


@pytest.mark.parametrize(
    ("name", "option", "value", "problem"),
    [
        ("focal", "gamma", "two", "input should be a valid number, not 'two'"),
        ("focal", "gamma", True, "input should be a valid number, not True"),
        ("focal", "gamma", -1.0, "input should be greater than or equal to 0, not -1.0"),
        ("focal", "gamma", float("nan"), "input should be a finite number"),
        ("focal", "alpha", 1.5, "input should be less than 1, not 1.5"),
        ("dice_ce", "batch_dice", 1, "input should be a valid boolean, not 1"),
        ("dice_ce", "smooth", 0, "input should be greater than 0, not 0"),
        ("dice_ce", "class_weights", "frequency", "input should be a valid array, not 'frequency'"),
        ("dice_ce", "class_weights", [1.0, "a"], "input should be a valid number, not 'a'"),
        ("dice_ce", "class_weights", [1.0, -1.0], "input should be greater than or equal to 0, not -1.0"),
        ("dice_ce", "class_weights", [0.0, 0.0], "at least one of the weights must be above 0"),
        ("top_k_ce", "share", 0.0, "input should be greater than 0, not 0.0"),
        ("top_k_ce", "share", 10, "input should be less than or equal to 1, not 10"),
        ("tversky", "alpha", [0.3], "input should be a valid number"),
        ("boundary_dice_ce", "radius", 1.5, "input should be a valid integer"),
        ("boundary_dice_ce", "radius", 0, "input should be greater than or equal to 1, not 0"),
        ("blob_dice_ce", "blob_weight", None, "input should be a valid number, not None"),
    ],
)
def test_impossible_values_of_options_are_named(name, option, value, problem):
    with pytest.raises(PlanError) as caught:
        build_loss(LossSettings(name=name, options={option: value}))
    message = str(caught.value)
    assert message.startswith(f"option '{option}' of loss '{name}': {problem}")
    assert f"; edit loss.options (all options: {', '.join(LOSSES[name].options)})" in message


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dice_ce", {"dice_weight": 0, "ce_weight": 0.0}),
        ("dice_focal", {"dice_weight": 0, "focal_weight": 0}),
        ("tversky", {"alpha": 0, "beta": 0}),
        ("boundary_dice_ce", {"inside_weight": 0, "outside_weight": 0}),
        ("blob_dice_ce", {"global_weight": 0, "blob_weight": 0}),
    ],
)
def test_a_loss_of_nothing_is_refused(name, options):
    with pytest.raises(PlanError, match=f"'{name}' has nothing to minimise: {' and '.join(options)} are all 0"):
        build_loss(LossSettings(name=name, options=options))


def test_every_option_of_every_loss_may_be_set_to_its_default():
    for name in LOSSES:
        regions = ((1,),) if name == "dice_bce" else ()
        options = {option: parameter.default for option, parameter in LOSSES[name].options.items()}
        assert options
        build_loss(LossSettings(name=name, options=options), regions=regions)


def test_every_option_of_every_loss_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text()
    for name in LOSSES:
        row = re.search(rf"^\| `{name}` \|.*$", page, flags=re.M)
        assert row, f"docs/plan.md has no row for {name}"
        assert set(LOSSES[name].options) - set(re.findall(r"`(\w+)`", row.group())) == set(), f"docs/plan.md, {name}"


def test_there_is_one_class_weight_per_output():
    settings = LossSettings(options={"class_weights": [0.1, 0.3, 0.3]})
    build_loss(settings, outputs=3)
    with pytest.raises(PlanError, match="has 3 class_weights, but the network has 4 outputs; give one per region, or"):
        build_loss(settings, outputs=4)
    with pytest.raises(PlanError, match="has 3 class_weights, but the network has 4 outputs"):
        build_loss(settings)([torch.zeros((2, 4, 4, 6, 8))], TARGET)
    with pytest.raises(PlanError, match="has 1 class_weights, but the network has 2 outputs"):
        build_loss(LossSettings(name="tversky", options={"class_weights": [1]}), regions=((1, 2), (2,)))


def test_a_loss_from_outside_is_held_to_its_annotations():
    def outside(context, *, order: Literal[1, 2] = 1, free=None):
        return context.logits.sum()

    loss = Loss([Term(outside)])
    assert loss.check("outside", {"order": 2, "free": {"any": "thing"}}) == {"order": 2, "free": {"any": "thing"}}
    with pytest.raises(PlanError, match="option 'order' of loss 'outside': input should be 1 or 2, not 3; edit loss"):
        loss.check("outside", {"order": 3})
