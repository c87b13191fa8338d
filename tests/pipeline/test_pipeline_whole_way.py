"""From raw scans to scores through the command line, on a tiny dataset."""

import gzip
import json
import struct

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from autoseg.core.images import read_voxels


def test_plan_writes_everything_and_does_nothing_twice(run, root):
    code, out, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1)
    assert code == 0
    assert "recommended" in out
    assert "measuring 6 of 6 cases" in err
    folder = root / "autoseg_preprocessed" / "Tiny"
    assert {"plan.json", "folds.json", "fingerprint.json"} <= {path.name for path in folder.iterdir()}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}
    assert before
    code, _, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1)
    assert code == 0
    assert "measuring" not in err
    assert "preprocessing" not in err
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


def test_plan_without_gpu_says_so(run, root, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, out, err = run("plan", "-d", "Tiny", "--root", root, "--workers", 1)
    assert "without GPU: preset pocket" in err
    assert "--memory GB" in err
    assert "preset pocket" in out


def test_a_second_planning_keeps_preset_and_memory(run, root):
    run("plan", "-d", "Tiny", "--root", root, "--memory", 5, "--workers", 1)
    path = root / "autoseg_preprocessed" / "Tiny" / "plan.json"
    before = path.read_text()
    assert json.loads(before)["memory_gb"] == 5
    code, _, err = run("plan", "-d", "Tiny", "--root", root, "--workers", 1)
    assert code == 0
    assert "planning as before: preset standard for 5 GB" in err
    assert path.read_text() == before


def test_only_new_cases_are_measured_and_preprocessed(run, planned):
    path = planned / "autoseg_raw" / "Tiny" / "imagesTr" / "case3_0000.nii.gz"
    path.write_bytes(path.read_bytes())  # same voxels, another time
    code, _, err = run("plan", "-d", "Tiny", "--root", planned, "--preset", "pocket", "--workers", 1)
    assert code == 0
    assert "measuring 1 of 6 cases" in err
    assert "preprocessing 1 of 6 cases" in err


def test_train_writes_weights_history_masks_and_scores(trained):
    folder = trained / "autoseg_results" / "Tiny" / "3d"
    here = folder / "fold_0"
    rows = [json.loads(line) for line in (here / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    facts = json.loads((here / "fold.json").read_text())
    assert facts["finished"]
    masks = sorted(path.name.removesuffix(".nii.gz") for path in (here / "validation").iterdir())
    assert masks == sorted(facts["validation"])
    scores = json.loads((here / "scores.json").read_text())
    assert {case["case"] for case in scores["cases"]} == set(masks)
    assert (here / "progress.png").read_bytes().startswith(b"\x89PNG")
    torch.load(here / "checkpoint.pt", weights_only=True)


def test_a_trained_fold_is_not_trained_again(run, trained):
    weights = trained / "autoseg_results" / "Tiny" / "3d" / "fold_0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    code, out, err = run("train", "-d", "Tiny", "-c", "3d", "-f", 0, "--root", trained)
    assert code == 0
    assert "dice" in out
    assert "epoch 1:" not in err
    assert weights.stat().st_mtime_ns == before


def test_predict_keeps_each_scan_on_its_own_grid(run, trained, tmp_path):
    scans = trained / "autoseg_raw" / "Tiny" / "imagesTr"
    code, out, _ = run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained)
    assert code == 0
    assert "6 masks" in out
    for number in range(6):
        mask, grid = read_voxels(tmp_path / "masks" / f"case{number}.nii.gz")
        scan = sitk.ReadImage(str(scans / f"case{number}_0000.nii.gz"))
        image = sitk.ReadImage(str(tmp_path / "masks" / f"case{number}.nii.gz"))
        assert mask.shape == grid.shape == (12, 20, 16)
        assert set(np.unique(mask)) <= {0, 1}
        for fact in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
            assert getattr(image, fact)() == getattr(scan, fact)()
        raw = [
            gzip.decompress(p.read_bytes())
            for p in (scans / f"case{number}_0000.nii.gz", tmp_path / "masks" / f"case{number}.nii.gz")
        ]
        assert struct.unpack_from("<12f", raw[0], 280) == struct.unpack_from("<12f", raw[1], 280)


def test_a_second_prediction_continues(run, trained, tmp_path):
    scans, masks = trained / "autoseg_raw" / "Tiny" / "imagesTr", tmp_path / "masks"
    run("predict", "-i", scans, "-o", masks, "--root", trained)
    (masks / "case2.nii.gz").unlink()
    before = (masks / "case1.nii.gz").stat().st_mtime_ns
    code, out, _ = run("predict", "-i", scans, "-o", masks, "--root", trained)
    assert code == 0
    assert "6 masks" in out
    assert (masks / "case2.nii.gz").exists()
    assert (masks / "case1.nii.gz").stat().st_mtime_ns == before


def test_predict_takes_one_folder_per_case(run, trained, tmp_path):
    source = trained / "autoseg_raw" / "Tiny" / "imagesTr"
    for number in (0, 3):
        folder = tmp_path / "scans" / f"patient{number}"
        folder.mkdir(parents=True)
        (folder / "study_T1.nii.gz").write_bytes((source / f"case{number}_0001.nii.gz").read_bytes())
        (folder / "study_flair.nii.gz").write_bytes((source / f"case{number}_0000.nii.gz").read_bytes())
    code, _, _ = run("predict", "-i", tmp_path / "scans", "-o", tmp_path / "a", "--root", trained)
    assert code == 0
    run("predict", "-i", source, "-o", tmp_path / "b", "--root", trained)
    for number in (0, 3):
        ours, _ = read_voxels(tmp_path / "a" / f"patient{number}.nii.gz")
        theirs, _ = read_voxels(tmp_path / "b" / f"case{number}.nii.gz")
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("how", ["-r", "-d"])
def test_evaluate_the_labels_themselves(run, root, how, tmp_path):
    labels = root / "autoseg_raw" / "Tiny" / "labelsTr"
    given = labels if how == "-r" else "Tiny"
    code, out, _ = run("evaluate", "-p", labels, how, given, "-o", tmp_path / "scores", "--root", root)
    assert code == 0
    assert "lesion" in out
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["summary"]["lesion"]["dice"]["mean"] == 1
    assert scores["empty_references"] == {"lesion": 1}
    assert len((tmp_path / "scores" / "scores.csv").read_text().splitlines()) == 7


def test_fold_all_trains_on_everything_and_validates_nothing(run, planned):
    code, out, _ = run(
        "train", "-d", "Tiny", "-c", "3d", "-f", "all", "--epochs", 1, "--steps-per-epoch", 1, "--root", planned
    )
    here = planned / "autoseg_results" / "Tiny" / "3d" / "fold_all"
    assert code == 0
    assert out == ""
    assert len(json.loads((here / "fold.json").read_text())["train"]) == 6
    assert not (here / "validation").exists()


def test_two_dimensions_go_the_whole_way(run, planned, tmp_path):
    argv = ("-d", "Tiny", "-c", "2d", "-f", 1, "--epochs", 1, "--steps-per-epoch", 1, "--root", planned)
    assert run("train", *argv)[0] == 0
    scans = planned / "autoseg_raw" / "Tiny" / "imagesTr"
    assert run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", planned)[0] == 0


def test_quiet_is_quiet_and_lines_hold_no_control_characters(run, root):
    code, out, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1, "--quiet")
    assert (code, out, err) == (0, "", "")
    _, out, err = run("plan", "-d", "Tiny", "--root", root, "--preset", "pocket", "--workers", 1)
    assert not [c for c in out + err if ord(c) < 32 and c != "\n"]
