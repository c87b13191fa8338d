"""Bad input: one sentence, exit code 2, nothing half-written, and the rest done."""

import gzip
import json
import os
import shutil
import struct
import subprocess

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.core.images import read_voxels, write_voxels


def raw(root):
    return root / "autoseg_raw" / "Tiny"


def rewrite(path, change):
    voxels, grid = read_voxels(path)
    voxels = change(voxels.astype(np.float32).copy())
    write_voxels(path, voxels, grid, like=path)  # ITK would write NaN as 0


def set_nan(voxels):
    voxels[5, 5, 5] = np.nan
    return voxels


def half(voxels):
    voxels[5, 5, 5] = 0.5
    return voxels


def seven(voxels):
    voxels[5, 5, 5] = 7
    return voxels


def shift(path):
    voxels, grid = read_voxels(path)
    write_voxels(path, voxels, grid.model_copy(update={"origin": (0.0, 0.0, 0.0)}))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


IMAGE, LABEL = "imagesTr/case2_0000.nii.gz", "labelsTr/case2.nii.gz"
BAD_DATASETS = {
    "missing channel": (lambda r: (r / "imagesTr/case2_0001.nii.gz").unlink(), "case2"),
    "label without image": (lambda r: [(r / f"imagesTr/case2_000{c}.nii.gz").unlink() for c in (0, 1)], "case2.nii.gz"),
    "image without label": (lambda r: (r / LABEL).unlink(), "case2"),
    "grids of channels differ": (lambda r: shift(r / IMAGE), "is not on the grid of channel"),
    "grid of label differs": (lambda r: shift(r / LABEL), "is not on the image's grid"),
    "label with fractions": (lambda r: rewrite(r / LABEL, half), "fractional values"),
    "label with a strange value": (lambda r: rewrite(r / LABEL, seven), "7"),
    "NaN": (lambda r: rewrite(r / IMAGE, set_nan), "NaN"),
    "zero bytes": (lambda r: (r / IMAGE).write_bytes(b""), "0 bytes"),
    "truncated": (lambda r: truncate(r / IMAGE), "truncated"),
    "all zero": (lambda r: rewrite(r / IMAGE, np.zeros_like), "equal"),
}


@pytest.mark.parametrize("name", BAD_DATASETS)
def test_a_bad_dataset_is_named_and_nothing_is_planned(run, root, name):
    spoil, message = BAD_DATASETS[name]
    spoil(raw(root))
    code, _, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1)
    assert code == 2
    assert "Traceback" not in err
    sentence = err[err.index("autoseg_plan: error:") :]
    assert message in sentence
    assert "case2" in sentence
    folder = root / "autoseg_preprocessed" / "Tiny"
    assert not (folder / "plan.json").exists()
    assert not list(folder.glob("arrays_*"))


def test_what_is_mended_goes_on_where_it_stopped(run, root):
    path = raw(root) / IMAGE
    good = path.read_bytes()
    path.write_bytes(b"")
    assert run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1)[0] == 2
    path.write_bytes(good)
    code, _, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1)
    assert code == 0
    assert "measuring 1 of 6 cases" in err


def test_an_empty_label_is_no_error(run, root):
    rewrite(raw(root) / LABEL, np.zeros_like)
    assert run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1)[0] == 0


def test_unknown_dataset(run, root):
    code, _, err = run("plan", "-d", "Tinny", "--root", root)
    assert code == 2
    assert "'Tinny'" in err
    assert "Tiny" in err.replace("Tinny", "")


def test_training_an_unplanned_dataset(run, root):
    code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--root", root)
    assert code == 2
    assert "autoseg_plan -d Tiny" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("-c", "4d", "-f", 0), "unknown configuration '4d' of Tiny"),
        (("-c", "3d", "-f", 9), "unknown fold '9' of Tiny; use 0 to"),
        (("-c", "3d", "-f", "x"), "unknown fold 'x'"),
        (("-c", "3d", "-f", 0, "--device", "cuda"), "--device cuda"),
    ],
)
def test_training_what_does_not_exist(run, planned, argv, message):
    code, _, err = run("train", "-d", "Tiny", *argv, "--root", planned)
    assert code == 2
    assert message in err
    assert not (planned / "autoseg_results").exists()


def edit_plan(root, change):
    path = root / "autoseg_preprocessed" / "Tiny" / "plan.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


TRAIN = ("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--epochs", 1, "--steps-per-epoch", 1, "--device", "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["configurations"]["3d"].update(patchsize=[8, 8, 8]), "did you mean 'patch_size'"),
        (lambda p: p["configurations"]["3d"].pop("batch_size"), "missing key 'configurations.3d.batch_size'"),
        (lambda p: p["configurations"]["3d"].update(batch_size="two"), "'configurations.3d.batch_size'"),
        (lambda p: p["configurations"]["3d"].update(patch_size=[9, 8, 8]), "must be multiples of"),
        (lambda p: p["configurations"]["3d"]["optimiser"].update(learningrate=1), "did you mean 'learning_rate'"),
        (
            lambda p: p["configurations"]["3d"]["training"].update(epochs="many"),
            "'configurations.3d.training.epochs': input should be a valid integer",
        ),
        (
            lambda p: p["configurations"]["3d"]["preprocessing"]["channels"][1].update(scheme="z"),
            "'configurations.3d.preprocessing.channels.1.scheme': input should be 'zscore'",
        ),
        (
            lambda p: p["configurations"]["3d"]["sampling"].update(foreground_share=0.9, lesion_share=0.9),
            "'configurations.3d.sampling': foreground_share and lesion_share add up to more than 1; ",
        ),
        (
            lambda p: p["configurations"]["3d"]["augmentation"].update(rotation_degrees=[30, -30]),
            "'configurations.3d.augmentation': rotation_degrees must be [smallest, largest], not [30, -30]; ",
        ),
        (
            lambda p: p["configurations"]["3d"]["augmentation"].update(device="gpu"),
            "the plan's 3d.augmentation.device is gpu, but this training runs on the CPU; set it to auto or cpu",
        ),
        (lambda p: p.update(recommended="4d"), "not a valid plan file: recommended '4d' is not among: 2d, 3d"),
        (lambda p: p["configurations"].update({"3d": 5}), "'configurations.3d': input should be an object (found '5')"),
        (lambda p: p.update(schema=99), "has schema 99"),
    ],
)
def test_a_plan_edited_wrongly_names_the_key(run, planned, change, message):
    edit_plan(planned, change)
    code, _, err = run(*TRAIN, "--root", planned)
    assert code == 2
    assert message in err


def test_arrays_older_than_the_plan(run, planned):
    edit_plan(planned, lambda p: p["configurations"]["3d"]["preprocessing"].update(spacing=[2.0, 1.5, 1.5]))
    code, _, err = run(*TRAIN, "--root", planned)
    assert code == 2
    assert "autoseg_plan -d Tiny --keep" in err
    assert run("plan", "-d", "Tiny", "--keep", "--preset", "pocket", "--workers", 1, "--root", planned)[0] == 0
    assert run(*TRAIN, "--root", planned)[0] == 0


def test_arrays_older_than_the_scans(run, planned):
    path = raw(planned) / IMAGE
    path.write_bytes(path.read_bytes())
    code, _, err = run(*TRAIN, "--root", planned)
    assert code == 2
    assert "older than their scans" in err


def test_a_plan_edited_by_hand_is_not_overwritten(run, planned):
    edit_plan(planned, lambda p: p["configurations"]["3d"].update(batch_size=3))
    path = planned / "autoseg_preprocessed" / "Tiny" / "plan.json"
    before = path.read_text()
    code, _, err = run("plan", "-d", "Tiny", "--preset", "pocket", "--workers", 1, "--root", planned)
    assert code == 2
    assert "edited by hand" in err
    assert path.read_text() == before
    assert run("plan", "-d", "Tiny", "--replace", "--preset", "pocket", "--workers", 1, "--root", planned)[0] == 0
    assert json.loads(path.read_text())["configurations"]["3d"]["batch_size"] != 3
    assert (path.parent / "plan.before.json").read_text() == before


def test_folds_with_unknown_cases(run, planned):
    path = planned / "autoseg_preprocessed" / "Tiny" / "folds.json"
    path.write_text(path.read_text().replace("case0", "case00"))
    code, _, err = run(*TRAIN, "--root", planned)
    assert code == 2
    assert "case00" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(channels=["FLAIR", "T2"]), "'channels' is ('FLAIR', 'T2'), but the dataset has"),
        (lambda p: p.update(labels={"background": 0, "stroke": 1}), "'labels' is {'background': 0, 'stroke': 1}, but"),
        (
            lambda p: p["memory"].update({"3d_old": p["memory"]["3d"]}),
            "memory names '3d_old', which is not a configuration; remove it, or rename it to one of: 2d, 3d",
        ),
        (
            lambda p: p["configurations"]["3d"]["network"].update(name="unett"),
            "'configurations.3d.network': unknown network 'unett' (did you mean 'unet'",
        ),
        (
            lambda p: p["configurations"]["3d"]["network"]["options"].update(depth=3),
            "'configurations.3d.network': unknown option 'depth' of network 'unet'",
        ),
        (
            lambda p: p["configurations"]["3d"]["loss"].update(name="dise"),
            "'configurations.3d.loss': unknown loss 'dise'; choose from: dice_ce",
        ),
        (
            lambda p: p["configurations"]["3d"]["loss"]["options"].update(smoth=1),
            "'configurations.3d.loss': unknown option 'smoth' of loss 'dice_ce' (did you mean 'smooth'?)",
        ),
        (
            lambda p: p["configurations"]["3d"]["loss"]["options"].update(smooth="small"),
            "'configurations.3d.loss': option 'smooth' of loss 'dice_ce': input should be a valid number, not 'small'",
        ),
        (
            lambda p: p["configurations"]["3d"]["loss"]["options"].update(class_weights=[1, 2, 3]),
            "'configurations.3d.loss': loss 'dice_ce' has 3 class_weights, but the network has 2 outputs",
        ),
        (
            lambda p: p["configurations"]["3d"]["tiling"].update(tile_size=[2, 4, 4]),
            "'configurations.3d.network': network 'unet' keeps a single voxel of (2, 4, 4)",
        ),
        (
            lambda p: p["configurations"].update({"a/b": p["configurations"]["3d"]}),
            "'configurations.a/b': 'a/b' is not a valid configuration name",
        ),
    ],
)
def test_a_plan_that_is_kept_is_checked_before_it_trains(run, planned, change, message):
    edit_plan(planned, change)
    code, _, err = run("plan", "-d", "Tiny", "--keep", "--workers", 1, "--root", planned)
    assert code == 2
    assert "Traceback" not in err
    assert message in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(patch_size=[2, 4, 4]), "network 'unet' keeps a single voxel of (2, 4, 4) at its coarsest"),
        (lambda c: c["tiling"].update(tile_size=[2, 4, 4]), "network 'unet' keeps a single voxel of (2, 4, 4)"),
        (lambda c: c["network"].update(name="unett"), "'configurations.3d.network': unknown network 'unett'"),
        (lambda c: c["loss"].update(name="dise"), "'configurations.3d.loss': unknown loss 'dise'"),
    ],
)
@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_a_plan_that_cannot_train_costs_no_model(run, trained, change, message, command):
    edit_plan(trained, lambda p: change(p["configurations"]["3d"]))
    weights = trained / "autoseg_results" / "Tiny" / "3d" / "fold_0" / "model.safetensors"
    before = weights.read_bytes()
    asked = TRAIN if command == "train" else ("pretrain", "-d", "Tiny", "-c", "3d")
    code, _, err = run(*asked, "--restart", "--root", trained)
    assert code == 2
    assert message in err
    assert weights.read_bytes() == before
    assert not (trained / "autoseg_pretrained").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["folds"][0].update(val=[]), "unknown key 'folds.0.val' (choose from: train, validation)"),
        (lambda f: f["folds"][0].pop("validation"), "missing key 'folds.0.validation'"),
        (lambda f: f["folds"][1].update(train="case0"), "'folds.1.train': input should be a valid array"),
        (lambda f: f["folds"][1].update(train=[]), "not a valid folds file: fold 1 has no cases to train on"),
        (lambda f: f["folds"][1]["train"].extend(f["folds"][1]["validation"]), "fold 1 trains on and validates"),
        (lambda f: f["folds"][1]["train"].append(f["folds"][1]["train"][0]), "fold 1 names case"),
        (lambda f: f["folds"].append(f["folds"][2]), "folds 2 and 5 both hold out case"),
        (lambda f: f.update(folds=[]), "folds must hold at least one fold"),
        (lambda f: f["folds"][0]["train"].append("case9"), "names 1 cases that the dataset does not have"),
    ],
)
def test_folds_edited_wrongly_name_the_key(run, planned, change, message):
    path = planned / "autoseg_preprocessed" / "Tiny" / "folds.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    for argv in (TRAIN, ("plan", "-d", "Tiny", "--keep", "--workers", 1)):
        code, _, err = run(*argv, "--root", planned)
        assert code == 2
        assert "folds.json" in err
        assert message in err


def test_folds_of_one_model_come_from_one_plan(run, trained):
    edit_plan(trained, lambda p: p["configurations"]["3d"]["optimiser"].update(learning_rate=0.5))
    code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", 1, "--root", trained)
    assert code == 2
    assert "trained with another plan" in err


def test_held_out_cases_were_not_trained_on(run, trained):
    path = trained / "autoseg_preprocessed" / "Tiny" / "folds.json"
    folds = json.loads(path.read_text())
    folds["folds"][0], folds["folds"][1] = folds["folds"][1], folds["folds"][0]
    path.write_text(json.dumps(folds))
    code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--root", trained)
    assert code == 2
    assert "another split than folds.json now holds" in err


def test_a_fold_goes_on_with_its_own_seed(run, trained):
    code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--seed", 5, "--root", trained)
    assert code == 2
    assert "begun with seed 12345, not 5" in err


def test_a_renamed_label_is_measured_again(run, planned):
    path = raw(planned) / "dataset.json"
    path.write_text(path.read_text().replace("lesion", "stroke"))
    code, _, err = run("plan", "-d", "Tiny", "--preset", "pocket", "--workers", 1, "--root", planned)
    assert code == 0
    assert "measuring 6 of 6" in err
    facts = json.loads((planned / "autoseg_preprocessed" / "Tiny" / "fingerprint.json").read_text())
    assert facts["cases"][0]["label_voxels"].keys() == {"stroke"}


def test_restart_is_refused_before_anything_is_removed(run, trained):
    results = trained / "autoseg_results" / "Tiny" / "3d"
    shutil.copytree(results / "fold_0", results / "fold_1")
    edit_plan(trained, lambda p: p["configurations"]["3d"]["optimiser"].update(learning_rate=0.5))
    code, _, err = run("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--restart", "--root", trained)
    assert code == 2
    assert "fold_1" in err
    assert (results / "fold_0" / "model.safetensors").exists()


# ----------------------------------------------------------------------------------------------- prediction


@pytest.fixture
def scans(trained, tmp_path):
    folder = tmp_path / "scans"
    shutil.copytree(raw(trained) / "imagesTr", folder)
    return folder


def break_header(path, offset, form, *values):
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<" + form, content, offset, *values)
    path.write_bytes(gzip.compress(content))


def loop(path):
    path.unlink()
    path.symlink_to(path)


BAD_SCANS = {
    "endless offset": lambda f: break_header(f / "case2_0000.nii.gz", 108, "f", float("inf")),
    "a loop of links": lambda f: loop(f / "case2_0000.nii.gz"),
    "missing channel": lambda f: (f / "case2_0001.nii.gz").unlink(),
    "NaN": lambda f: rewrite(f / "case2_0000.nii.gz", set_nan),
    "zero bytes": lambda f: (f / "case2_0000.nii.gz").write_bytes(b""),
    "truncated": lambda f: truncate(f / "case2_0000.nii.gz"),
    "all zero": lambda f: rewrite(f / "case2_0000.nii.gz", np.zeros_like),
    "grids differ": lambda f: shift(f / "case2_0000.nii.gz"),
}


@pytest.mark.parametrize("name", BAD_SCANS)
def test_a_bad_scan_is_listed_and_the_others_are_predicted(run, trained, scans, tmp_path, name):
    BAD_SCANS[name](scans)
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained)
    assert code == 2
    assert "Traceback" not in err
    last = err[err.index("autoseg_predict: error:") :]
    assert "1 of 6 cases failed" in last
    assert "case2" in last
    found = sorted(path.name for path in (tmp_path / "masks").iterdir())
    masks = [f"case{number}.nii.gz" for number in (0, 1, 3, 4, 5)]
    assert found == [*masks, "predictions", "run.json", "run.log"]
    record = json.loads((tmp_path / "masks" / "run.json").read_text())
    assert (record["exit_code"], record["cases"]["case2"]["status"]) == (2, "failed")
    assert str(tmp_path) not in record["cases"]["case2"]["reason"]


def test_a_name_that_is_not_utf_8_is_listed_and_the_others_are_predicted(run, trained, scans, tmp_path):
    for channel in (0, 1):
        shutil.copy(scans / f"case2_000{channel}.nii.gz", scans / os.fsdecode(b"caf\xe9_000%d.nii.gz" % channel))
    for path in scans.glob("case[345]*"):
        path.unlink()
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained)
    assert code == 2
    assert "has a name that is not UTF-8; rename it" in err
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 3


def test_two_geometries_are_refused_unless_one_is_chosen(run, trained, scans, tmp_path):
    for path in scans.glob("case[1345]*"):
        path.unlink()
    for channel in (0, 1):  # an sform 8 mm away from the qform
        path = scans / f"case2_000{channel}.nii.gz"
        rows = np.array([[-1, 0, 0, 7.5], [0, -1, 0, -3.25], [0, 0, 2, 19]])
        break_header(path, 252, "2h", 1, 2)
        break_header(path, 280, "12f", *rows.ravel())
    predict = ("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained)
    code, _, err = run(*predict)
    assert code == 2
    assert "case2: " in err[err.index("error:") :]
    assert "states two geometries, 8 mm apart" in err
    assert run(*predict, "--orientation", "sform")[0] == 0
    mask, scan = (
        gzip.decompress(p.read_bytes()) for p in (tmp_path / "masks/case2.nii.gz", scans / "case2_0000.nii.gz")
    )
    assert mask[252:328] == scan[252:328]


def test_a_mask_that_is_not_ours_is_never_replaced(run, trained, scans, tmp_path):
    for path in scans.glob("case[1345]*"):
        path.unlink()
    masks = tmp_path / "masks"
    masks.mkdir()
    manual = raw(trained) / "labelsTr" / "case2.nii.gz"
    shutil.copy(manual, masks)
    predict = ("predict", "-i", scans, "-o", masks, "--root", trained)
    code, _, err = run(*predict)
    assert code == 2
    assert "holds files that autoseg did not make, or that were changed since (case2.nii.gz)" in err
    assert [path.name for path in masks.iterdir()] == ["case2.nii.gz"]  # nothing was predicted
    assert (masks / "case2.nii.gz").read_bytes() == manual.read_bytes()
    assert run(*predict, "--replace")[0] == 0
    predicted = (masks / "case2.nii.gz").read_bytes()
    shutil.copy(manual, masks)  # somebody corrects the mask
    assert run(*predict)[0] == 0
    assert (masks / "case2.nii.gz").read_bytes() == manual.read_bytes()
    code, _, err = run(*predict, "--step", 0.9)  # would make other masks
    assert code == 2
    assert "changed since (case2.nii.gz)" in err
    assert run(*predict, "--step", 0.9, "--replace")[0] == 0
    assert (masks / "case2.nii.gz").read_bytes() not in (manual.read_bytes(), b"")
    assert predicted


def test_a_scan_is_never_replaced(run, trained, scans, tmp_path):
    both = sitk.JoinSeries([sitk.ReadImage(str(scans / f"case2_000{channel}.nii.gz")) for channel in (0, 1)])
    (tmp_path / "one").mkdir()
    scan = tmp_path / "one" / "p.nii.gz"
    sitk.WriteImage(both, str(scan))
    before = scan.read_bytes()
    for output in (tmp_path / "one", tmp_path / "one" / ".." / "one"):
        code, _, err = run("predict", "-i", scan, "-o", output, "--replace", "--root", trained)
        assert code == 2
        assert "would replace a scan" in err
    assert scan.read_bytes() == before


def test_a_report_does_not_replace_a_plan(run, trained):
    plan = trained / "autoseg_preprocessed" / "Tiny" / "plan.json"
    before = plan.read_bytes()
    code, _, err = run("report", "-d", "Tiny", "-o", plan, "--root", trained)
    assert code == 2
    assert "was not written by autoseg as such a file" in err
    assert plan.read_bytes() == before


def test_scores_do_not_replace_a_table_of_somebody_else(run, root):
    labels = raw(root) / "labelsTr"
    (labels / "scores.csv").write_text("patient;age\n")
    code, _, err = run("evaluate", "-p", labels, "-r", labels, "--root", root)
    assert code == 2
    assert "scores.csv was not written by autoseg" in err
    assert (labels / "scores.csv").read_text() == "patient;age\n"


def test_no_model_is_trained(run, planned, tmp_path):
    code, _, err = run("predict", "-i", raw(planned) / "imagesTr", "-o", tmp_path / "masks", "--root", planned)
    assert code == 2
    assert "no model is trained" in err
    assert "autoseg_train" in err
    assert not (tmp_path / "masks").exists()


def test_several_models_are_listed(run, trained, scans, tmp_path):
    results = trained / "autoseg_results"
    shutil.copytree(results / "Tiny", results / "Other")
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained)
    assert code == 2
    assert "-d Other -c 3d; -d Tiny -c 3d" in err
    assert run("predict", "-i", scans, "-o", tmp_path / "masks", "-d", "Other", "--root", trained)[0] == 0


def test_a_fold_that_is_not_trained(run, trained, scans, tmp_path):
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "-f", 3, "--root", trained)
    assert code == 2
    assert "no trained fold 3; choose from: 0" in err


def test_a_model_folder_without_folds(run, trained, scans, tmp_path):
    shutil.rmtree(trained / "autoseg_results" / "Tiny" / "3d" / "fold_0")
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained)
    assert code == 2
    assert "no model is trained" in err


def test_damaged_weights(run, trained, scans, tmp_path):
    path = trained / "autoseg_results" / "Tiny" / "3d" / "fold_0" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained)
    assert code == 2
    assert "model.safetensors is damaged" in err


def test_masks_do_not_go_among_the_scans(run, trained, scans):
    code, _, err = run("predict", "-i", scans, "-o", scans, "--root", trained)
    assert code == 2
    assert "choose another" in err


def test_masks_cannot_go_into_a_file(run, trained, scans, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run("predict", "-i", scans, "-o", tmp_path / "file", "--root", trained)
    assert code == 2
    assert "a file, not a folder" in err
    assert "Traceback" not in err


def test_a_folder_without_scans(run, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("predict", "-i", tmp_path / "empty", "-o", tmp_path / "masks", "--root", trained)
    assert code == 2
    assert "FLAIR" in err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 KB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_while_training(run, planned, small_disk):
    results = planned / "autoseg_results"
    results.symlink_to(small_disk)
    code, _, err = run(*TRAIN, "--root", planned)
    assert code == 2
    assert "disk is full" in err
    assert "Traceback" not in err
    assert not [path for path in small_disk.rglob("*") if path.name.endswith((".safetensors", ".pt"))]


def test_a_full_disk_while_planning(run, root, small_disk):
    (root / "autoseg_preprocessed").symlink_to(small_disk)
    code, _, err = run("plan", "-d", "Tiny", "--preset", "pocket", "--workers", 1, "--root", root)
    assert code == 2
    assert "disk is full" in err


# ----------------------------------------------------------------------------------------------- evaluation


def test_missing_masks_are_an_error_unless_allowed(run, root, tmp_path):
    masks = tmp_path / "masks"
    shutil.copytree(raw(root) / "labelsTr", masks)
    (masks / "case4.nii.gz").unlink()
    argv = ("evaluate", "-p", masks, "-r", raw(root) / "labelsTr", "--root", root)
    code, _, err = run(*argv)
    assert code == 2
    assert "case4" in err
    assert not (masks / "scores.json").exists()
    assert run(*argv, "--allow-missing")[0] == 0


def test_a_mask_on_another_grid(run, root, tmp_path):
    masks = tmp_path / "masks"
    shutil.copytree(raw(root) / "labelsTr", masks)
    shift(masks / "case4.nii.gz")
    code, _, err = run("evaluate", "-p", masks, "-r", raw(root) / "labelsTr", "--root", root)
    assert code == 2
    assert "case4" in err
    assert "another grid" in err


def test_an_unknown_metric(run, root):
    labels = raw(root) / "labelsTr"
    code, _, err = run("evaluate", "-p", labels, "-r", labels, "--metrics", "dise", "--root", root)
    assert code == 2
    assert "unknown metric 'dise' (did you mean 'dice'?); choose from: dice" in err


def test_bad_words_on_the_command_line(run, root):
    for argv, message in (
        (("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--time-budget", "ten"), "invalid duration 'ten'; use 90s, 10m"),
        (("plan", "-d", "Tiny", "--memory", -1), "invalid number '-1'; use a positive number"),
    ):
        code, _, err = run(*argv, "--root", root)
        assert code == 2
        assert message in err
    assert run("plan", "-d", "../x", "--root", root)[0] == 2
