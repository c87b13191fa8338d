"""``autoseg_pretrain``: learning without labels, resumed, and begun with."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from autoseg.core.records import AugmentationSettings
from autoseg.core.store import Store
from autoseg.folds import pretraining
from autoseg.preparation import read_plan

SHORT = ("-d", "Tiny", "--epochs", "2", "--steps-per-epoch", "2")


def learned(root):
    return root / "autoseg_pretrained" / "Tiny" / "3d"


def weights(root):
    return load_file(learned(root) / "fold_all" / "model.safetensors")


def test_a_network_learns_and_another_training_begins_with_all_but_its_head(planned, run):
    raw = planned / "autoseg_raw" / "Tiny"
    scans = planned / "scans"
    scans.mkdir()
    for channel in range(2):
        shutil.copy(raw / "imagesTr" / f"case0_{channel:04d}.nii.gz", scans / f"new_{channel:04d}.nii.gz")
    code, out, err = run("pretrain", *SHORT, "--scans", scans, "--root", planned)
    assert code == 0, err
    assert "on 6 scans with and 1 without a label" in err
    facts = json.loads((learned(planned) / "pretraining.json").read_text())
    assert (facts["labelled"], facts["unlabelled"], facts["masked_share"]) == (6, 1, 0.75)
    assert f"autoseg_plan -d Tiny --pretrained {learned(planned)}" in out
    code, _, err = run("plan", "-d", "Tiny", "--root", planned, "--pretrained", learned(planned))
    assert code == 0, err
    report = json.loads((planned / "autoseg_preprocessed" / "Tiny" / "transfer" / "3d_transfer.json").read_text())
    assert report["head"] == "random: the source predicts no labels"
    assert all("seg_layers" in name for name in report["random_tensors"])
    assert report["loaded"] > 0.9
    plan = json.loads((planned / "autoseg_preprocessed" / "Tiny" / "plan.json").read_text())["configurations"]
    assert plan["3d_transfer"]["network"] == plan["3d"]["network"]


def test_scans_are_moved_and_mirrored_and_reconstructed_as_they_are(planned):
    plan = read_plan(Store(planned), "Tiny")
    everything = {name: 1.0 for name in AugmentationSettings.model_fields if name.endswith("_probability")}
    augmentation = plan.configurations["3d"].augmentation.model_copy(update={**everything, "substitutions": ((1, 1),)})
    configuration = plan.configurations["3d"].model_copy(update={"augmentation": augmentation})
    planned_so = plan.model_copy(update={"configurations": {"3d": configuration}})
    kept = pretraining._plan_reconstruction(planned_so, "3d").configurations["3d"].augmentation
    applied = {name.removesuffix("_probability") for name in everything if getattr(kept, name)}
    assert applied == {"rotation", "scale", "elastic", "mask_shape", "mask_removal"}  # no cascade is pre-trained


def test_labels_change_nothing_and_a_stop_changes_nothing(planned, run, monkeypatch):
    assert run("pretrain", *SHORT, "--root", planned)[0] == 0
    whole = weights(planned)
    shutil.rmtree(planned / "autoseg_pretrained")
    folder = next((planned / "autoseg_preprocessed" / "Tiny").glob("arrays_*"))
    for path in folder.parent.glob("arrays_*/*.label.npy"):
        np.save(path, np.zeros_like(np.load(path)))
    from autoseg.cli import commands

    class Soon:
        signal, asked = 15, 0

        def __call__(self):
            self.asked += 1
            return self.asked > 2

        def exit_if_stopped(self):
            raise SystemExit(128 + self.signal)

    with monkeypatch.context() as patch:
        patch.setattr(commands, "StopSignal", Soon)
        assert run("pretrain", *SHORT, "--root", planned)[0] == 143
    assert not (learned(planned) / "fold_all" / "model.safetensors").exists()
    assert run("pretrain", *SHORT, "--root", planned)[0] == 0
    again = weights(planned)
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("options", "clause"),
    [
        (("-c", "5d"), "unknown configuration '5d' of Tiny"),
        (("-f", "9"), "unknown fold '9' of Tiny; use 0 to"),
        (("--masked-share", "1"), "argument --masked-share: invalid fraction '1'; use a number above 0 and below 1"),
        (("--scans", "nowhere"), "nowhere does not exist; give a folder of scans"),
    ],
)
def test_what_does_not_exist(planned, run, options, clause):
    code, _, err = run("pretrain", *SHORT, "--root", planned, *options)
    assert code == 2
    assert clause in err


def test_another_share_cannot_go_on(planned, run):
    once = ("pretrain", "-d", "Tiny", "--epochs", "1", "--steps-per-epoch", "1", "--root", planned)
    assert run(*once)[0] == 0
    code, _, err = run(*once, "--masked-share", "0.5")
    assert code == 2
    assert "another plan or share of masked blocks, 0.75 (fold_all)" in err
