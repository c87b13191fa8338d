"""autoseg_predict on DICOM: masks on the scans' grids, segmentation objects, and nothing that names the patient."""

import json
import zipfile

import numpy as np
import pydicom
import pytest
from dicom_series import BIRTH, NAME, NUMBER, STUDY, write_series

from autoseg.core.images import read_grid, read_voxels
from autoseg.core.records import Grid

GRID = Grid(shape=(12, 20, 16), spacing=(2.0, 1.0, 1.0), origin=(-7.5, 3.25, 11.0))
SECRETS = [NAME, "Quixote", "Dulcinea", NUMBER, BIRTH, "House"]


def write_patient(folder, study, seed=0, **flair):
    """FLAIR and T1 of one patient, with a bright lesion; and a localiser."""
    rng = np.random.default_rng(seed)
    voxels = rng.normal(100, 5, (2, *GRID.shape)).astype(np.uint16)
    voxels[0, 4:7, 6:12, 4:9] += 80
    shared = {"study": study, "PatientComments": f"{NAME} called"}
    write_series(folder / "1", number=1, description="loc", grid=GRID, voxels=voxels[0][:3], **shared)
    write_series(
        folder / "2", voxels[0], GRID, number=2, **{"description": f"AX FLAIR Quixote {BIRTH}", **shared, **flair}
    )
    write_series(folder / "3", voxels[1], GRID, number=3, description="t1_mprage", **shared)
    return voxels


@pytest.fixture
def predict(run, trained, tmp_path):
    def call(scans, *options):
        return run("predict", "-i", scans, "-o", tmp_path / "masks", "--root", trained, *options)

    return call


def find_secrets(folder):
    """(file, secret) for every file that holds one, also inside compressed files."""
    import gzip

    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        found += [(path.name, secret) for secret in SECRETS if secret.encode() in content or secret in str(path)]
    return found


def test_patients_become_masks_and_segmentation_objects_without_a_name(predict, tmp_path):
    study = tmp_path / "study"
    voxels = write_patient(study / "case_b", "1.2.5")
    write_patient(study / "case_a", "1.2.4", seed=1)
    with zipfile.ZipFile(study / "case_a.zip", "w") as archive:
        for path in sorted((study / "case_a").rglob("IM*")):
            archive.write(path, path.relative_to(study))
            path.unlink()
    code, out, err = predict(study, "--dicom-seg", "--report", "--probabilities")
    assert code == 0, err
    masks = tmp_path / "masks"
    assert sorted(path.name for path in masks.iterdir() if path.is_file()) == [
        "case_a.dcm", "case_a.nii.gz", "case_a.npz", "case_b.dcm", "case_b.nii.gz", "case_b.npz", "lesions.csv",
        "lesions_per_case.csv", "report.html", "run.json", "run.log",
    ]  # fmt: skip
    assert "case case_b: FLAIR from AX FLAIR *** *** (series 2, 12 slices): its name has 'flair'" in err
    assert "case case_b: T1 from t1_mprage (series 3, 12 slices): its name has 't1'" in err
    scan, grid = read_voxels(masks / "scans" / "case_b_0000.nii.gz")
    assert np.array_equal(scan, voxels[0])
    assert grid.matches(GRID)
    mask, mask_grid = read_voxels(masks / "case_b.nii.gz")
    assert mask_grid == grid
    segments = pydicom.dcmread(masks / "case_b.dcm")
    assert segments.StudyInstanceUID == "1.2.5"
    shown = sum(int(frame.sum()) for frame in np.atleast_3d(segments.pixel_array))
    assert shown == int((mask > 0).sum())
    assert find_secrets(masks) == []
    assert not [secret for secret in SECRETS if secret in out + err]


def test_the_same_command_resumes_and_a_changed_scan_is_predicted_again(predict, tmp_path):
    study = tmp_path / "study"
    write_patient(study, STUDY)
    assert predict(study)[0] == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").rglob("*.nii.gz")}
    assert [path.name for path in times] and len(times) == 3
    code, _, err = predict(study)
    assert (code, "1 of the masks exist already" in err) == (0, True)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert predict(study, "--dicom-seg")[0] == 0  # what is missing now is made
    assert (tmp_path / "masks" / "study.dcm").exists()
    write_patient(study, STUDY, seed=3)
    assert predict(study)[0] == 0
    assert all(path.stat().st_mtime_ns > times[path] for path in times)


def test_a_bad_study_costs_only_itself(predict, tmp_path):
    study = tmp_path / "study"
    write_patient(study / "good", "1.2.4")
    write_patient(study / "tilted", "1.2.5", change=lambda n, d: d.ImagePositionPatient.__setitem__(1, 3.25 + 0.4 * n))
    write_patient(study / "cut", "1.2.6")
    [first, *_] = sorted((study / "cut" / "2").iterdir())
    first.write_bytes(first.read_bytes()[:-100])
    code, _, err = predict(study)
    assert code == 2
    assert "2 of 3 cases failed" in err
    assert "cut: cut/2/IM0001 is truncated: its header states 640 bytes of pixels, and it has 540" in err
    assert "tilted: no series may be channel FLAIR; choose with --channel 'FLAIR=PATTERN'" in err
    assert "gantry tilt" in err
    assert [path.name for path in (tmp_path / "masks").glob("*.nii.gz")] == ["good.nii.gz"]


def test_channels_can_be_chosen_and_unknown_ones_are_refused(predict, tmp_path):
    study = tmp_path / "study"
    write_patient(study, STUDY, description="dark image")
    code, _, err = predict(study)
    assert code == 2
    assert "no series may be channel FLAIR" in err
    code, _, err = predict(study, "--channel", "FLAIR=dark*")
    assert code == 0, err
    record = json.loads((tmp_path / "masks" / "scans" / "study.json").read_text())
    assert record["channels"]["FLAIR"] == "dark image (series 2, 12 slices): --channel FLAIR=dark*"
    code, _, err = predict(study, "--channel", "FLAR=dark*")
    assert (code, "unknown channel 'FLAR'" in err, "did you mean 'FLAIR'" in err) == (2, True, True)
    assert predict(study, "--channel", "FLAIR")[0] == 2


def test_options_of_dicom_are_refused_for_other_scans(predict, trained):
    code, _, err = predict(trained / "autoseg_raw" / "Tiny" / "imagesTr", "--dicom-seg")
    assert (code, "holds no DICOM" in err) == (2, True)


def test_channels_on_other_grids_are_an_error_unless_asked_for(predict, tmp_path):
    study = tmp_path / "study"
    write_patient(study, STUDY)
    for path in (study / "3").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PixelSpacing = [1.1, 1.0]
        dataset.save_as(path)
    code, _, err = predict(study)
    assert code == 2
    assert "channel T1 is not on the grid of channel FLAIR" in err
    assert predict(study, "--resample-channels")[0] == 0
    assert read_grid(tmp_path / "masks" / "study.nii.gz")[0].matches(GRID)


def test_dicom_inside_a_bids_dataset_is_the_source_of_its_scans_and_not_read(run, trained, tmp_path):
    for channel, name in enumerate(("FLAIR", "T1w")):
        scan = trained / "autoseg_raw" / "Tiny" / "imagesTr" / f"case0_{channel:04d}.nii.gz"
        target = tmp_path / "bids" / "sub-01" / "anat" / f"sub-01_{name}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(scan.read_bytes())
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    write_patient(tmp_path / "bids" / "sourcedata" / "sub-01", STUDY)
    code, _, err = run("predict", "-i", tmp_path / "bids", "-o", tmp_path / "masks", "--root", trained)
    assert code == 0, err
    assert [path.name for path in (tmp_path / "masks").glob("*.nii.gz")] == ["sub-01.nii.gz"]
