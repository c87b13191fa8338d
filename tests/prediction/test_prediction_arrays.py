"""A scan in memory gets the mask that the command writes for the same voxels in a file."""

import shutil

import numpy as np
import pytest

from autoseg.core.errors import DataError
from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import BestModel, Grid, PostProcessing
from autoseg.core.store import write_record
from autoseg.prediction import open_model

SAGITTAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0))  # axes of the array: left, down, forward


def write_scan(root, folder, *, direction=None):
    """The first case of the dataset, stored with its array axes in another order; (C,Z,Y,X) and its spacing."""
    source = root / "autoseg_raw" / "Tiny" / "imagesTr"
    voxels = np.stack([read_voxels(source / f"case0_{channel:04d}.nii.gz")[0] for channel in (0, 1)])
    spacing = (2.0, 1.0, 1.0)
    if direction is not None:
        voxels, spacing = np.ascontiguousarray(voxels.transpose(0, 3, 1, 2)[:, :, ::-1, ::-1]), (1.0, 2.0, 1.0)
    grid = {"shape": voxels.shape[1:], "spacing": spacing} | ({"direction": direction} if direction else {})
    for channel in (0, 1):
        write_voxels(folder / f"a_{channel:04d}.nii.gz", voxels[channel], Grid(**grid))
    return voxels, spacing


@pytest.mark.parametrize("direction", [None, SAGITTAL])
def test_an_array_gets_the_mask_of_the_command(trained, run, tmp_path, direction):
    voxels, spacing = write_scan(trained, tmp_path / "scans", direction=direction)
    code, _, err = run("predict", "-i", tmp_path / "scans", "-o", tmp_path / "masks", "--root", trained, "-c", "3d")
    assert code == 0, err
    expected, _ = read_voxels(tmp_path / "masks" / "a.nii.gz")

    model = open_model(trained / "autoseg_results" / "Tiny" / "3d", None, "cpu")
    mask = model.predict(voxels, spacing=spacing, direction=direction)

    assert mask.dtype == np.uint8
    assert expected.any()
    assert np.array_equal(mask, expected)


def test_an_array_is_post_processed_as_the_command_does_it(trained, run, tmp_path):
    """A smallest lesion of one litre removes everything that the model by itself finds."""
    voxels, spacing = write_scan(trained, tmp_path / "scans")
    results = trained / "autoseg_results" / "Tiny"
    shutil.copytree(results / "3d", results / "best" / "3d")
    best = BestModel(dataset="Tiny", members=("3d",), postprocessing={"lesion": PostProcessing(smallest_lesion_ml=1e3)})
    write_record(results / "best" / "best.json", best)
    assert run("predict", "-i", tmp_path / "scans", "-o", tmp_path / "masks", "--root", trained)[0] == 0
    expected, _ = read_voxels(tmp_path / "masks" / "a.nii.gz")

    alone, finished = (
        open_model(folder, None, "cpu").predict(voxels, spacing=spacing)
        for folder in (results / "3d", results / "best")
    )

    assert alone.any()
    assert not finished.any()
    assert np.array_equal(finished, expected)


@pytest.mark.parametrize(
    ("change", "spacing", "message"),
    [
        (lambda voxels: voxels[0], (2, 1, 1), r"\(C,Z,Y,X\) with 2 channels \(FLAIR, T1\)"),
        (lambda voxels: voxels[:1], (2, 1, 1), "with 2 channels"),
        (lambda voxels: np.where(voxels > 150, np.nan, voxels), (2, 1, 1), "NaN or infinity"),
        (lambda voxels: voxels * np.array([1, 0]).reshape(2, 1, 1, 1), (2, 1, 1), "channel T1 are equal"),
        (lambda voxels: voxels, (0, 1, 1), "invalid spacing"),
        (lambda voxels: voxels, (1, 1), "invalid spacing"),
    ],
)
def test_an_array_that_is_not_a_scan_is_refused(trained, tmp_path, change, spacing, message):
    voxels, _ = write_scan(trained, tmp_path / "scans")
    model = open_model(trained / "autoseg_results" / "Tiny" / "3d", None, "cpu")
    with pytest.raises(DataError, match=message):
        model.predict(change(voxels), spacing=spacing)
