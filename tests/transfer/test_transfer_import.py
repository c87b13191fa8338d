"""A model as nnU-Net saves it becomes one of ours with the same logits, and masks on the scan's own grid."""

import errno
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transfer_models import DESCRIBED, make_checkpoint, make_network, make_plans, write_model

from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Grid
from autoseg.core.store import subfolders
from autoseg.model import load_model

CPU = torch.device("cpu")
GRID = Grid(shape=(24, 20, 6), spacing=(0.9, 1.1, 5.0), origin=(-7.5, 3.25, 11.0))


def open_imported(tmp_path, name="3d"):
    return load_model(tmp_path / "root" / "autoseg_results" / "Lesions" / name, None, CPU)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_the_imported_network_computes_what_nnunets_own_does(tmp_path, bring, axes, residual):
    plans = make_plans(axes, residual)
    assert bring(write_model(tmp_path, plans, folds=(0, 3)))[0] == 0
    model = open_imported(tmp_path, {2: "2d", 3: "3d"}[axes])
    assert model.folds == ("0", "3")
    x = torch.randn((1, 2, *(4, 16, 12)[3 - axes :]), generator=torch.Generator().manual_seed(0))
    for seed, ours in enumerate(model.networks):
        with torch.no_grad():
            assert torch.allclose(ours(x)[0], make_network(plans, seed=seed)(x), atol=1e-6)


def test_every_value_that_a_prediction_needs_is_nnunets(tmp_path, bring):
    code, _ = bring(write_model(tmp_path))
    assert code == 0
    model = open_imported(tmp_path)
    settings = model.configuration.preprocessing
    assert (settings.orientation, settings.axis_order, settings.spacing) == ("stored", (2, 0, 1), (4.0, 1.0, 1.2))
    assert (settings.image_order, settings.label_order, settings.probability_order) == (3, 1, 1)
    assert settings.coarse_axis_ratio == 3
    first, second = settings.channels
    assert (first.scheme, first.inside_mask) == ("zscore", True)
    assert (second.scheme, second.mean, second.std, second.lower, second.upper) == ("ct", 40, 20, 2, 90)
    tiling = model.configuration.tiling
    assert (tiling.tile_size, tiling.step, tiling.mirror_axes) == ((4, 16, 12), 0.5, (0, 1, 2))
    network = model.configuration.network
    assert (network.features, network.kernels, network.strides) == (
        (4, 8),
        ((1, 3, 3), (3, 3, 3)),
        ((1, 1, 1), (1, 2, 2)),
    )
    assert (network.encoder_blocks, network.decoder_blocks) == ((2, 2), (1,))
    assert model.plan.channels == ("FLAIR", "CT")
    assert model.plan.labels == DESCRIBED["labels"]
    assert model.plan.dataset == "Lesions"
    assert model.configuration.loss.name == "dice_ce"


def test_an_imported_model_predicts_scans_on_their_own_grid(tmp_path, bring, run):
    assert bring(write_model(tmp_path))[0] == 0
    rng = np.random.default_rng(0)
    for channel in range(2):
        voxels = rng.normal(50, 30, GRID.shape).astype(np.float32)
        voxels[:3] = 0
        write_voxels(tmp_path / "scans" / f"a_{channel:04d}.nii.gz", voxels, GRID)
    code, out, err = run("predict", "-i", tmp_path / "scans", "-o", tmp_path / "masks", "--root", tmp_path / "root")
    assert (code, out[:8]) == (0, "1 masks "), err
    mask, grid = read_voxels(tmp_path / "masks" / "a.nii.gz")
    assert grid.matches(GRID)
    assert not mask[:3].any()  # outside the crop
    assert len(np.unique(mask[3:])) > 1


def test_decoder_blocks_are_counted_from_the_other_end(tmp_path, bring):
    plans = make_plans()
    (configuration,) = plans["configurations"].values()
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 2, 2],
        "n_conv_per_stage_decoder": [3, 1],
    }
    assert bring(write_model(tmp_path, plans))[0] == 0
    assert open_imported(tmp_path).configuration.network.decoder_blocks == (1, 3)


def test_plans_from_before_2_3_are_read(tmp_path, bring):
    plans = make_plans()
    network = make_network(plans)
    (configuration,) = plans["configurations"].values()
    stages = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": stages["n_conv_per_stage"],
        "n_conv_per_stage_decoder": stages["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [0, 1, 1],
        "pool_op_kernel_sizes": stages["strides"],
        "conv_kernel_sizes": stages["kernel_sizes"],
    }
    plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
    home = write_model(tmp_path, plans, folds=())
    (home / "fold_0").mkdir()
    torch.save(make_checkpoint(plans, network), home / "fold_0" / "checkpoint_final.pth")
    assert bring(home)[0] == 0
    assert open_imported(tmp_path).configuration.network.features == (4, 8)


def test_regions_with_a_value_to_ignore(tmp_path, bring):
    described = {
        **DESCRIBED,
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    }
    assert bring(write_model(tmp_path, described=described))[0] == 0
    plan = open_imported(tmp_path).plan
    assert (plan.outputs.overlap, plan.outputs.values, plan.ignore_label) == (True, (1, 2, 3), 4)
    assert plan.configurations["3d"].loss.name == "dice_bce"


def test_without_mirroring_and_without_a_coarse_axis(tmp_path, bring):
    plans = make_plans()
    (configuration,) = plans["configurations"].values()
    for part in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{part}_kwargs"]["force_separate_z"] = False
    changes = {"inference_allowed_mirroring_axes": None, "trainer_name": "nnUNetTrainerNoMirroring"}
    assert bring(write_model(tmp_path, plans, **changes))[0] == 0
    configuration = open_imported(tmp_path).configuration
    assert configuration.tiling.mirror_axes == ()
    assert configuration.preprocessing.coarse_axis_ratio > 1e6


def test_several_configurations_are_imported_or_chosen(tmp_path, bring, pack):
    for axes in (2, 3):
        write_model(tmp_path / "results", make_plans(axes))
    archive = pack(tmp_path / "results")
    assert bring(archive, "-c", "3d_fullres")[0] == 0
    assert subfolders(tmp_path / "root" / "autoseg_results" / "Lesions") == ("3d",)
    assert bring(archive, "--replace")[0] == 0
    assert subfolders(tmp_path / "root" / "autoseg_results" / "Lesions") == ("2d", "3d")
    code, err = bring(archive, "-c", "3d_lowres")
    assert code == 2
    assert "has no configuration '3d_lowres'; choose from: 2d, 3d_fullres" in err


def test_a_configuration_that_inherits(tmp_path, bring):
    plans = make_plans()
    plans["configurations"] = {
        "3d_low": {"inherits_from": "3d_fullres", "spacing": [5, 2, 2]},
        **plans["configurations"],
    }
    full = plans["configurations"].pop("3d_fullres")
    home = write_model(tmp_path, {**plans, "configurations": {"3d_low": full}})
    (home / "plans.json").write_text(
        json.dumps({**plans, "configurations": {**plans["configurations"], "3d_fullres": full}})
    )
    assert bring(home)[0] == 0
    assert open_imported(tmp_path, "3d_low").configuration.preprocessing.spacing == (5, 2, 2)


def test_the_best_checkpoint_is_taken_only_where_there_is_no_final_one_and_said(tmp_path, bring):
    home = write_model(tmp_path, folds=(0, 1))
    best = make_network(make_plans(), seed=5)
    for fold in (0, 1):
        torch.save(make_checkpoint(make_plans(), best), home / f"fold_{fold}" / "checkpoint_best.pth")
    (home / "fold_1" / "checkpoint_final.pth").unlink()
    code, err = bring(home)
    assert code == 0
    assert "fold 1 has no checkpoint_final.pth; using checkpoint_best.pth" in err
    assert "fold 0" not in err
    first, second = open_imported(tmp_path).networks
    assert torch.equal(second.state_dict()["decoder.seg_layers.0.bias"], best.decoder.seg_layers[0].bias)
    assert not torch.equal(first.state_dict()["decoder.seg_layers.0.bias"], best.decoder.seg_layers[0].bias)


def test_a_model_that_is_there_stays_unless_told(tmp_path, bring):
    home = write_model(tmp_path)
    assert bring(home)[0] == 0
    weights = tmp_path / "root" / "autoseg_results" / "Lesions" / "3d" / "fold_0" / "model.safetensors"
    before = weights.read_bytes()
    write_model(tmp_path, folds=(7, 0))
    code, err = bring(home)
    assert (code, weights.read_bytes()) == (2, before)
    assert "exists already, complete; import under another name with -d, or replace it with --replace" in err
    assert bring(home, "--replace")[0] == 0
    assert weights.read_bytes() != before
    assert [path.name for path in weights.parents[2].iterdir()] == ["3d"]


def test_of_an_import_that_was_killed_the_rest_can_be_imported(tmp_path, bring):
    write_model(tmp_path, make_plans(2))
    home = write_model(tmp_path, make_plans(3))
    assert bring(home.parent, "-c", "2d")[0] == 0
    code, err = bring(home.parent)
    assert code == 2
    assert "Lesions/2d exists already, complete; import what is missing with -c 3d; import under" in err
    assert bring(home.parent, "-c", "3d")[0] == 0


def test_a_cascade_brings_the_model_that_feeds_it(tmp_path, bring, run):
    plans = make_plans()
    full = plans["configurations"]["3d_fullres"]
    low = {**full, "spacing": [5.0, 2.0, 2.4], "next_stage": "3d_cascade_fullres"}
    fed = {**full, "previous_stage": "3d_lowres"}
    write_model(tmp_path, {**plans, "configurations": {"3d_lowres": low}}, folds=(0, 1))
    home = write_model(tmp_path, {**plans, "configurations": {"3d_cascade_fullres": fed}}, inputs=4)
    assert bring(home.parent, "-c", "3d_cascade")[0] == 0
    model = open_imported(tmp_path, "3d_cascade")
    assert model.source is not None
    assert (model.source.folds, model.mask_values) == (("0", "1"), ((1,), (2,)))
    assert model.source.configuration.preprocessing.spacing == (5.0, 2.0, 2.4)
    x = torch.randn((1, 4, 4, 16, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = make_network({"configurations": {"3d_cascade_fullres": fed}}, inputs=4)(x)
        assert torch.allclose(model.networks[0](x)[0], theirs, atol=1e-6)
    for channel in range(2):
        voxels = np.random.default_rng(channel).normal(50, 30, GRID.shape).astype(np.float32)
        write_voxels(tmp_path / "scans" / f"a_{channel:04d}.nii.gz", voxels, GRID)
    assert run("predict", "-i", tmp_path / "scans", "-o", tmp_path / "m", "--root", tmp_path / "root")[0] == 0


def test_a_checkpoint_that_an_older_numpy_wrote(tmp_path, bring):
    path = write_model(tmp_path) / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    assert sum(b"numpy._core.multiarray" in content for _, content in entries) == 1
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert bring(path.parents[1])[0] == 0


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_replacement_that_is_killed_never_loses_the_previous_model(tmp_path, bring, monkeypatch, killed_at):
    source = write_model(tmp_path)
    assert bring(source)[0] == 0
    weights = tmp_path / "root" / "autoseg_results" / "Lesions" / "3d" / "fold_0" / "model.safetensors"
    previous = weights.read_bytes()
    renames, rename = [], Path.rename

    def killed(self, target):
        if Path(target).name in ("3d", ".3d.replaced"):
            renames.append(target)
            if len(renames) == killed_at:
                raise SystemExit(137)  # no handler of ours runs, as after a kill
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        assert bring(source, "--replace")[0] == 137
    assert weights.exists() == (killed_at == 1)
    code, message = bring(source)
    assert (code, "exists already, complete" in message) == (2, True)
    assert weights.read_bytes() == previous
    assert bring(source, "--replace")[0] == 0
    assert not list(weights.parent.parent.parent.glob(".*"))


def test_a_replacement_that_the_disk_refuses_leaves_the_previous_model(tmp_path, bring, monkeypatch):
    source = write_model(tmp_path)
    assert bring(source)[0] == 0
    model = tmp_path / "root" / "autoseg_results" / "Lesions" / "3d"
    rename = Path.rename

    def refused(self, target):
        if Path(target) == model and self.name == "3d":
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    assert bring(source, "--replace")[0] == 2
    assert (model / "fold_0" / "model.safetensors").exists()
