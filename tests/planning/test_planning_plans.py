"""Whole plans: known outcomes, validity over odd datasets, reasons, and their file."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import Plan, parse_record, render_record
from autoseg.planning import explain_plan, make_plan
from autoseg.planning.presets import PRESETS

BRATS = ("T1", "T1c", "T2", "FLAIR")
THICK = (5.5, 0.9, 0.9)
ODD = {
    "brain": {"count": 40, "shape": (140, 171, 136), "channels": BRATS, "crop_share": 0.4},
    "thick slices": {"count": 60, "shape": (24, 256, 256), "spacing": THICK},
    "sagittal": {"count": 20, "shape": (256, 256, 30), "spacing": (1.0, 1.0, 5.0)},
    "few slices": {"count": 20, "shape": (6, 320, 320), "spacing": (8.0, 0.5, 0.5)},
    "crops": {"count": 260, "shape": (36, 50, 35)},
    "tiny": {"count": 3, "shape": (5, 6, 7)},
    "a few voxels": {"count": 2, "shape": (2, 2, 2)},
    "huge": {"count": 5, "shape": (512, 512, 512), "spacing": (0.3, 0.3, 0.3)},
    "one slice": {"count": 20, "shape": (1, 256, 240), "spacing": (5.0, 1.0, 1.0)},
    "a needle": {"count": 10, "shape": (200, 10, 12)},
    "one case": {"count": 1, "shape": (90, 100, 80)},
    "many channels": {"count": 20, "shape": (100, 120, 100), "channels": tuple("abcdefghijkl")},
    "regions": {"count": 9, "shape": (90, 180, 150), "spacing": (1.5, 1.0, 1.0), "regions": {"whole": (1,)}},
}
GROUPS = (
    *(f"preprocessing.{field}" for field in ("spacing", "axis_order", "region", "channels", "resampling", "storage")),
    *("patch_size", "batch_size", "network", "loss", "optimiser", "training", "sampling", "augmentation", "tiling"),
)


@pytest.fixture(params=ODD)
def odd(request, fingerprint):
    return fingerprint(**ODD[request.param])


@pytest.mark.parametrize(
    ("preset", "memory_gb"), [("pocket", 4), ("standard", 8), ("standard", 1), ("large", 24), ("residual_m", 8)]
)
def test_every_odd_dataset_gets_a_plan_that_its_file_keeps(odd, preset, memory_gb):
    plan = make_plan(odd, preset=preset, memory_gb=memory_gb)
    assert parse_record(Plan, render_record(plan), path=Path("plan.json"), advice="") == plan
    for configuration in plan.configurations.values():
        # The coarsest stage keeps several voxels, or its instance norm has nothing to measure.
        strides = math.prod(n for stage in configuration.network.strides for n in stage)
        assert math.prod(configuration.patch_size) // strides > 1
        assert 2 <= configuration.batch_size <= 64


def test_every_group_of_fields_has_a_reason_with_numbers(odd):
    plan = make_plan(odd, preset="standard", memory_gb=8)
    for name in plan.configurations:
        for group in GROUPS:
            reason = plan.reasons[f"{name}.{group}"]
            assert re.search(r"\d", reason), f"{name}.{group}: {reason}"
            assert reason.endswith(".")
    assert set(plan.reasons) - {f"{n}.{g}" for n in plan.configurations for g in GROUPS} <= {
        "memory_gb",
        "recommended",
        "2d",
        "3d",
        "3d_lowres",
        "3d_cascade.cascade_from",
    }


def test_the_same_fingerprint_gives_the_same_plan(fingerprint):
    plans = [make_plan(fingerprint(**ODD["brain"]), preset="standard", memory_gb=8) for _ in range(2)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("count", "shape", "spacing", "memory_gb", "patch", "batch"),
    [
        (484, (138, 169, 138), (1.0, 1.0, 1.0), 8, (128, 128, 128), 2),
        (484, (138, 169, 138), (1.0, 1.0, 1.0), 4, (96, 128, 96), 2),
        (260, (36, 50, 35), (1.0, 1.0, 1.0), 8, (40, 56, 40), 9),
        (20, (115, 320, 232), (1.37, 1.25, 1.25), 8, (80, 192, 160), 2),
        (50, (20, 220, 180), THICK, 8, (20, 224, 192), 2),
    ],
    ids=["brats", "brats at 4 GB", "hippocampus", "heart", "flair"],
)
def test_standard_volumes_are_those_of_nnunet(fingerprint, count, shape, spacing, memory_gb, patch, batch):
    made = fingerprint(count, shape, spacing)
    found = make_plan(made, preset="standard", memory_gb=memory_gb).configurations["3d"]
    assert (found.patch_size, found.batch_size) == (patch, batch)


def test_standard_trains_as_nnunet(fingerprint):
    found = make_plan(fingerprint(**ODD["brain"]), preset="standard", memory_gb=8).configurations["3d"]
    assert (found.optimiser.name, found.optimiser.learning_rate, found.optimiser.momentum) == ("sgd", 0.01, 0.99)
    assert (found.training.epochs, found.training.steps_per_epoch) == (1000, 250)
    assert found.tiling.mirror_axes == (0, 1, 2)


def test_pocket_covers_a_hippocampus_crop(fingerprint):
    plan = make_plan(fingerprint(**ODD["crops"]), preset="pocket", memory_gb=8)
    found = plan.configurations["3d"]
    # Halved three times, it would be 40 x 56 x 40: 1.42 times the case, over the laptop's 1.25.
    assert found.patch_size == (36, 52, 36)
    assert found.network.features == (16, 32, 64)
    assert found.batch_size % 2 == 0
    assert found.tiling.mirror_axes == (0, 1, 2)
    assert "cover the whole median case" in plan.reasons["3d.patch_size"]


def test_slices_keep_the_scan_s_spacing_along_the_first_axis(fingerprint):
    found = make_plan(fingerprint(**ODD["sagittal"]), preset="standard", memory_gb=8).configurations["2d"]
    assert found.preprocessing.spacing == (None, 1.0, 1.0)
    assert found.preprocessing.axis_order == (2, 0, 1)


def test_volumes_need_more_than_one_slice(fingerprint):
    plan = make_plan(fingerprint(**ODD["one slice"]), preset="standard", memory_gb=8)
    assert list(plan.configurations) == ["2d"]
    assert "single slice" in plan.reasons["3d"]


def test_slices_of_a_few_voxels_are_left_out(fingerprint):
    plan = make_plan(fingerprint(**ODD["a needle"]), preset="standard", memory_gb=8)
    assert list(plan.configurations) == ["3d"]
    assert "10 x 12 voxels" in plan.reasons["2d"]


@pytest.mark.parametrize(("name", "recommended"), [("brain", "3d"), ("thick slices", "2d"), ("one slice", "2d")])
def test_volumes_are_recommended_unless_slices_lie_far_apart(fingerprint, name, recommended):
    plan = make_plan(fingerprint(**ODD[name]), preset="standard", memory_gb=8)
    assert plan.recommended == recommended
    assert re.search(r"\d", plan.reasons["recommended"])


def test_the_page_shows_every_value_and_reason_within_the_width(fingerprint):
    plan = make_plan(fingerprint(**ODD["thick slices"]), preset="pocket", memory_gb=8)
    page = explain_plan(plan)
    words = " ".join(page.split())
    assert all(" ".join(reason.split()) in words for key, reason in plan.reasons.items() if key != "memory_gb")
    assert max(map(len, page.splitlines())) <= 100
    assert "Configuration 3d" in page
    assert "FLAIR" in page


def test_a_configuration_added_by_hand_is_explained_too(fingerprint):
    plan = make_plan(fingerprint(**ODD["crops"]), preset="pocket", memory_gb=8)
    configurations = {**plan.configurations, "3d_mine": plan.configurations["3d"]}
    page = explain_plan(plan.model_copy(update={"configurations": configurations}))
    assert "(set by hand)" in page.split("Configuration 3d_mine")[1]


@pytest.mark.parametrize("preset", ["residual_m", "residual_l", "residual_xl"])
def test_residual_presets_train_a_residual_encoder(fingerprint, preset):
    found = make_plan(fingerprint(**ODD["brain"]), preset=preset, memory_gb=PRESETS[preset].reference_gb)
    assert (found.preset, found.configurations["3d"].network.name) == (preset, "residual_unet")
    assert found.configurations["2d"].batch_size == 64


# Compatible with nnU-Net


def test_compatible_plans_say_so_and_stay_on_stored_axes(fingerprint):
    plan = make_plan(fingerprint(**ODD["brain"]), preset="residual_l", memory_gb=24, compat="nnunet")
    assert plan.compat == "nnunet"
    assert all(c.preprocessing.orientation == "stored" for c in plan.configurations.values())
    assert "nnUNetPlannerResEncL at 24 GB" in plan.reasons["compat"]
    assert "Compatibility" in explain_plan(plan)
    assert parse_record(Plan, render_record(plan), path=Path("plan.json"), advice="") == plan


def test_compatible_plans_take_back_our_departures(fingerprint):
    made = fingerprint(**ODD["brain"] | {"lesions": (5.0, 0.05, 0.02)})
    ours, theirs = (make_plan(made, preset="residual_l", memory_gb=24, compat=compat) for compat in (None, "nnunet"))
    assert (ours.configurations["2d"].batch_size, theirs.configurations["2d"].batch_size) == (64, 303)
    assert ours.configurations["3d"].patch_size == (160, 192, 144)
    assert theirs.configurations["3d"].patch_size == (160, 192, 160)
    assert theirs.configurations["3d"].sampling.lesion_share == 0
    needle = fingerprint(**ODD["a needle"])
    assert "2d" in make_plan(needle, preset="standard", memory_gb=8, compat="nnunet").configurations


@pytest.mark.parametrize("preset", ["pocket", "large"])
def test_our_own_presets_have_no_compatible_plan(fingerprint, preset):
    with pytest.raises(
        UsageError, match=f"preset '{preset}' is not one of nnU-Net's; choose from: standard, residual_m"
    ):
        make_plan(fingerprint(2, (20, 30, 40)), preset=preset, memory_gb=8, compat="nnunet")


def test_plans_are_compatible_with_nnunet_alone(fingerprint):
    with pytest.raises(UsageError, match="unknown compatibility 'monai'; choose from: nnunet, none"):
        make_plan(fingerprint(2, (20, 30, 40)), preset="standard", memory_gb=8, compat="monai")


def test_an_unknown_preset_names_the_known_ones(fingerprint):
    with pytest.raises(
        UsageError, match="unknown preset 'huge'; choose from: pocket, standard, large, residual_m, residual_l"
    ):
        make_plan(fingerprint(2, (20, 30, 40)), preset="huge", memory_gb=8)


@pytest.mark.parametrize("memory_gb", [0, -1, float("nan")])
def test_a_budget_must_be_positive(fingerprint, memory_gb):
    with pytest.raises(UsageError, match="--memory must be positive"):
        make_plan(fingerprint(2, (20, 30, 40)), preset="standard", memory_gb=memory_gb)


def test_a_dataset_without_a_labelled_voxel_cannot_be_planned(fingerprint):
    with pytest.raises(DataError, match="none of the 2 cases of dataset Made has a labelled voxel"):
        make_plan(fingerprint(2, (20, 30, 40), lesions=()), preset="standard", memory_gb=8)


def test_planning_does_not_import_torch():
    code = "import sys, autoseg.planning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
