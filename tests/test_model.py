"""Copies of model folders: whole or not at all, and never of two trainings at once."""

import errno
import shutil

import pytest
import torch

from autoseg.core.errors import ModelError, PlanError, StorageError
from autoseg.core.records import (
    AugmentationSettings,
    ChannelNormalization,
    Configuration,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    Plan,
    PreprocessingSettings,
    SamplingSettings,
    TilingSettings,
    TrainingSettings,
)
from autoseg.model import (
    changed_folds,
    copy_model,
    fold_folder,
    load_model,
    load_plan,
    planned_network,
    read_weights,
    save_plan,
    save_weights,
    trained_folds,
)

CPU = torch.device("cpu")
EDGE = (3, 3, 3)
REGIONS = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


def configured(**changes):
    fields = {
        "dimensions": 3,
        "preprocessing": PreprocessingSettings(spacing=(1, 1, 1), channels=(ChannelNormalization(),) * 2),
        "patch_size": (8, 8, 8),
        "batch_size": 1,
        "network": NetworkSettings(
            name="unet",
            features=(2, 2),
            kernels=(EDGE, EDGE),
            strides=((1, 1, 1), (2, 2, 2)),
            encoder_blocks=(1, 1),
            decoder_blocks=(1,),
            deep_supervision=False,
        ),
        "loss": LossSettings(),
        "optimiser": OptimiserSettings(),
        "training": TrainingSettings(),
        "sampling": SamplingSettings(foreground_share=0.3, lesion_share=0),
        "augmentation": AugmentationSettings(
            rotation_probability=0, rotation_degrees=(-1, 1), scale_probability=0, mirror_axes=()
        ),
        "tiling": TilingSettings(tile_size=(8, 8, 8)),
    }
    return Configuration(**fields | changes)


def planned(**changes):
    fields = {
        "dataset": "Tiny",
        "channels": ("FLAIR", "T1"),
        "labels": {"background": 0, "oedema": 1, "core": 2},
        "preset": "pocket",
        "memory_gb": 4,
        "recommended": "3d",
        "reasons": {},
        "configurations": {
            "3d": configured(),
            "3d_lowres": configured(),
            "3d_cascade": configured(cascade_from="3d_lowres"),
        },
    }
    return Plan(**fields | changes)


def save_fold(folder, fold, plan, *, seed=0):
    save_plan(folder, plan)
    save_weights(folder, fold, planned_network(plan, folder.name, seed=seed).state_dict())


@pytest.fixture
def source(tmp_path):
    for fold in ("0", "1"):
        save_fold(tmp_path / "3d_lowres", fold, planned(), seed=int(fold))
    fold_folder(tmp_path / "3d_lowres", "2").mkdir()  # begun, not trained
    return tmp_path / "3d_lowres"


@pytest.mark.parametrize(("regions", "inputs"), [({}, 2 + 2), (REGIONS, 2 + 3)], ids=["classes", "regions"])
def test_a_cascade_s_network_takes_the_scan_and_a_mask_per_foreground_output(regions, inputs):
    plan = planned(labels={"background": 0, "a": 1, "b": 2, "c": 3}, regions=REGIONS) if regions else planned()
    images = torch.zeros((1, inputs, 8, 8, 8))
    for name, channels in (("3d_cascade", inputs), ("3d", 2), ("3d_lowres", 2)):
        assert planned_network(plan, name, seed=0)(images[:, :channels])[0].shape[1] == 3


def test_a_copy_holds_the_trained_folds_and_nothing_else(source, tmp_path):
    target = tmp_path / "3d_cascade" / "3d_lowres"
    copy_model(source, target)
    assert trained_folds(target) == ("0", "1")
    assert load_plan(target) == load_plan(source)
    assert sorted(p.name for p in target.rglob("*") if p.is_file()) == ["model.safetensors"] * 2 + ["plan.json"]
    assert [path.name for path in target.parent.iterdir()] == ["3d_lowres"]
    assert changed_folds(source, target) == ()


def test_a_copy_gains_the_folds_trained_since_and_keeps_its_own(source, tmp_path):
    target = tmp_path / "3d_cascade" / "3d_lowres"
    copy_model(source, target)
    before = (target / "fold_0" / "model.safetensors").read_bytes()
    save_fold(source, "0", planned(), seed=9)
    save_fold(source, "all", planned(), seed=3)
    assert changed_folds(source, target) == ("0",)
    copy_model(source, target)
    assert trained_folds(target) == ("0", "1", "all")
    assert (target / "fold_0" / "model.safetensors").read_bytes() == before


def test_a_copy_that_was_cut_short_is_made_anew(source, tmp_path, monkeypatch):
    target = tmp_path / "3d_cascade" / "3d_lowres"
    copied = []

    def copy(one, other):
        if copied:
            raise KeyboardInterrupt
        copied.append(other)
        other.write_bytes(one.read_bytes())

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", copy)
        copy_model(source, target)
    assert copied
    assert not target.exists()
    copy_model(source, target)
    assert trained_folds(target) == ("0", "1")
    assert [path.name for path in target.parent.iterdir()] == ["3d_lowres"]


def test_of_two_copies_at_once_one_stays(source, tmp_path, monkeypatch):
    target = tmp_path / "3d_cascade" / "3d_lowres"
    real = shutil.copyfile

    def copy(one, other):
        if not target.exists():
            monkeypatch.setattr(shutil, "copyfile", real)
            copy_model(source, target)  # the other training's
        real(one, other)

    monkeypatch.setattr(shutil, "copyfile", copy)
    copy_model(source, target)
    assert trained_folds(target) == ("0", "1")
    assert [path.name for path in target.parent.iterdir()] == ["3d_lowres"]


def test_a_disk_that_refuses_a_copy_is_said(source, tmp_path, monkeypatch):
    def refuse(one, other):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(StorageError, match="the disk is full; free some space"):
        copy_model(source, tmp_path / "3d_cascade" / "3d_lowres")
    assert list((tmp_path / "3d_cascade").iterdir()) == []


def test_a_cascade_opens_with_its_source(source, tmp_path):
    folder = tmp_path / "3d_cascade"
    save_fold(folder, "0", planned())
    with pytest.raises(ModelError, match="is a cascade, but lacks its first stage '3d_lowres'"):
        load_model(folder, None, CPU)
    copy_model(source, folder / "3d_lowres")
    model = load_model(folder, None, CPU)
    assert model.folds == ("0",)
    assert model.mask_values == ((1,), (2,))
    assert model.source.folds == ("0", "1")
    assert model.source.mask_values == ()
    assert model.source.source is None
    assert trained_folds(folder) == ("0",)


def test_a_source_with_other_labels_is_refused(tmp_path):
    folder = tmp_path / "3d_cascade"
    save_fold(folder, "0", planned())
    save_fold(folder / "3d_lowres", "0", planned(labels={"background": 0, "core": 1, "oedema": 2}))
    with pytest.raises(ModelError, match="has other channels, labels or regions than"):
        load_model(folder, None, CPU)
    (folder / "3d_lowres" / "plan.json").unlink()
    with pytest.raises(PlanError, match="does not exist; copy the whole model folder again"):
        load_model(folder, None, CPU)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    weights = {"a": torch.ones(3), "b": torch.tensor([1.0, float("nan")])}
    save_weights(tmp_path, "0", weights)
    with pytest.raises(ModelError, match=r"holds weights that are NaN or infinite \(b\)"):
        read_weights(fold_folder(tmp_path, "0") / "model.safetensors")
