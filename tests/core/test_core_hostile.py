"""Files that lie: a header that contradicts itself or its file is one sentence, and costs little."""

import gzip
import os
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.core import image_files, image_reader
from autoseg.core.errors import DataError
from autoseg.core.image_reader import READER
from autoseg.core.images import read_grid, read_voxels, stated_unit, states_orientation, write_voxels
from autoseg.core.records import Grid

VOXELS = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
SIZES, CODES, SROW = 40, 252, 280
STRAIGHT = [[-1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 1, 7]]


def nifti_bytes(*changes, sform=None, qform_code=1, sform_code=1, voxels=VOXELS):
    """A NIfTI-1 file; ``changes`` are (offset, format, *values)."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    z, y, x = voxels.shape
    struct.pack_into("<8h", header, SIZES, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    header[123] = 2
    struct.pack_into("<2h6f", header, CODES, qform_code, 0 if sform is None else sform_code, 0, 0, 1, 5, 6, 7)
    if sform is not None:
        struct.pack_into("<12f", header, SROW, *np.ravel(sform))
    header[344:348] = b"n+1\0"
    for offset, form, *values in changes:
        struct.pack_into("<" + form, header, offset, *values)
    return bytes(header) + voxels.astype("<f4").tobytes()


@pytest.fixture
def nifti(tmp_path):
    def write(*changes, name="a.nii", tail=b"", **options):
        path = tmp_path / name
        path.write_bytes(nifti_bytes(*changes, **options) + tail)
        return path

    return write


# ------------------------------------------------------------------------------------------------ NIfTI


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((SIZES, "h", 0), "states 0 axes"),
        ((SIZES + 4, "h", -4), "states 3 axes of 5x-4x3 voxels"),
        ((70, "h", 32), "NIfTI data type 32, which cannot be read"),
        ((72, "h", 16), r"data type 16 \(32 bits\) and 16 bits a voxel"),
        ((80, "f", 0.0), "spacing of 0 x 1 x 1"),
        ((80, "f", float("nan")), "spacing of nan x 1 x 1"),
        ((80, "f", -1.0), "spacing of -1 x 1 x 1"),
        ((108, "f", float("inf")), "voxels begin at byte inf"),
        ((108, "f", float("nan")), "voxels begin at byte nan"),
        ((108, "f", -1.0), "voxels begin at byte -1"),
        ((108, "f", 336.0), "voxels begin at byte 336"),
        ((108, "f", 356.0), "is truncated"),
        ((112, "f", float("inf")), "scales its values by inf"),
        ((112, "2f", 2.0, float("nan")), "scales its values by 2 and adds nan"),
        ((256, "f", float("nan")), r"invalid orientation \(qform\)"),
        ((256, "f", 5.0), r"invalid orientation \(qform\)"),
        ((SIZES, "8h", 3, 30000, 30000, 30000, 1, 1, 1, 1), "more than the 4 GB"),
        ((SIZES, "8h", 3, 500, 500, 500, 1, 1, 1, 1), "is truncated"),
        ((SIZES + 6, "h", 2), "holds more slices than its header states|bytes more than its header states"),
        ((344, "4s", b"ni1"), r"header of a pair of files"),
        ((344, "4s", b"xxx"), "is not a NIfTI file"),
        ((0, "i", 12), "is not a NIfTI file"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_cannot_be_is_one_sentence(nifti, change, message, name):
    path = nifti(change, name=name)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{name} .*({message})"):
        read_voxels(path)


def test_zeros_that_pad_a_file_are_no_voxels(nifti):
    assert np.array_equal(read_voxels(nifti(tail=bytes(8)))[0], VOXELS)


def test_an_offset_before_its_extension_does_not_shift_voxels(nifti):
    empty = np.zeros_like(VOXELS)  # so that zeros move in at the end
    path = nifti((348, "4s", b"\1\0\0\0"), voxels=empty)
    content = path.read_bytes()
    extension = struct.pack("<2i8x", 16, 6)
    path.write_bytes(content[:352] + extension + content[352:])
    with pytest.raises(DataError, match="16 bytes more than its header states"):
        read_voxels(path)
    path.write_bytes(nifti_bytes((348, "4s", b"\1\0\0\0"), (108, "f", 368.0))[:352] + extension + content[352:])
    assert not read_voxels(path)[0].any()


def test_nan_as_slope_means_not_scaled(nifti):
    assert np.array_equal(read_voxels(nifti((112, "2f", float("nan"), float("nan"))))[0], VOXELS)


@pytest.mark.parametrize("name", ["plain.nii.gz", "packed.nii"])
def test_compression_is_known_by_its_bytes_not_by_the_name(nifti, name):
    path = nifti(name=name)
    if name.startswith("packed"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(read_voxels(path)[0], VOXELS)


def test_members_of_a_gzip_are_joined_and_checked(nifti):
    path = nifti(name="a.nii.gz")
    content = path.read_bytes()
    members = [gzip.compress(content[i : i + 64]) for i in range(0, len(content), 64)]
    path.write_bytes(b"".join(members) + bytes(512))
    assert np.array_equal(read_voxels(path)[0], VOXELS)
    damaged = bytearray(b"".join(members))
    damaged[-6] ^= 1  # a checksum
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="truncated or damaged"):
        read_voxels(path)


def test_a_gzip_with_too_many_members_is_refused(nifti, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_MEMBERS", 10)
    path = nifti(name="a.nii.gz")
    path.write_bytes(gzip.compress(b"") * 11 + gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match="more than 10 gzip members"):
        read_voxels(path)


def test_a_gzip_is_inflated_no_further_than_its_header_states(nifti, monkeypatch):
    path = nifti(name="a.nii.gz")
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(2**26)))
    inflated = []
    inflate = image_files.inflate
    monkeypatch.setattr(image_files, "inflate", lambda file: (inflated.append(len(c)) or c for c in inflate(file)))
    with pytest.raises(DataError, match="holds more slices than its header states"):
        read_voxels(path)
    assert sum(inflated) < 2**22


def test_nifti_2_is_read(tmp_path):
    header = bytearray(544)
    struct.pack_into("<i8s2h8q", header, 0, 540, b"n+2\0\r\n\x1a\n", 16, 32, 3, 5, 4, 3, 1, 1, 1, 1)
    struct.pack_into("<8dq2d", header, 104, 1, 2, 2, 4, 0, 0, 0, 0, 544, 1, 0)
    struct.pack_into("<2i6d", header, 344, 1, 0, 0, 0, 1, 5, 6, 7)
    struct.pack_into("<i", header, 500, 2)
    (tmp_path / "a.nii").write_bytes(bytes(header) + VOXELS.tobytes())
    voxels, grid = read_voxels(tmp_path / "a.nii")
    assert np.array_equal(voxels, VOXELS)
    assert (grid.spacing, grid.origin) == ((4, 2, 2), (-5, -6, 7))
    write_voxels(tmp_path / "mask.nii.gz", VOXELS.astype(np.uint8), grid, like=tmp_path / "a.nii")
    mask, same = read_voxels(tmp_path / "mask.nii.gz")
    assert (mask.dtype, same) == (np.uint8, grid)
    assert np.allclose(sitk.ReadImage(str(tmp_path / "mask.nii.gz")).GetOrigin(), grid.origin)


# ------------------------------------------------------------------------------------------- geometry


def turned(degrees):
    """Rows of an sform that is turned about the z axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [[-cos, sin, 0, 5], [-sin, -cos, 0, 6], [0, 0, 1, 7]]


@pytest.mark.parametrize(
    "sform", [turned(25), [[1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 1, 7]], [*STRAIGHT[:2], [0, 0, 1, 15]]]
)
def test_two_geometries_are_refused_unless_one_is_chosen(nifti, sform):
    path = nifti(sform=sform, sform_code=2)
    with pytest.raises(
        DataError, match=r"states two geometries, .* mm apart: its qform 3x4x5 .*; its sform 3x4x5 .*--ori"
    ):
        read_voxels(path)
    qform, chosen = (read_voxels(path, orientation=form)[1] for form in ("qform", "sform"))
    assert qform.origin == (-5, -6, 7)
    rows = np.array(sform)
    assert np.allclose(chosen.to_world(np.array([2, 3, 1])), np.diag([-1, -1, 1]) @ rows @ [1, 3, 2, 1], atol=1e-5)


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (4, 4)])
def test_forms_that_differ_by_rounding_are_one_geometry_itks(nifti, codes):
    path = nifti((CODES, "2h", *codes), sform=[*STRAIGHT[:2], [0, 0, 1, 7.05]])
    assert read_grid(path)[0].origin == sitk.ReadImage(str(path)).GetOrigin()


@pytest.mark.parametrize(("codes", "origin"), [((0, 2), (-50, -6, 7)), ((1, 0), (-5, -6, 7))])
def test_the_form_that_has_a_code_counts(nifti, codes, origin):
    path = nifti((CODES, "2h", *codes), sform=[[-1, 0, 0, 50], *STRAIGHT[1:]])
    assert read_grid(path)[0].origin == origin
    assert np.allclose(sitk.ReadImage(str(path)).GetOrigin(), origin)


def test_a_header_without_orientation_is_known(nifti):
    path = nifti(qform_code=0)
    assert not states_orientation(path)
    assert states_orientation(nifti(name="b.nii"))
    grid, itk = read_grid(path)[0], sitk.ReadImage(str(path))
    assert np.allclose(np.array(grid.direction)[:, ::-1].ravel(), itk.GetDirection())
    assert np.allclose(grid.origin, itk.GetOrigin())


def test_sheared_axes_are_refused_alone_and_when_chosen(nifti):
    shear = [[-1, 0.2, 0, 5], [0, -np.sqrt(0.96), 0, 6], [0, 0, 1, 7]]
    with pytest.raises(DataError, match=r"has sheared axes \(sform: 78\.5 degrees apart"):
        read_grid(nifti(sform=shear, qform_code=0))
    path = nifti(sform=shear)
    with pytest.raises(DataError, match="sheared"):
        read_grid(path, orientation="sform")
    assert read_grid(path, orientation="qform")[0].origin == (-5, -6, 7)


@pytest.mark.parametrize("seed", range(20))
def test_grids_are_itks(nifti, seed):
    rng = np.random.default_rng(seed)
    quaternion = rng.normal(size=4)
    b, c, d = (quaternion / np.linalg.norm(quaternion) * np.sign(quaternion[0]))[1:]
    path = nifti(
        (76, "4f", rng.choice([-1, 1]), *rng.uniform(0.5, 3, 3)), (CODES, "2h6f", 1, 0, b, c, d, *rng.normal(0, 90, 3))
    )
    grid, itk = read_grid(path)[0], sitk.ReadImage(str(path))
    assert grid.spacing == itk.GetSpacing()[::-1]
    assert np.allclose(grid.origin, itk.GetOrigin())
    assert np.allclose(np.array(grid.direction)[:, ::-1].ravel(), itk.GetDirection(), atol=1e-5)


@pytest.mark.parametrize(
    ("code", "unit", "spacing"), [(1, "metre", 1000), (2, None, 1), (3, "micron", 1e-3), (0, None, 1)]
)
def test_units_are_read(nifti, code, unit, spacing):
    path = nifti((123, "B", code))
    assert stated_unit(path) == unit
    assert read_grid(path)[0].spacing == pytest.approx((spacing,) * 3)


def test_what_differs_between_grids_is_in_words():
    straight = Grid(shape=(3, 4, 5), spacing=(1, 1, 1))
    cos, sin = np.cos(np.radians(25)), np.sin(np.radians(25))
    oblique = straight.model_copy(update={"direction": ((0.0, -sin, cos), (0.0, cos, sin), (1.0, 0.0, 0.0))})
    mirrored = straight.model_copy(update={"direction": ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))})
    assert straight.describe().endswith("origin (0, 0, 0), axes to S, P, L")
    assert oblique.describe().endswith("axes to S, P, L (25 degrees off)")
    assert straight.describe_difference(oblique).startswith("axes turned by 25 degrees, corners up to ")
    assert straight.describe_difference(mirrored) == "axes mirrored, corners up to 8 mm apart"


# ------------------------------------------------------------------------------------- MetaImage, NRRD, TIFF


def rewrite(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


META = [
    (b"NDims = 3", b"NDims = 999999999", "states NDims 999999999"),
    (b"DimSize = 5 4 3", b"DimSize = 5 4 2", "holds more voxels than its header states"),
    (b"DimSize = 5 4 3", b"DimSize = 5 4 30", "is truncated"),
    (b"DimSize = 5 4 3", b"DimSize = 5 4 -3", "states DimSize 5 4 -3"),
    (b"DimSize = 5 4 3", b"DimSize = 5 4", "states DimSize 5 4, not 3 whole numbers"),
    (b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1 0", "ElementSpacing 1 1 0, not 3 positive numbers"),
    (b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1 nan", "ElementSpacing 1 1 nan, not 3 positive numbers"),
    (b"CenterOfRotation = 0 0 0", b"CenterOfRotation = " + b"0 " * 2500, "a field that is too long"),
    (b"Offset = 0 0 0", b"Offset = 0 0 x", "states Offset 0 0 x, not 3 numbers"),
    (b"ElementType = MET_FLOAT", b"ElementType = MET_OTHER", "states ElementType MET_OTHER"),
    (b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd", "only one file in its own folder is read"),
    (b"ElementDataFile = LOCAL", b"ElementDataFile = ../x.raw", "only one file in its own folder is read"),
    (b"ElementDataFile = LOCAL", b"ElementDataFile = x%03d.raw 1 3 1", "only one file in its own folder is read"),
    (b"NDims = 3", b"NDims = 3\nNDims = 3", "states NDims twice"),
    (b"NDims = 3", b"NDims", "has a header line without '='"),
]
NRRD = [
    (b"sizes: 5 4 3", b"sizes: 5 4 2", "holds more voxels than its header states"),
    (b"sizes: 5 4 3", b"sizes: 5 4 30", "is truncated"),
    (b"sizes: 5 4 3", b"sizes: 5 4 99999999", "not from 1 to"),
    (b"dimension: 3", b"dimension: 16", "states dimension 16"),
    (b"type: float", b"type: block", "states type block"),
    (b"encoding: raw", b"encoding: hex", "states encoding hex"),
    (b"encoding: raw", b"encoding: raw\ndata file: /etc/passwd", "only one file in its own folder is read"),
    (b"space origin: (0,0,0)", b"space origin: (0,nan,0)", "states space origin 0 nan 0"),
    (b"space origin: (0,0,0)", b"space origin: (0,0,0)(", "states space origin"),
    (b"NRRD0004", b"NRRD9999", "is not an NRRD file"),
]


@pytest.mark.parametrize(("old", "new", "message"), META, ids=range(len(META)))
def test_a_meta_image_that_lies(tmp_path, old, new, message):
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    rewrite(path, old, new)
    with pytest.raises(DataError, match=message):
        read_voxels(path)


@pytest.mark.parametrize(("old", "new", "message"), NRRD, ids=range(len(NRRD)))
def test_an_nrrd_that_lies(tmp_path, old, new, message):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    rewrite(path, old, new)
    with pytest.raises(DataError, match=message):
        read_voxels(path)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".tif"])
@pytest.mark.parametrize("compressed", [False, True])
def test_honest_files_pass(tmp_path, ending, compressed):
    path = tmp_path / f"a{ending}"
    voxels = VOXELS.astype(np.uint16)[: 1 if ending == ".tif" else 3]
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=compressed)
    assert np.array_equal(read_voxels(path)[0], voxels)


def test_a_compressed_file_that_holds_less_or_more_than_it_states(tmp_path):
    for old, new, message in (META[1], (b"DimSize = 5 4 3", b"DimSize = 5 4 4", "is truncated")):
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / "a.mha"), useCompression=True)
        rewrite(tmp_path / "a.mha", old, new)
        with pytest.raises(DataError, match=message):
            read_voxels(tmp_path / "a.mha")


def test_a_tiff_that_lies(tmp_path):
    path = tmp_path / "a.tif"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS[0].astype(np.uint16)), str(path))
    content = path.read_bytes()
    at = struct.unpack_from("<I", content, 4)[0]
    tags = {struct.unpack_from("<H", content, at + 2 + 12 * n)[0]: at + 2 + 12 * n for n in range(content[at])}
    for tag, value, message in (
        (256, 60000, "holds .* bytes of them"),
        (257, 0, "a page of"),
        (273, 10**6, "truncated"),
    ):
        damaged = bytearray(content)
        struct.pack_into("<HI", damaged, tags[tag] + 2, 4, 1)
        struct.pack_into("<I", damaged, tags[tag] + 8, value)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            read_voxels(path)
    circle = bytearray(content)
    struct.pack_into("<I", circle, at + 2 + 12 * content[at], at)
    path.write_bytes(circle)
    with pytest.raises(DataError, match="lists its pages in a circle"):
        read_voxels(path)
    damaged = bytearray(content)
    struct.pack_into("<H", damaged, tags[278] + 2, 99)  # rows a strip, in a type that does not exist
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"cannot be read \(its header is damaged\); copy it again"):
        read_voxels(path)


# ----------------------------------------------------------------------------------------------- the disk


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd", ".tif"])
def test_a_pipe_a_folder_and_a_loop_are_no_scans(tmp_path, ending):
    pipe, folder, loop = (tmp_path / f"{name}{ending}" for name in ("pipe", "folder", "loop"))
    os.mkfifo(pipe)
    folder.mkdir()
    loop.symlink_to(loop)
    for path, message in ((pipe, "is a pipe"), (folder, "is a folder"), (loop, "its links lead back to it")):
        with pytest.raises(DataError, match=message):
            read_voxels(path)  # a pipe without a writer would block for ever


def test_a_data_file_that_is_a_pipe(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    os.mkfifo(tmp_path / "a.raw")
    with pytest.raises(DataError, match=r"a\.raw is a pipe"):
        read_voxels(tmp_path / "a.mhd")


def test_a_name_that_is_not_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.nii")
    path.write_bytes(nifti_bytes())
    with pytest.raises(DataError, match=r"caf.\.nii has a name that is not UTF-8; rename it"):
        read_voxels(path)


def test_a_file_whose_name_looks_like_numbered_slices(nifti):
    assert read_voxels(nifti(name="dose%d.nii"))[1].shape == (3, 4, 5)


# ------------------------------------------------------------------------------------------ the reading process


@pytest.fixture
def meta_image(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / "a.mha"))
    return tmp_path / "a.mha"


def test_a_reader_that_dies_costs_one_file(meta_image):
    assert np.array_equal(read_voxels(meta_image)[0], VOXELS)
    first = READER.process
    first.kill()
    first.wait()
    assert np.array_equal(read_voxels(meta_image)[0], VOXELS)
    assert READER.process is not first


def test_a_reader_that_dies_while_it_reads_is_one_sentence(meta_image, monkeypatch):
    read_grid(meta_image)
    monkeypatch.setattr(image_reader, "LEAST_S", 0.0)  # the time limit kills it at once
    monkeypatch.setattr(image_reader, "BYTES_PER_S", 1e12)
    os.kill(READER.process.pid, 19)  # stopped: it will not answer in time
    with pytest.raises(DataError, match=r"a\.mha (took too long to read|ended the process)"):
        read_voxels(meta_image)
    monkeypatch.undo()
    assert np.array_equal(read_voxels(meta_image)[0], VOXELS)


def test_the_reader_serves_one_file_after_the_other(meta_image):
    read_voxels(meta_image)
    process = READER.process
    for _ in range(3):
        read_voxels(meta_image)
    assert READER.process is process
