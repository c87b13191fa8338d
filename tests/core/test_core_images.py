import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.core.errors import DataError, StorageError
from autoseg.core.images import file_ending, read_grid, read_voxels, resample_voxels, strip_ending, write_voxels
from autoseg.core.records import Grid

OBLIQUE = Grid(
    shape=(4, 5, 6),
    spacing=(3.0, 0.7, 0.9),
    origin=(-11.5, 20.25, 3.0),
    direction=((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (1.0, 0.0, 0.0)),
)


def nifti(path, voxels, *, spacing=(1, 1, 1), sform=None, qform_code=1, order="<"):
    """A NIfTI-1 file written field by field, to control what SimpleITK would tidy up."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    z, y, x = voxels.shape
    struct.pack_into(order + "8h", header, 40, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into(order + "2h", header, 70, 16, 32)
    struct.pack_into(order + "8f", header, 76, 1, *spacing[::-1], 0, 0, 0, 0)
    struct.pack_into(order + "3f", header, 108, 352, 1, 0)
    header[123] = 2
    struct.pack_into(order + "2h", header, 252, qform_code, 0 if sform is None else 1)
    if sform is not None:
        struct.pack_into(order + "12f", header, 280, *np.ravel(sform))
    header[344:348] = b"n+1\0"
    data = voxels.astype(np.dtype("f4").newbyteorder(order)).tobytes()
    path.write_bytes(gzip.compress(bytes(header) + data) if path.suffix == ".gz" else bytes(header) + data)
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_write_then_read_keeps_voxels_and_geometry(tmp_path, ending):
    voxels = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    write_voxels(tmp_path / f"a{ending}", voxels, OBLIQUE)
    back, grid = read_voxels(tmp_path / f"a{ending}")
    assert np.array_equal(back, voxels)
    assert grid.matches(OBLIQUE, tolerance_mm=1e-4)


def test_direction_columns_follow_the_array_axes(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.float32))
    image.SetSpacing((0.9, 0.7, 3.0))
    image.SetOrigin((1, 2, 3))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    grid, _ = read_grid(tmp_path / "a.mha")
    for index in [(0, 0, 0), (3, 4, 5), (1, 0, 2)]:
        expected = image.TransformIndexToPhysicalPoint(tuple(int(i) for i in index[::-1]))
        assert np.allclose(grid.to_world(np.array(index)), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_mask_copies_the_scan_header_bit_for_bit(tmp_path, order):
    rng = np.random.default_rng(0)
    sform = np.array([[0.123456, 1e-7, 0.01, -90.1], [0, 0.9999, 0.0001, -126.3], [0.02, 0, 1.1, -72.7]], np.float32)
    spacing = np.linalg.norm(sform[:, :3], axis=0)[::-1]
    scan = nifti(tmp_path / "scan.nii.gz", rng.random((4, 5, 6)), spacing=spacing, sform=sform, order=order)
    _, grid = read_voxels(scan, orientation="qform") if order == "<" else (None, OBLIQUE)
    mask = rng.integers(0, 3, (4, 5, 6)).astype(np.uint8)
    write_voxels(tmp_path / "mask.nii.gz", mask, grid, like=scan)
    written, source = gzip.decompress((tmp_path / "mask.nii.gz").read_bytes()), gzip.decompress(scan.read_bytes())
    for offset, form in ((76, "8f"), (252, "2h"), (256, "6f"), (280, "12f")):
        assert struct.unpack_from("<" + form, written, offset) == struct.unpack_from(order + form, source, offset)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mask.nii.gz"))), mask)


@pytest.mark.parametrize("name", ["a.nii.gz", "A.NII.GZ", "b.mha"])
def test_endings_in_either_case(tmp_path, name):
    assert file_ending(tmp_path / name) == name[1:].lower()
    assert strip_ending(tmp_path / name) == name[0]


def test_hidden_and_other_files_are_no_images(tmp_path):
    assert file_ending(tmp_path / "._a.nii.gz") is None
    assert file_ending(tmp_path / "a.json") is None


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"a\.nii\.gz does not exist"):
        read_voxels(tmp_path / "a.nii.gz")


def test_zero_byte_file(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(DataError, match=r"a\.nii\.gz is empty \(0 bytes\)"):
        read_voxels(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_gzip(tmp_path, share):
    path = nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).random((20, 30, 40)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"a\.nii\.gz"):
        read_voxels(path)


def test_truncated_plain_file(tmp_path):
    path = nifti(tmp_path / "a.nii", np.random.default_rng(0).random((20, 30, 40)))
    path.write_bytes(path.read_bytes()[:50000])
    with pytest.raises(DataError, match=r"a\.nii"):
        read_voxels(path)


def test_nan_voxels_are_counted(tmp_path):
    voxels = np.zeros((3, 4, 5), np.float32)
    voxels[0, 0, :2] = np.nan, np.inf
    with pytest.raises(DataError, match="2 voxels that are NaN or infinite"):
        read_voxels(nifti(tmp_path / "a.nii.gz", voxels))


def test_a_fourth_axis_needs_a_volume(tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.full((3, 4, 5), n, np.float32)) for n in (7, 8)])
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    with pytest.raises(DataError, match="fourth axis of length 2"):
        read_voxels(tmp_path / "a.nii.gz")
    voxels, grid = read_voxels(tmp_path / "a.nii.gz", volume=1)
    assert grid.shape == voxels.shape == (3, 4, 5)
    assert np.all(voxels == 8)
    with pytest.raises(DataError, match="volume 2 was requested"):
        read_voxels(tmp_path / "a.nii.gz", volume=2)


def test_a_fourth_axis_of_length_one_is_no_fourth_axis(tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.ones((3, 4, 5), np.float32))])
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    assert read_voxels(tmp_path / "a.nii")[0].shape == (3, 4, 5)


def test_colour_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(tmp_path / "a.mha"))
    with pytest.raises(DataError, match="several values"):
        read_voxels(tmp_path / "a.mha")


def test_two_spacings_in_one_header_are_reported(tmp_path):
    sform = np.diag([2.0, 2.0, 2.0, 1])[:3]
    path = nifti(tmp_path / "a.nii.gz", np.ones((3, 4, 5)), spacing=(1, 1, 1), sform=sform)
    with pytest.raises(DataError, match="states two spacings"):
        read_voxels(path)


def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    write_voxels(path, np.ones((3, 4, 5), np.uint8), OBLIQUE.model_copy(update={"shape": (3, 4, 5)}))
    before = path.read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(StorageError, match="disk is full"):
        write_voxels(path, np.zeros((3, 4, 5), np.uint8), OBLIQUE.model_copy(update={"shape": (3, 4, 5)}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_resampling_onto_a_finer_grid_interpolates_linearly():
    coarse = Grid(shape=(1, 1, 3), spacing=(1, 1, 2), origin=(0, 0, 0))
    fine = Grid(shape=(1, 1, 5), spacing=(1, 1, 1), origin=(0, 0, 0))
    values = np.array([[[0, 2, 4]]], np.float32)
    assert np.allclose(resample_voxels(values, coarse, fine), [[[0, 1, 2, 3, 4]]])


def test_the_scale_in_the_header_is_applied(tmp_path):
    path = nifti(tmp_path / "a.nii", np.arange(60.0).reshape(3, 4, 5))
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, 0.5, -3.0)
    path.write_bytes(content)
    voxels, _ = read_voxels(path)
    assert np.allclose(voxels, np.arange(60.0).reshape(3, 4, 5) * 0.5 - 3)
    assert np.allclose(voxels, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


@pytest.mark.parametrize("kind", [sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkFloat64])
def test_voxel_types_are_read_as_itk_reads_them(tmp_path, kind):
    image = sitk.Cast(sitk.GetImageFromArray(np.arange(60.0).reshape(3, 4, 5)), kind)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    voxels, _ = read_voxels(tmp_path / "a.nii.gz")
    assert voxels.dtype == sitk.GetArrayFromImage(image).dtype
    assert np.array_equal(voxels, sitk.GetArrayFromImage(image))
