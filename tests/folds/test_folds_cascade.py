"""A low resolution, and the cascade that it feeds, through the command line on the tiny dataset."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from autoseg.cli import plan, train
from autoseg.core.arrays import read_prepared
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Label
from autoseg.model import load_model
from autoseg.prediction import case_rows, predict_mask
from autoseg.preprocessing import prepare_label

SHORT = ("--epochs", 1, "--steps-per-epoch", 1, "-q")
CASCADE = ("-d", "Tiny", "-c", "3d_cascade")


def call(command, *argv):
    with pytest.raises(SystemExit) as stop:
        command([str(argument) for argument in argv])
    assert stop.value.code == 0


@pytest.fixture(scope="session")
def lowres_template(planned_template, tmp_path_factory):
    """``Tiny`` with a low resolution and a cascade planned by hand, and every fold of the low resolution trained."""
    root = tmp_path_factory.mktemp("cascade") / "root"
    shutil.copytree(planned_template, root)
    path = root / "autoseg_preprocessed" / "Tiny" / "plan.json"
    planned = json.loads(path.read_text())
    low, fed = (json.loads(json.dumps(planned["configurations"]["3d"])) for _ in range(2))
    low["preprocessing"]["spacing"] = [2, 2, 2]
    fed["cascade_from"] = "3d_lowres"
    fed["augmentation"] |= {
        "mask_shape_probability": 0.4,
        "mask_shape_radius": [1, 2],
        "mask_removal_probability": 0.2,
    }
    planned["configurations"] |= {"3d_lowres": low, "3d_cascade": fed}
    for configuration in planned["configurations"].values():  # seconds matter here
        configuration["tiling"]["mirror_axes"] = []
        configuration["network"]["features"] = [4 for _ in configuration["network"]["features"]]
    path.write_text(json.dumps(planned))
    folds = path.with_name("folds.json")
    halves = [[f"case{number}" for number in half] for half in ((0, 2, 4), (1, 3, 5))]
    made = [{"train": halves[1 - k], "validation": halves[k]} for k in (0, 1)]
    folds.write_text(json.dumps(json.loads(folds.read_text()) | {"folds": made}))
    call(plan, "-d", "Tiny", "--root", root, "--keep", "--workers", 1, "-q")
    for fold in range(2):
        call(train, "-d", "Tiny", "-c", "3d_lowres", "-f", fold, *SHORT, "--root", root)
    for number in range(6):  # a step teaches nothing: give the masks something to tell
        mask = fold_of(root, number) / "validation" / f"case{number}.nii.gz"
        label, grid = read_voxels(root / "autoseg_raw" / "Tiny" / "labelsTr" / f"case{number}.nii.gz")
        write_voxels(mask, np.roll(label, 1, axis=1), grid)
    return root


@pytest.fixture(scope="session")
def cascade_template(lowres_template, tmp_path_factory):
    """The same with fold 0 of the cascade."""
    root = tmp_path_factory.mktemp("fed") / "root"
    shutil.copytree(lowres_template, root)
    call(train, *CASCADE, "-f", 0, "--epochs", 4, "--steps-per-epoch", 2, "-q", "--root", root)
    return root


@pytest.fixture
def lowres_root(lowres_template, tmp_path):
    shutil.copytree(lowres_template, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def cascade_root(cascade_template, tmp_path):
    shutil.copytree(cascade_template, tmp_path / "root")
    return tmp_path / "root"


def lowres(root):
    return root / "autoseg_results" / "Tiny" / "3d_lowres"


def cascade(root):
    return root / "autoseg_results" / "Tiny" / "3d_cascade"


def fold_of(root, number):
    """The folder of the low resolution's fold that holds the case out."""
    return lowres(root) / f"fold_{number % 2}"


def test_a_fold_of_a_cascade_is_trained_validated_and_scored(cascade_root):
    here = cascade(cascade_root) / "fold_0"
    facts = json.loads((here / "fold.json").read_text())
    assert facts["finished"]
    assert len(facts["train"]) + len(facts["validation"]) == 6
    assert {p.name.removesuffix(".nii.gz") for p in (here / "validation").iterdir()} == set(facts["validation"])
    assert {row["case"] for row in json.loads((here / "scores.json").read_text())["cases"]} == set(facts["validation"])
    kernels = [weight for weight in load_file(here / "model.safetensors").values() if weight.ndim == 5]
    assert min(kernel.shape[1] for kernel in kernels) == 3  # FLAIR, T1 and the mask of the lesion


def test_priors_are_the_masks_on_the_cascade_s_grid(cascade_root):
    """The mask of every case, by the fold that held it out, brought over as a label is."""
    (folder,) = (cascade_root / "autoseg_preprocessed" / "Tiny").glob("arrays_*/priors_3d_lowres")
    model = load_model(cascade(cascade_root), None, torch.device("cpu"))
    for number in range(6):
        path = fold_of(cascade_root, number) / "validation" / f"case{number}.nii.gz"
        voxels, grid = read_voxels(path)
        prior = np.load(folder / f"case{number}.prior.npy")
        label = np.load(folder.parent / f"case{number}.label.npy")
        assert prior.shape == label.shape
        assert prior.any() == voxels.any() == label.any()
        assert np.array_equal(prior, moved_label(folder.parent, number, voxels, grid, model))


def moved_label(folder, number, voxels, grid, model):
    (case,) = read_prepared(folder, [f"case{number}"], advice="")
    return prepare_label(Label(voxels=voxels, grid=grid), case.placement, model.configuration.preprocessing)


def test_another_mask_is_another_prior(run, cascade_root):
    (folder,) = (cascade_root / "autoseg_preprocessed" / "Tiny").glob("arrays_*/priors_3d_lowres")
    path = fold_of(cascade_root, 2) / "validation" / "case2.nii.gz"
    voxels, grid = read_voxels(path)
    write_voxels(path, np.zeros_like(voxels), grid)
    code, _, err = run("train", *CASCADE, "-f", 1, "--epochs", 1, "--steps-per-epoch", 1, "--root", cascade_root)
    assert code == 0
    assert "resampling 1 masks of 3d_lowres" in err
    assert not np.load(folder / "case2.prior.npy").any()


def test_new_scans_pass_through_both_and_scores_follow(run, cascade_root, tmp_path):
    scans, masks = cascade_root / "autoseg_raw" / "Tiny" / "imagesTr", tmp_path / "masks"
    code, out, err = run("predict", "-i", scans, "-o", masks, "-d", "Tiny", "-c", "3d_cascade", "--root", cascade_root)
    assert code == 0, err
    assert "6 masks" in out
    assert "first stage of the cascade: 3d_cascade/3d_lowres, folds 0, 1" in err
    assert run("evaluate", "-p", masks, "-d", "Tiny", "--root", cascade_root)[0] == 0


def test_the_mask_is_that_of_the_cascade_fed_with_the_file_that_its_source_writes(run, cascade_root, tmp_path):
    scans = cascade_root / "autoseg_raw" / "Tiny" / "imagesTr"
    for name in ("3d_lowres", "3d_cascade"):
        argv = ("-i", scans, "-o", tmp_path / name, "-d", "Tiny", "-c", name, "--root", cascade_root)
        assert run("predict", *argv)[0] == 0
    model = load_model(cascade(cascade_root), None, torch.device("cpu"))
    (folder,) = (cascade_root / "autoseg_preprocessed" / "Tiny").glob("arrays_*/priors_3d_lowres")
    told = 0
    for number in range(6):
        voxels, grid = read_voxels(tmp_path / "3d_lowres" / f"case{number}.nii.gz")
        (case,) = read_prepared(folder.parent, [f"case{number}"], advice="")
        prior = moved_label(folder.parent, number, voxels, grid, model)
        mask = predict_mask(model, replace(case, prior=prior), torch.device("cpu"))
        found, _ = read_voxels(tmp_path / "3d_cascade" / f"case{number}.nii.gz")
        assert np.array_equal(found, mask.voxels)
        told += int(prior.any()) + int(found.any())
    assert told  # at least one of them says something


def test_what_the_network_gives_depends_on_the_source_s_mask(cascade_root, tmp_path):
    """Predicted twice with the source's mask forced to nothing and to everything: the network must see it."""
    model = load_model(cascade(cascade_root), None, torch.device("cpu"))
    (folder,) = (cascade_root / "autoseg_preprocessed" / "Tiny").glob("arrays_*/priors_3d_lowres")
    (case,) = read_prepared(folder.parent, ["case0"], advice="")
    logits = [
        np.concatenate(list(case_rows(model, replace(case, prior=prior), torch.device("cpu"))), axis=1)
        for prior in (np.full(case.image.shape[1:], value, np.uint8) for value in (0, 1))
    ]
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_the_copied_folder_predicts_alone(run, cascade_root, tmp_path):
    scans = cascade_root / "autoseg_raw" / "Tiny" / "imagesTr"
    argv = ("predict", "-i", scans, "-c", "3d_cascade")
    assert run(*argv, "-o", tmp_path / "here", "--root", cascade_root)[0] == 0
    away = tmp_path / "away"
    shutil.copytree(cascade(cascade_root), away / "autoseg_results" / "Other" / "3d_cascade")
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "there", "--root", away)  # the only model there
    assert code == 0, err
    for number in range(6):
        name = f"case{number}.nii.gz"
        assert np.array_equal(read_voxels(tmp_path / "here" / name)[0], read_voxels(tmp_path / "there" / name)[0])


def test_a_model_that_lost_its_source_says_so_and_training_brings_it_back(run, cascade_root, tmp_path):
    scans = cascade_root / "autoseg_raw" / "Tiny" / "imagesTr"
    shutil.rmtree(cascade(cascade_root) / "3d_lowres")
    argv = ("predict", "-i", scans, "-o", tmp_path / "masks", "-c", "3d_cascade", "--root", cascade_root)
    code, _, err = run(*argv)
    assert code == 2
    assert "is a cascade, but lacks its first stage '3d_lowres'" in err
    assert run("train", *CASCADE, "-f", 0, "--root", cascade_root)[0] == 0
    assert run(*argv)[0] == 0


def test_missing_folds_of_the_source_name_the_commands(run, lowres_root):
    (lowres(lowres_root) / "fold_1" / "model.safetensors").unlink()
    for fold in (0, 1, "all"):
        code, out, err = run("train", *CASCADE, "-f", fold, "--root", lowres_root)
        assert (code, out) == (2, "")
        assert err.rstrip().endswith("still to be trained: autoseg_train -d Tiny -c 3d_lowres -f 1")
    shutil.rmtree(lowres(lowres_root))
    code, _, err = run("train", *CASCADE, "-f", 1, "--root", lowres_root)
    assert code == 2
    assert "autoseg_train -d Tiny -c 3d_lowres -f 0; autoseg_train -d Tiny -c 3d_lowres -f 1" in err
    assert not cascade(lowres_root).exists()


def test_missing_masks_of_a_trained_fold_name_its_command(run, lowres_root):
    (fold_of(lowres_root, 4) / "validation" / "case4.nii.gz").unlink()
    code, _, err = run("train", *CASCADE, "-f", 0, "--root", lowres_root)
    assert code == 2
    fold = 0
    assert (
        f"lacks the masks of case4; make them with the same command: autoseg_train -d Tiny -c 3d_lowres -f {fold}"
        in err
    )
    assert run("train", "-d", "Tiny", "-c", "3d_lowres", "-f", fold, "--root", lowres_root)[0] == 0
    assert run("train", *CASCADE, "-f", "all", *SHORT, "--root", lowres_root)[0] == 0


def test_a_mask_of_a_case_that_was_trained_on_is_refused(run, lowres_root):
    path = fold_of(lowres_root, 5) / "fold.json"
    facts = json.loads(path.read_text())
    facts["validation"].remove("case5")
    facts["train"].append("case5")
    path.write_text(json.dumps(facts))
    code, _, err = run("train", *CASCADE, "-f", 0, "--root", lowres_root)
    assert code == 2
    assert "did not hold out case5 as folds.json now says" in err


def test_a_case_that_no_fold_holds_out_is_refused(run, lowres_root):
    path = lowres_root / "autoseg_preprocessed" / "Tiny" / "folds.json"
    folds = json.loads(path.read_text())
    folds["folds"][1]["validation"].remove("case3")
    path.write_text(json.dumps(folds))
    code, _, err = run("train", *CASCADE, "-f", "all", "--root", lowres_root)
    assert code == 2
    assert "no fold in folds.json holds out case3" in err


def test_a_mask_on_another_grid_is_refused(run, lowres_root):
    path = fold_of(lowres_root, 2) / "validation" / "case2.nii.gz"
    voxels, grid = read_voxels(path)
    write_voxels(path, voxels, grid.model_copy(update={"origin": (0.0, 0.0, 0.0)}))
    code, _, err = run("train", *CASCADE, "-f", 0, "--root", lowres_root)
    assert code == 2
    assert "is not the mask that autoseg_train wrote (uint8 on 12x20x16 voxels" in err


def test_a_source_trained_again_is_refused_until_the_cascade_restarts(run, cascade_root):
    again = ("-d", "Tiny", "-c", "3d_lowres", "-f", 0, "--restart", "--seed", 99, *SHORT, "--root", cascade_root)
    assert run("train", *again)[0] == 0
    weights = cascade(cascade_root) / "3d_lowres" / "fold_0" / "model.safetensors"
    before = weights.read_bytes()
    code, _, err = run("train", *CASCADE, "-f", 1, *SHORT, "--root", cascade_root)
    assert code == 2
    assert "was trained again (fold 0) since" in err
    assert weights.read_bytes() == before
    assert run("train", *CASCADE, "-f", 0, "--restart", *SHORT, "--root", cascade_root)[0] == 0
    assert weights.read_bytes() == (lowres(cascade_root) / "fold_0" / "model.safetensors").read_bytes() != before


def test_killed_and_resumed_equals_undisturbed(run, lowres_root, cascade_template):
    code = "import sys; from autoseg.cli import train; train(sys.argv[1:])"
    argv = (*CASCADE, "-f", "0", "--epochs", "4", "--steps-per-epoch", "2", "--root", str(lowres_root))
    start = [sys.executable, "-c", code, *argv]
    process = subprocess.Popen(start, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    for line in process.stderr:
        if b"epoch 2:" in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    done, _, err = run("train", *argv)
    assert done == 0, err
    assert "resuming at epoch" in err
    ours, theirs = (
        load_file(cascade(root) / "fold_0" / "model.safetensors") for root in (lowres_root, cascade_template)
    )
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_slices_may_feed_volumes_and_volumes_slices(run, lowres_root, tmp_path):
    path = lowres_root / "autoseg_preprocessed" / "Tiny" / "plan.json"
    planned = json.loads(path.read_text())
    planned["configurations"]["2d_fed"] = planned["configurations"]["2d"] | {"cascade_from": "3d_lowres"}
    path.write_text(json.dumps(planned))
    argv = ("-d", "Tiny", "-c", "2d_fed", "-f", 0, *SHORT, "--root", lowres_root)
    call(plan, "-d", "Tiny", "--root", lowres_root, "--keep", "--workers", 1, "-q")
    assert run("train", *argv)[0] == 0
    scans = lowres_root / "autoseg_raw" / "Tiny" / "imagesTr"
    assert run("predict", "-i", scans, "-o", tmp_path / "m", "-c", "2d_fed", "--root", lowres_root)[0] == 0
