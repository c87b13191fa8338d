"""Slices as cases: which are cut, along which axis, where they lie, and what is refused."""

import json

import numpy as np
import pytest

from autoseg.core.errors import CasesError, UsageError
from autoseg.core.images import read_grid, read_voxels
from autoseg.core.records import Grid, Image, Label
from autoseg.datasets import open_dataset, read_case
from autoseg.datasets.slicing import choose_slices, find_slice_axis, slice_dataset
from autoseg.options import SliceOptions


def make_options(**changes):
    return SliceOptions(dataset="Brain", into="Cut", **changes)


@pytest.fixture
def cut(make_nnunet, tmp_path):
    """Slice the dataset of three cases of 10 x 20 x 30 voxels, with a lesion in slices 2 and 3 of each."""

    def call(source=None, **wanted):
        source = source or make_nnunet(groups={"a": "p1", "b": "p1"})
        dataset = open_dataset(source, "Brain")
        target = tmp_path / "cut"
        slice_dataset(dataset, target, "Cut", make_options(**wanted), workers=1, progress=lambda *_: None)
        return open_dataset(target, "Cut")

    return call


def test_every_slice_becomes_a_case_with_its_voxels(cut, scan, blob):
    made = cut()
    assert len(made.cases) == 30
    assert made.channels == ("FLAIR", "T1")
    case = next(case for case in made.cases if case.id == "b_s003")
    image, label = read_case(made, case)
    np.testing.assert_array_equal(image.voxels[1, 0], scan(11)[3])
    np.testing.assert_array_equal(label.voxels[0], blob()[3])


def test_a_slice_lies_where_it_lay_in_the_scan(cut):
    made = cut()
    first, fourth = (read_grid(case.channels[0].path)[0] for case in made.cases[0:4:3])
    moved = np.subtract(fourth.origin, first.origin)
    np.testing.assert_allclose(moved, (0, 0, 3), atol=1e-5)


def test_patients_are_not_kept_together_unless_asked_for(cut):
    assert {case.group for case in cut().cases} == {None}


def test_patients_are_kept_together_where_asked_for(cut):
    assert {case.group for case in cut(keep_patients=True).cases} == {"p1", "c"}


def test_lesion_slices_alone(cut):
    assert [case.id for case in cut(lesion=True).cases][:3] == ["a_s002", "a_s003", "b_s002"]


def test_the_new_dataset_says_what_it_is(cut, tmp_path):
    cut()
    facts = json.loads((tmp_path / "cut" / "dataset.json").read_text())
    assert facts["imported_from"] == "slices of Brain, patients not kept together"


def test_no_slice_at_all_is_refused_and_nothing_is_left(cut, tmp_path):
    with pytest.raises(UsageError, match="no slice of Brain is left; select all slices or a smaller margin"):
        cut(margin=(5, 5))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_target_that_exists_is_refused(cut, make_nnunet, tmp_path):
    (tmp_path / "cut").mkdir()
    with pytest.raises(UsageError, match="already exists; remove it, or choose another name with --into"):
        cut()


def test_a_volume_that_cannot_be_read_is_named_and_nothing_is_written(cut, make_nnunet, tmp_path):
    source = make_nnunet()
    (source / "imagesTr" / "b_0001.nii.gz").write_bytes(b"no image")
    with pytest.raises(CasesError, match=r"1 of 3 cases failed while slicing; nothing was written:\n  b: "):
        cut(source)
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize(("spacing", "axis"), [((5.0, 1.0, 1.0), 0), ((1.0, 1.0, 4.0), 2), ((1.0, 1.0, 1.0), 0)])
def test_slices_run_along_the_coarsest_axis(spacing, axis):
    assert find_slice_axis(Grid(shape=(3, 4, 5), spacing=spacing)) == axis


def test_of_equal_axes_the_one_from_foot_to_head_is_taken():
    sagittal = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))  # array axes run along x, z, y
    assert find_slice_axis(Grid(shape=(3, 4, 5), spacing=(1.0, 1.0, 1.0), direction=sagittal)) == 1


def test_blank_slices_and_margins_are_left_out():
    grid = Grid(shape=(6, 2, 2), spacing=(2.0, 1.0, 1.0))
    voxels = np.random.default_rng(0).random((2, 6, 2, 2)).astype(np.float32)
    voxels[1, 2] = 7.0  # constant in one channel
    label = np.zeros((6, 2, 2), np.uint8)
    label[3:5] = 1
    image, mask = Image(grid=grid, voxels=voxels), Label(grid=grid, voxels=label)
    assert choose_slices(image, mask, 0, make_options()) == [0, 1, 3, 4, 5]
    assert choose_slices(image, mask, 0, make_options(margin=(1, 1))) == [1, 3, 4]
    assert choose_slices(image, mask, 0, make_options(lesion=True, margin=(0, 2))) == [3]


def test_the_files_are_single_slices(cut):
    voxels, _ = read_voxels(cut().cases[0].labels[0])
    assert voxels.shape == (1, 20, 30)
