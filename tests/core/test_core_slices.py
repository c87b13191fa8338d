"""Volumes that lie on disk slice by slice."""

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.core.errors import DataError
from autoseg.core.images import list_files, read_grid, read_voxels


@pytest.fixture
def write_slices(tmp_path):
    """(numbers, colours) -> the name of slices 4 x 6, in which every pixel holds its slice's number and colour."""

    def write(numbers, colours=1):
        for number in numbers:
            pixels = np.full((4, 6, colours), 10 * number, np.uint8) + np.arange(colours, dtype=np.uint8)
            image = sitk.GetImageFromArray(pixels if colours > 1 else pixels[..., 0], isVector=colours > 1)
            sitk.WriteImage(image, str(tmp_path / f"head_{number}.tif"))
        return tmp_path / "head_%d.tif"

    return write


def test_slices_are_ordered_by_number_not_by_text(write_slices):
    path = write_slices(range(8, 13))
    assert [file.name for file in list_files(path)] == [f"head_{n}.tif" for n in (8, 9, 10, 11, 12)]
    voxels, grid = read_voxels(path)
    assert voxels[:, 0, 0].tolist() == [80, 90, 100, 110, 120]
    assert grid.shape == voxels.shape == (5, 4, 6)


def test_colours_are_the_volumes_of_slices(write_slices):
    path = write_slices((1, 2), colours=3)
    assert read_grid(path)[1] == 3
    assert [read_voxels(path, volume=colour)[0][:, 3, 5].tolist() for colour in range(3)] == [
        [10, 20],
        [11, 21],
        [12, 22],
    ]
    with pytest.raises(DataError, match="has a fourth axis of length 3"):
        read_voxels(path)


def test_other_files_are_no_slices(write_slices, tmp_path):
    path = write_slices((1, 2))
    for name in ("head_1_mask.tif", "head_x.tif", "head_3.tif.txt", "._head_3.tif"):
        (tmp_path / name).write_bytes(b"x")
    assert len(list_files(path)) == 2


def test_a_plain_file_is_itself(tmp_path):
    assert list_files(tmp_path / "scan.nii") == [tmp_path / "scan.nii"]


def test_missing_slices_are_named(write_slices, tmp_path):
    path = write_slices((1, 2, 5, 7))
    with pytest.raises(DataError, match=r"head_%d\.tif lacks slice 3 and 2 more of 1 to 7; copy it again"):
        read_grid(path)
    with pytest.raises(DataError, match=r"expected other_1\.tif, other_2\.tif"):
        read_grid(tmp_path / "other_%d.tif")


def test_a_slice_of_another_size_is_named(write_slices, tmp_path):
    path = write_slices((1, 2, 3))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(tmp_path / "head_2.tif"))
    with pytest.raises(DataError, match=r"head_2\.tif is 4x5 pixels \(y,x\), but the first slice beside it is 4x6"):
        read_voxels(path)


def test_a_damaged_slice_is_named(write_slices, tmp_path):
    path = write_slices((1, 2, 3))
    (tmp_path / "head_2.tif").write_bytes(b"")
    with pytest.raises(DataError, match=r"head_2\.tif is empty \(0 bytes\)"):
        read_voxels(path)
