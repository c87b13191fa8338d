"""The one reader: what it makes of good files, and what it says about each bad one."""

import re

import numpy as np
import pytest

from autoseg.core.errors import DataError
from autoseg.core.records import ChannelFile
from autoseg.datasets import open_dataset, read_case, read_image, read_label


def _read_first(folder, **changes):
    dataset = open_dataset(folder, "x").model_copy(update=changes)
    return read_case(dataset, dataset.cases[0])


def test_a_case_reads_as_float32_and_int16_on_the_scans_grid(make_nnunet, scan, blob):
    image, label = _read_first(make_nnunet())
    assert (image.voxels.dtype, label.voxels.dtype) == (np.float32, np.int16)
    np.testing.assert_array_equal(image.voxels, np.stack([scan(0), scan(1)]))
    np.testing.assert_array_equal(label.voxels, blob())
    assert image.grid.shape == (10, 20, 30)


def test_an_empty_label_is_legal(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    write_nifti(folder / "labelsTr" / "a.nii.gz", blob(0))
    assert not _read_first(folder)[1].voxels.any()


def test_a_case_without_label_reads_without(make_nnunet):
    dataset = open_dataset(make_nnunet(), "x")
    case = dataset.cases[0].model_copy(update={"labels": ()})
    assert read_case(dataset, case)[1] is None
    with pytest.raises(DataError, match="case a has no label"):
        read_label(dataset, case)


def test_a_mask_that_reads_just_below_one_is_rounded(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    write_nifti(folder / "labelsTr" / "a.nii.gz", blob(255), slope=0.99999997 / 255)
    np.testing.assert_array_equal(_read_first(folder)[1].voxels, blob(1))


def test_fractions_in_a_label_are_an_error_with_the_values(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    write_nifti(folder / "labelsTr" / "a.nii.gz", blob().astype(np.float32) * 0.35)
    with pytest.raises(DataError, match=r"case a: label .*a\.nii\.gz holds fractional values \(0\.35\)"):
        _read_first(folder)


def test_unexpected_label_values_are_listed_beside_the_known_ones(make_nnunet, write_nifti, blob):
    folder = make_nnunet(labels={"background": 0, "lesion": 1, "ignore": 2})
    label = blob(2)
    label[0, 0, :2] = (3, 7)
    write_nifti(folder / "labelsTr" / "a.nii.gz", label)
    with pytest.raises(DataError, match="unexpected values 3, 7; expected 0 background, 1 lesion, 2 ignore"):
        _read_first(folder)


def test_values_on_disk_become_the_datasets_values(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    write_nifti(folder / "labelsTr" / "a.nii.gz", blob(4).astype(np.int16))
    _, label = _read_first(folder, label_values={0: 0, 1: 1, 4: 3})
    np.testing.assert_array_equal(label.voxels, blob(3))
    with pytest.raises(DataError, match="unexpected values 4; expected 0, 1 on disk"):
        _read_first(folder, label_values={0: 0, 1: 1})


def test_a_threshold_makes_a_mask(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    soft = blob().astype(np.float32) * 0.6
    soft[0, 0, 0] = 0.4
    write_nifti(folder / "labelsTr" / "a.nii.gz", soft)
    np.testing.assert_array_equal(_read_first(folder, mask_threshold=0.5)[1].voxels, blob())


def test_several_label_files_are_united(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    other = blob(0)
    other[9, 19, 29] = 1
    dataset = open_dataset(folder, "x")
    case = dataset.cases[0]
    second = write_nifti(folder / "second.nii.gz", other)
    united = case.model_copy(update={"labels": (*case.labels, second)})
    assert read_label(dataset, united).voxels.sum() == 25
    write_nifti(second, other, (1, 1, 2))
    with pytest.raises(DataError, match="case a: its label files are on different grids"):
        read_label(dataset, united)


def test_a_channel_on_another_grid_names_both_grids_and_the_way_out(make_nnunet, write_nifti, scan):
    folder = make_nnunet()
    write_nifti(folder / "imagesTr" / "a_0001.nii.gz", scan(1, (10, 10, 15)), (2, 2, 1))
    with pytest.raises(DataError) as caught:
        _read_first(folder)
    message = str(caught.value)
    assert message.startswith("case a: channel T1 is not on the grid of channel FLAIR")
    assert "10x10x15 voxels (z,y,x) at 1x2x2 mm" in message and "10x20x30 voxels (z,y,x) at 1x1x1 mm" in message
    assert "--resample-channels" in message


def test_a_channel_is_resampled_when_asked(make_nnunet, write_nifti):
    folder = make_nnunet()
    ramp = np.broadcast_to(np.arange(15, dtype=np.float32) * 2, (10, 10, 15))
    write_nifti(folder / "imagesTr" / "a_0001.nii.gz", ramp, (2, 2, 1))
    image, _ = _read_first(folder, resample_channels=True)
    assert image.voxels.shape == (2, 10, 20, 30)
    np.testing.assert_allclose(image.voxels[1, 4, 8, :28], np.arange(28), atol=1e-4)


def test_a_label_on_another_grid_names_both_grids(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    write_nifti(folder / "labelsTr" / "a.nii.gz", blob(), (1, 1, 10))
    with pytest.raises(DataError, match=r"case a: the label is not on the image's grid.*at 10x1x1 mm.*at 1x1x1 mm"):
        _read_first(folder)


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_image_is_an_error(value, make_nnunet, write_nifti, scan):
    folder = make_nnunet()
    write_nifti(folder / "imagesTr" / "a_0001.nii.gz", np.full_like(scan(), value))
    with pytest.raises(DataError, match=rf"case a: all voxels of channel T1 are equal \({value}\) in .*a_0001"):
        _read_first(folder)


def _zero_bytes(path, write_nifti, scan):
    path.write_bytes(b"")


def _truncated(path, write_nifti, scan):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])


def _nan(path, write_nifti, scan):
    voxels = scan().astype(np.float32)
    voxels[1, 2, 3] = np.nan
    write_nifti(path, voxels)


def _four_axes(path, write_nifti, scan):
    write_nifti(path, np.stack([scan(), scan()]))


def _text(path, write_nifti, scan):
    path.write_text("this is no image\n" * 40)


def _broken_link(path, write_nifti, scan):
    path.unlink()
    path.symlink_to("gone.nii.gz")


@pytest.mark.parametrize("part", ["imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_zero_bytes, "is empty (0 bytes)"),
        (_truncated, "truncated or damaged"),
        (_nan, "holds 1 voxels that are NaN or infinite"),
        (_four_axes, "has a fourth axis of length 2"),
        (_text, "is not a NIfTI file, whatever its name"),
        (_broken_link, "does not exist (a link whose target is gone)"),
    ],
)
def test_a_damaged_file_is_named_with_its_case(part, damage, message, make_nnunet, write_nifti, scan):
    folder = make_nnunet()
    damage(folder / part, write_nifti, scan)
    with pytest.raises(DataError, match=rf"case a: .*{re.escape(part)}.*{re.escape(message)}"):
        _read_first(folder)


def test_a_wrong_number_of_channels_is_an_error(make_nnunet):
    path = make_nnunet() / "imagesTr" / "a_0000.nii.gz"
    with pytest.raises(DataError, match="case s has 1 channels; expected 2: FLAIR, T1"):
        read_image("s", [ChannelFile(path=path)], ["FLAIR", "T1"])


@pytest.mark.parametrize("white", [1, 255])
def test_a_mask_of_black_and_white_is_0_and_1(white, make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    write_nifti(folder / "labelsTr" / "a.nii.gz", blob(white))
    np.testing.assert_array_equal(_read_first(folder)[1].voxels, blob())


def test_255_beside_other_values_is_unexpected(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    label = blob(255)
    label[0, 0, 0] = 1
    write_nifti(folder / "labelsTr" / "a.nii.gz", label)
    with pytest.raises(DataError, match="unexpected values 255; expected 0 background, 1 lesion"):
        _read_first(folder)


def test_a_soft_mask_of_0_to_255_is_cut_at_the_same_share(make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    soft = blob(255).astype(np.float32)
    soft[0, 0, :2] = (127, 128)
    write_nifti(folder / "labelsTr" / "a.nii.gz", soft)
    found = _read_first(folder, mask_threshold=0.5)[1].voxels
    assert found[0, 0, :2].tolist() == [0, 1] and found.sum() == 25


@pytest.mark.parametrize(("value", "stated"), [(7, "from 0 to 7"), (-1, "from -1 to 0")])
def test_what_is_no_mask_is_not_cut(value, stated, make_nnunet, write_nifti, blob):
    folder = make_nnunet()
    write_nifti(folder / "labelsTr" / "a.nii.gz", blob().astype(np.int16) * value)
    with pytest.raises(DataError, match=rf"case a: label .* holds values {stated}; a mask holds 0 to 1, or 0 to 255"):
        _read_first(folder, mask_threshold=0.5)
