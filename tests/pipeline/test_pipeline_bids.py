"""autoseg_predict from a BIDS dataset into its derivatives: names, sidecars, resuming, and what is refused."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Label
from autoseg.datasets import find_scans
from autoseg.model import load_plan
from autoseg.prediction.derivatives import write_description, write_probsegs, write_sidecars
from autoseg.prediction.records import CaseFiles

SESSIONS = {"sub-01": "sub-01/anat/sub-01", "sub-02_ses-1": "sub-02/ses-1/anat/sub-02_ses-1_acq-3d"}


@pytest.fixture
def bids(trained):
    """Two sessions of the trained root's scans as a BIDS dataset."""
    folder, scans = trained / "bids", trained / "autoseg_raw" / "Tiny" / "imagesTr"
    for number, stem in enumerate(SESSIONS.values()):
        for channel, suffix in enumerate(("FLAIR", "T1w")):
            path = folder / f"{stem}_{suffix}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(scans / f"case{number}_{channel:04d}.nii.gz", path)
    (folder / "README.md").write_text("Made for a test of autoseg. " * 10)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "Made", "BIDSVersion": "1.10.0"}))
    return folder


@pytest.fixture
def predict(run, trained, bids):
    """Predict into a folder; gives exit code and log."""

    def call(output, *options):
        code, _, err = run("predict", "-i", bids, "-o", output, "--root", trained, *options)
        return code, err

    return call


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def validate(folder):
    """Errors that the BIDS validator finds, if it is installed."""
    program = shutil.which("bids-validator-deno")
    if program is None:
        return []
    ran = subprocess.run([program, "--format", "json", str(folder)], capture_output=True, text=True, check=False)
    return [issue for issue in json.loads(ran.stdout)["issues"]["issues"] if issue["severity"] == "error"]


def test_masks_and_probabilities_are_derivatives(bids, predict):
    output = bids / "derivatives" / "autoseg"
    code, log = predict(output, "--probabilities", "--report", "--no-postprocessing")
    assert code == 0, log
    images = [
        f"{stem}_{suffix}"
        for stem in ("sub-01/anat/sub-01", "sub-02/ses-1/anat/sub-02_ses-1_acq-3d")
        for suffix in ("desc-autoseg_mask", "label-lesion_desc-autoseg_probseg")
    ]
    assert files_below(output) == sorted(
        [
            *(f"{image}{ending}" for image in images for ending in (".nii.gz", ".json")),
            ".bidsignore", "README.md", "dataset_description.json", "lesions.csv", "lesions_per_case.csv",
            "report.html", "run.json", "run.log",
            *(f"overlays/{Path(stem).name}_desc-autoseg_mask.png" for stem in SESSIONS.values()),
            *(f"predictions/{Path(stem).name}_desc-autoseg_mask.nii.gz{ending}"
              for stem in SESSIONS.values() for ending in (".json", ".lesions.json")),
        ]
    )  # fmt: skip
    mask, grid = read_voxels(output / f"{images[0]}.nii.gz")
    probability, _ = read_voxels(output / f"{images[1]}.nii.gz")
    scan, scan_grid = read_voxels(bids / "sub-01/anat/sub-01_FLAIR.nii.gz")
    assert grid == scan_grid
    assert probability.dtype == np.float32
    assert (mask[probability > 0.501] == 1).all()  # as float16, a tie may round to either side
    assert (mask[probability < 0.499] == 0).all()
    assert scan.shape == mask.shape
    facts = json.loads((output / f"{images[0]}.json").read_text())
    assert facts["Type"] == "Lesion"
    assert facts["Sources"] == [f"bids:raw:sub-01/anat/sub-01_{suffix}.nii.gz" for suffix in ("FLAIR", "T1w")]
    record = json.loads((output / "predictions" / "sub-01_desc-autoseg_mask.nii.gz.json").read_text())
    assert facts["ModelHash"] == record["model"]
    description = json.loads((output / "dataset_description.json").read_text())
    assert (description["DatasetType"], description["GeneratedBy"][0]["Name"]) == ("derivative", "autoseg")
    assert validate(output) == []


def test_the_same_command_resumes_and_other_folders_hold_plain_masks(bids, predict, tmp_path):
    output = bids / "derivatives" / "autoseg"
    predict(output)
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    code, log = predict(output)
    assert code == 0
    assert "2 of the masks exist already" in log
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")} == times
    assert predict(tmp_path / "plain")[0] == 0
    assert {path.name for path in (tmp_path / "plain").glob("*.nii.gz")} == {f"{case}.nii.gz" for case in SESSIONS}


def test_several_labels_are_a_dseg_with_its_table(bids, trained):
    plan = load_plan(trained / "autoseg_results" / "Tiny" / "3d")
    plan = plan.model_copy(update={"labels": {"background": 0, "core": 1, "outer rim": 2}})
    output, case = bids / "derivatives" / "autoseg", find_scans(bids, plan.channels)[0][0]
    files = CaseFiles.of_derivative(output, case, plan)
    voxels, grid = read_voxels(case.channels[0].path)
    mask = Label(voxels=(voxels > 100).astype(np.uint8) * 2, grid=grid)

    write_description(output, plan, "Tiny/3d")
    write_voxels(files.mask, mask.voxels, grid)
    write_probsegs(files.probabilities, np.stack([voxels] * 3), plan, mask, case.channels[0].path)
    write_sidecars([files.mask, *files.probabilities], case, bids, model="Tiny/3d", key="0123456789ab")
    names = [path for path in files_below(output) if path.endswith(".nii.gz")]

    assert names == [
        "sub-01/anat/sub-01_desc-autoseg_dseg.nii.gz",
        "sub-01/anat/sub-01_label-core_desc-autoseg_probseg.nii.gz",
        "sub-01/anat/sub-01_label-outerrim_desc-autoseg_probseg.nii.gz",
    ]
    assert (output / "desc-autoseg_dseg.tsv").read_text() == "index\tname\n0\tbackground\n1\tcore\n2\touter rim\n"
    assert validate(output) == []


def test_the_folder_of_another_program_is_refused(bids, predict):
    output = bids / "derivatives" / "other"
    output.mkdir(parents=True)
    (output / "dataset_description.json").write_text('{"Name": "fMRIPrep"}')
    code, log = predict(output)
    assert code == 2
    assert "dataset_description.json was not written by autoseg" in log
    assert files_below(output) == ["dataset_description.json"]


def test_sessions_that_lack_a_channel_or_have_two_are_named(bids):
    shutil.copyfile(bids / "sub-01/anat/sub-01_T1w.nii.gz", bids / "sub-01/anat/sub-01_ce-gad_T1w.nii.gz")
    (bids / "sub-02/ses-1/anat/sub-02_ses-1_acq-3d_T1w.nii.gz").rename(
        bids / "sub-02/ses-1/anat/sub-02_ses-1_T2w.nii.gz"
    )
    cases, failures = find_scans(bids, ["FLAIR", "T1"])
    assert [file.path.name for file in cases[0].channels] == ["sub-01_FLAIR.nii.gz", "sub-01_T1w.nii.gz"]
    assert failures == {
        "sub-02_ses-1": "case sub-02_ses-1: no file has the suffix t1w for the channel T1 (files: "
        "sub-02_ses-1_T2w, sub-02_ses-1_acq-3d_FLAIR)"
    }
    for run in (1, 2):
        shutil.copyfile(bids / "sub-01/anat/sub-01_T1w.nii.gz", bids / f"sub-01/anat/sub-01_run-{run}_T1w.nii.gz")
    (bids / "sub-01/anat/sub-01_T1w.nii.gz").unlink()
    _, failures = find_scans(bids, ["FLAIR", "T1"])
    assert "several files may be T1: sub-01_run-1_T1w, sub-01_run-2_T1w; keep one" in failures["sub-01"]
