"""autoseg_import dicom: studies with masks as DICOM-SEG or NIfTI become a dataset; nobody is named."""

import gzip
import json

import numpy as np
import pytest
from dicom_series import BIRTH, GRID, NAME, NUMBER, write_series

from autoseg.core.geometry import turn
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Grid
from autoseg.datasets import open_dataset, read_case
from autoseg.datasets.dicom import IMPORTER
from autoseg.dicom.segmentation import place_mask, write_segmentation
from autoseg.dicom.studies import find_studies

RAMP = np.arange(np.prod(GRID.shape), dtype=np.uint16).reshape(GRID.shape)


def write_patient(folder, study, **values):
    write_series(folder / "flair", RAMP, number=1, study=study, **values)
    write_series(folder / "t1", RAMP[::-1].copy(), number=2, study=study, description="t1_mprage", **values)


def make_mask(seed):
    return (np.random.default_rng(seed).random(GRID.shape) > 0.8).astype(np.uint8)


def turned(voxels, grid, transpose, flips):
    """The same voxels at the same places with their axes in another order, as another converter writes them."""
    direction = np.asarray(grid.direction)[:, transpose] * np.where(flips, -1, 1)
    corner = [(n - 1) * flip for n, flip in zip(np.array(grid.shape)[list(transpose)], flips, strict=True)]
    index = np.zeros(3)
    index[list(transpose)] = corner
    return turn(voxels, transpose, flips), Grid(
        shape=tuple(np.array(grid.shape)[list(transpose)].tolist()),
        spacing=tuple(np.array(grid.spacing)[list(transpose)].tolist()),
        origin=tuple(grid.to_world(index).tolist()),
        direction=tuple(map(tuple, direction.tolist())),
    )


@pytest.fixture
def source(tmp_path):
    """Three patients: a DICOM-SEG in the study, a NIfTI mask beside it, and none; the first has two visits."""
    folder = tmp_path / "clinic"
    for number, name in enumerate(("ann_1", "ann_2", "bob", "cat"), start=1):
        write_patient(folder / name, f"1.2.3.{number}", PatientID=NUMBER if name.startswith("ann") else f"{name}-55512")
    studies = {study.id: study for study in find_studies(folder)[0]}
    for seed, name in enumerate(("ann_1", "ann_2")):
        write_segmentation(
            folder / name / "seg.dcm", make_mask(seed), studies[name].volumes[0], {"lesion": 1}, model="hand",
            keep_patient=True,
        )  # fmt: skip
    voxels, grid = turned(make_mask(2), GRID, (1, 0, 2), (True, False, True))
    write_voxels(folder / "bob" / "bob_mask.nii.gz", voxels, grid)
    return folder


@pytest.fixture
def import_dicom(run, tmp_path):
    def call(source, *options):
        return run("import", "dicom", source, "-d", "Clinic", "--root", tmp_path, *options)

    return call


def test_studies_with_masks_become_a_dataset(source, import_dicom, tmp_path):
    code, _, err = import_dicom(source)
    assert code == 0, err
    target = tmp_path / "autoseg_raw" / "Clinic"
    dataset = open_dataset(target, "Clinic")
    assert (dataset.channels, dataset.labels) == (("FLAIR", "T1"), {"background": 0, "lesion": 1})
    assert [case.id for case in dataset.cases] == ["ann_1", "ann_2", "bob"]
    assert [case.group for case in dataset.cases] == ["patient_1", "patient_1", None]
    assert dataset.left_out["cat"].startswith("has no label")
    for seed, case in enumerate(dataset.cases):
        image, label = read_case(dataset, case)
        assert np.array_equal(image.voxels[0], RAMP)
        assert np.array_equal(image.voxels[1], RAMP[::-1])
        assert np.array_equal(label.voxels, make_mask(seed)), case.id
    assert [path.name for path in target.parent.iterdir()] == ["Clinic"]
    for path in (path for path in target.rglob("*") if path.is_file()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert not [s for s in (NAME, "Quixote", NUMBER, BIRTH, "55512") if s.encode() in content], path


def test_channels_are_those_that_are_named(source, import_dicom, tmp_path):
    code, _, err = import_dicom(source, "--channel", "anatomy=*mprage*")
    assert code == 0, err
    described = json.loads((tmp_path / "autoseg_raw" / "Clinic" / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "anatomy"}
    voxels, _ = read_voxels(tmp_path / "autoseg_raw" / "Clinic" / "imagesTr" / "bob_0000.nii.gz")
    assert np.array_equal(voxels, RAMP[::-1])


def test_a_bad_study_stops_the_import_and_can_be_skipped(source, import_dicom, tmp_path):
    [first, *_] = sorted((source / "ann_1" / "flair").iterdir())
    first.write_bytes(first.read_bytes()[:300])
    write_voxels(source / "bob" / "bob_seg.nii.gz", make_mask(2), GRID)
    code, _, err = import_dicom(source)
    assert code == 2
    assert "ann_1/flair/IM0001" in err
    assert "several files may be its label (bob_mask.nii.gz, bob_seg.nii.gz)" in err
    assert not list((tmp_path / "autoseg_raw").iterdir())
    code, _, err = import_dicom(source, "--skip-bad")
    assert code == 0, err
    dataset = open_dataset(tmp_path / "autoseg_raw" / "Clinic", "Clinic")
    assert [case.id for case in dataset.cases] == ["ann_2"]
    assert sorted(dataset.left_out) == ["ann_1", "bob", "cat"]


def test_a_mask_is_placed_only_where_its_voxels_are_the_scans(tmp_path):
    mask = make_mask(0)
    for transpose, flips in [((0, 1, 2), (False, True, False)), ((2, 0, 1), (True, True, False))]:
        assert np.array_equal(place_mask(*turned(mask, GRID, transpose, flips), GRID), mask)
    shifted = GRID.model_copy(update={"origin": tuple(np.add(GRID.origin, (0.5, 0, 0)).tolist())})
    coarser = GRID.model_copy(update={"spacing": (3.0, 3.0, 2.5)})
    beyond = GRID.model_copy(update={"origin": tuple(np.add(GRID.origin, (1.25 * 4, 0, 0)).tolist())})
    assert [place_mask(mask, grid, GRID) for grid in (shifted, coarser, beyond)] == [None, None, None]


def test_a_folder_of_dicom_is_never_read_in_place(source, run, tmp_path):
    assert not IMPORTER.recognises(source)
    (tmp_path / "autoseg_raw").mkdir()
    source.rename(tmp_path / "autoseg_raw" / "Clinic")
    code, _, err = run("plan", "-d", "Clinic", "--root", tmp_path)
    assert (code, "autoseg_import dicom" in err) == (2, True)
