"""Class probabilities: cropping, and the file, in today's form and in those of version 0.1."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.errors import ModelError
from autoseg.core.images import read_voxels
from autoseg.core.probabilities import ClassProbabilities, join_boxes, read_probabilities, write_probabilities
from autoseg.core.records import Outputs

CLASSES = Outputs(names=("background", "lesion"), values=(0, 1), overlap=False)
REGIONS = Outputs(names=("whole", "core"), values=(1, 2), overlap=True)
VERSION_0_1 = Path(__file__).parent.parent / "version_0_1" / "state.tar.xz"


@pytest.mark.parametrize("overlap", [False, True])
def test_a_box_gives_back_what_is_worth_keeping(overlap):
    whole = np.zeros((2, 5, 6, 7), np.float16)
    if not overlap:
        whole[0] = 1
    whole[:, 2:4, 1, 3:5] = 0.5
    whole[1, 0, 0, 0] = 5e-5  # negligible
    cropped = ClassProbabilities.cropped(whole, REGIONS if overlap else CLASSES)
    assert cropped.box == ((2, 4), (1, 2), (3, 5))
    assert cropped.voxels.shape == (2, 2, 1, 2)
    again = cropped.within(((0, 5), (0, 6), (0, 7)))
    whole[1, 0, 0, 0] = 0
    assert np.array_equal(again, whole)


def test_nothing_at_all_is_an_empty_box():
    whole = np.zeros((2, 3, 3, 3), np.float16)
    whole[0] = 1
    cropped = ClassProbabilities.cropped(whole, CLASSES)
    assert cropped.voxels.size == 0
    assert cropped.within(((0, 1), (0, 1), (0, 1))).ravel().tolist() == [1, 0]


def test_boxes_are_joined_with_a_margin_within_the_scan():
    empty = ((0, 0), (0, 0), (0, 0))
    assert join_boxes([empty, empty], (4, 4, 4)) == ((0, 1), (0, 1), (0, 1))
    joined = join_boxes([empty, ((1, 2), (3, 4), (0, 1)), ((2, 3), (1, 2), (0, 1))], (4, 9, 9), margin=2)
    assert joined == ((0, 4), (0, 6), (0, 3))


@pytest.mark.parametrize("outputs", [CLASSES, REGIONS])
@pytest.mark.parametrize("form", [ClassProbabilities.whole, ClassProbabilities.cropped])
def test_a_file_gives_back_what_was_written(tmp_path, form, outputs):
    whole = np.zeros((2, 5, 6, 7), np.float16)
    if not outputs.overlap:
        whole[0] = 1
    whole[:, 2:4, 1, 3:5] = 0.5
    written = form(whole, outputs)
    write_probabilities(tmp_path / "a.npz", written)
    stored = read_probabilities(tmp_path / "a.npz", advice="")

    assert (stored.box, stored.shape, stored.outputs) == (written.box, (5, 6, 7), outputs)
    assert np.array_equal(stored.voxels, written.voxels)
    assert np.array_equal(stored.within(((0, 5), (0, 6), (0, 7))), whole)


def test_a_damaged_file_is_named_with_advice(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"a\.npz is missing or damaged .*; predict it again"):
        read_probabilities(tmp_path / "a.npz", advice="predict it again")


@pytest.mark.parametrize(
    "name", ["expected/3d/new", "autoseg_results/Tiny/3d/fold_0/validation/case2"], ids=["whole", "cropped"]
)
def test_files_of_version_0_1_are_read(tmp_path, name):
    """The more probable class is that of the mask beside the file, but for rounding to half precision."""
    with tarfile.open(VERSION_0_1) as archive:
        for ending in (".npz", ".nii.gz"):
            archive.extract(f"./{name}{ending}", tmp_path, filter="data")
    stored = read_probabilities(tmp_path / f"{name}.npz", advice="")
    mask = read_voxels(tmp_path / f"{name}.nii.gz")[0]

    assert stored.outputs.values == (0, 1)
    assert stored.shape == mask.shape
    whole = stored.within(tuple((0, size) for size in stored.shape))
    assert np.count_nonzero((whole[1] > whole[0]) != (mask == 1)) <= 2
    assert mask.any()
