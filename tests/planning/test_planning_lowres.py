"""Rule 9: when a low resolution is planned, at which spacing, and the cascade that it feeds."""

import math
from pathlib import Path

import pytest

from autoseg.core.errors import PlanError
from autoseg.core.records import Plan, parse_record, render_record
from autoseg.planning import explain_plan, make_plan
from autoseg.planning.lowres import coarsen

REGIONS = {"whole": (1, 2), "core": (2,)}
LABELS = {"background": 0, "oedema": 1, "core": 2}


@pytest.fixture
def large(fingerprint):
    """A plan for scans of which a patch of 128 voxels shows 5 %."""
    return make_plan(fingerprint(20, (350, 350, 350), (0.5, 0.5, 0.5)), preset="standard", memory_gb=8)


def test_fine_axes_grow_alone_until_they_are_within_a_factor_of_two():
    assert coarsen((5.0, 1.0, 3.0)) == (5.0, 1.03, 3.0)
    assert coarsen((2.0, 1.0, 1.5)) == pytest.approx((2.06, 1.03, 1.545))


def test_a_patch_that_shows_little_calls_for_a_low_resolution(large):
    full, low = large.configurations["3d"], large.configurations["3d_lowres"]
    assert full.patch_size == low.patch_size == (128, 128, 128)
    # 128^3 / 0.25 = 203.2^3 voxels: 0.5 * 350 / 203.2 = 0.861, reached by the 19th step of 3 %.
    assert low.preprocessing.spacing == pytest.approx((0.5 * 1.03**19,) * 3)
    assert "5% of the median case's voxels, below 25%" in large.reasons["3d_lowres.preprocessing.spacing"]


def test_dice_is_pooled_where_a_patch_shows_little(large):
    pooled = {name: c.loss.options.get("batch_dice", False) for name, c in large.configurations.items()}
    assert pooled == {"2d": True, "3d": True, "3d_lowres": False, "3d_cascade": True}
    assert "only 5%" in large.reasons["3d.loss"]


def test_a_patch_that_shows_enough_needs_no_low_resolution(fingerprint):
    plan = make_plan(fingerprint(20, (140, 171, 136)), preset="standard", memory_gb=8)
    assert list(plan.configurations) == ["2d", "3d"]
    assert plan.configurations["3d"].patch_size == (128, 160, 112)  # 2293760 of 3255840 voxels
    assert "70% of the median case's voxels; a low resolution is planned only below 25%" in plan.reasons["3d_lowres"]
    assert plan.configurations["3d"].loss.options == {}


def test_a_low_resolution_that_saves_little_is_dropped(fingerprint):
    # 128^3 of 220^3 is 20 %; at 25 % a case has only 1.3 times fewer voxels.
    plan = make_plan(fingerprint(20, (220, 220, 220)), preset="standard", memory_gb=8)
    assert "3d_lowres" not in plan.configurations
    assert "1.3 times fewer voxels, and 2 times are required" in plan.reasons["3d_lowres"]
    assert "3d_lowres" in explain_plan(plan).split("Configuration")[0]


def test_the_cascade_is_the_full_resolution_fed_by_the_low_one(large):
    full, cascade = large.configurations["3d"], large.configurations["3d_cascade"]
    assert cascade.cascade_from == "3d_lowres"
    unfed = {"cascade_from": None, "augmentation": full.augmentation}
    assert cascade.model_copy(update=unfed) == full
    changed = cascade.augmentation.model_dump().items() - full.augmentation.model_dump().items()
    assert changed == {("mask_shape_probability", 0.4), ("mask_removal_probability", 0.2)}
    assert "sees the prediction of 3d_lowres" in explain_plan(large)


def test_the_cascade_s_network_sees_one_mask_per_foreground_output(fingerprint):
    for facts, masks in (({"labels": LABELS}, 2), ({"labels": LABELS, "regions": REGIONS}, 2), ({}, 1)):
        made = fingerprint(20, (350, 350, 350), (0.5, 0.5, 0.5), channels=("T1", "T2"), **facts)
        plan = make_plan(made, preset="residual_m", memory_gb=8)
        assert (plan.count_inputs("3d"), plan.count_inputs("3d_cascade")) == (2, 2 + masks)
        assert f"{masks} mask" in plan.reasons["3d_cascade.cascade_from"]


@pytest.mark.parametrize("source", ["3d_gone", "3d_cascade", "3d_again"])
def test_what_feeds_a_cascade_must_be_another_configuration(large, source):
    cascade = large.configurations["3d_cascade"]
    configurations = {
        **large.configurations,
        "3d_cascade": cascade.model_copy(update={"cascade_from": source}),
        "3d_again": cascade,
    }
    text = render_record(large.model_copy(update={"configurations": configurations}))
    with pytest.raises(PlanError, match=f"'3d_cascade' has cascade_from '{source}', which must be another.*: 2d, 3d, "):
        parse_record(Plan, text, path=Path("plan.json"), advice="correct it")


def test_a_laptop_s_low_resolution_shows_a_quarter_of_a_brain(fingerprint):
    plan = make_plan(fingerprint(20, (140, 171, 136)), preset="pocket", memory_gb=4)
    low = plan.configurations["3d_lowres"]
    shape = [n / s for n, s in zip((140, 171, 136), low.preprocessing.spacing, strict=True)]
    assert math.prod(low.patch_size) / math.prod(shape) >= 0.25
