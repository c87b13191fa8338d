"""Voxels on disk. The only file that uses SimpleITK, its x-y-z order, and NIfTI headers."""

from __future__ import annotations

import gzip
import math
import re
import struct
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from isal import igzip, isal_zlib

from autoseg.core.errors import DataError
from autoseg.core.records import Grid
from autoseg.core.store import replacing
from autoseg.core.text import join_names

sitk.ProcessObject.SetGlobalWarningDisplay(False)

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".tif", ".tiff")
NUMBER = "%d"  # in a file name: the number of each slice of a volume stored slice by slice


def file_ending(path: Path) -> str | None:
    """The image ending of a file name in lower case, or None when it is not one we read."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending) and not name.startswith(".")), None)


def strip_ending(path: Path) -> str:
    """The file name without its image ending."""
    ending = file_ending(path)
    return path.name[: -len(ending)] if ending else path.name


def list_files(path: Path) -> list[Path]:
    """The file itself; or every slice, by number, of a volume stored slice by slice (``scan_%d.tif``).

    Raises:
        DataError: no slice exists, or one in between is missing.
    """
    if NUMBER not in path.name:
        return [path]
    before, _, after = path.name.partition(NUMBER)
    name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    files = path.parent.iterdir() if path.parent.is_dir() else ()
    numbered = {int(found[1]): file for file in files if (found := name.fullmatch(file.name))}
    if not numbered:
        raise DataError(f"{path} does not exist; expected {before}1{after}, {before}2{after}, ...")
    gaps = [n for n in range(min(numbered), max(numbered)) if n not in numbered]
    if gaps:
        raise DataError(
            f"{path} lacks slice {join_names(gaps, limit=1)} of {min(numbered)} to {max(numbered)}; copy it again"
        )
    return [numbered[number] for number in sorted(numbered)]


def read_grid(path: Path) -> tuple[Grid, int | None]:
    """Grid of a file, from its header alone.

    Args:
        path: a file, or the name of slices with ``%d`` for their number; their colours are its volumes.

    Returns:
        The grid, and the length of the fourth axis or None for a 3D file.

    Raises:
        DataError: missing, empty, unreadable, colour, more than four axes, or a header that contradicts itself.
    """
    if NUMBER in path.name:
        return _read_slices_grid(path)
    reader = _open(path)
    size, spacing = list(reader.GetSize()), list(reader.GetSpacing())
    origin, direction = list(reader.GetOrigin()), np.array(reader.GetDirection())
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{path} has several values (colours) per voxel; convert it to one")
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) > 4:
        raise DataError(f"{path} has {len(size)} axes ({'x'.join(map(str, size))}); convert it to 3")
    volumes = size[3] if len(size) == 4 else None
    axes = reader.GetDimension()
    matrix = np.eye(max(axes, 3))
    matrix[:axes, :axes] = direction.reshape(axes, axes)
    while len(size) < 3:  # one slice
        size, spacing, origin = [*size, 1], [*spacing, 1.0], [*origin, 0.0]
    _check_header(reader, path)
    rows = matrix[:3, :3][:, ::-1]
    if not np.isfinite([*rows.ravel(), *spacing[:3], *origin[:3]]).all() or min(spacing[:3]) <= 0:
        raise DataError(f"{path} has spacing {spacing[:3]} or an invalid orientation; repair its header")
    grid = Grid(
        shape=(size[2], size[1], size[0]),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(tuple(float(v) for v in row) for row in rows),  # type: ignore[arg-type]
    )
    return grid, volumes


def read_voxels(path: Path, *, volume: int | None = None) -> tuple[np.ndarray, Grid]:
    """One 3D volume and its grid.

    Args:
        volume: which volume of a file with a fourth axis.

    Returns:
        (Z,Y,X) in the file's own dtype, scanner units; every value is finite.

    Raises:
        DataError: as ``read_grid``; also truncated data, NaN or infinity, or a fourth axis without ``volume``.
    """
    grid, volumes = read_grid(path)
    if volumes is not None and volume is None:
        raise DataError(
            f"{path} has a fourth axis of length {volumes}; split it into one 3D file per channel "
            f"(autoseg_import does so for the layouts it knows)"
        )
    if volume is not None and volume >= (volumes or 1):
        raise DataError(f"{path} has {volumes or 1} volumes, but volume {volume} was requested")
    if NUMBER in path.name:
        voxels = np.stack([_read_slice(file, grid, volume) for file in list_files(path)])
    else:
        found = _read_nifti(path) if file_ending(path) in (".nii", ".nii.gz") else None
        voxels = (_read_with_itk(path) if found is None else found).reshape(-1, *grid.shape)[volume or 0]
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        raise DataError(f"{path} holds {bad} voxels that are NaN or infinite; replace them (0 outside the head)")
    return voxels, grid


def write_voxels(path: Path, voxels: np.ndarray, grid: Grid, *, like: Path | None = None) -> None:
    """Write one volume whole or not at all.

    Args:
        voxels: (Z,Y,X) uint8, int16, uint16 or float32.
        grid: where they lie.
        like: a NIfTI file on the same grid whose geometry is copied bit for bit, header field by header field.

    Raises:
        StorageError: the disk refused the write.
    """
    header = _nifti_header(like) if like is not None and file_ending(path) in (".nii", ".nii.gz") else None
    with replacing(path) as temporary:
        if header is not None:
            content = _nifti_file(header, voxels)
            temporary.write_bytes(gzip.compress(content, 5, mtime=0) if path.name.endswith(".gz") else content)
            return
        image = _to_itk(voxels, grid)
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            written = sitk.ReadImage(str(temporary))  # named, because a view does not keep its image alive
            same = np.array_equal(sitk.GetArrayViewFromImage(written), voxels)
        except RuntimeError as error:
            raise OSError(28, f"No space left or refused ({_cause(error)})") from error
        if not same:  # ITK does not always report a short write
            raise OSError(28, "No space left on device")


def resample_voxels(voxels: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """Bring a volume onto another grid of the same world, linearly; 0 outside.

    Args:
        voxels: (Z,Y,X) any real dtype on ``grid``.

    Returns:
        (Z,Y,X) float32 on ``target``.
    """
    image = _to_itk(voxels.astype(np.float32, copy=False), grid)
    reference = _to_itk(np.zeros(target.shape, np.uint8), target)
    return sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, 0.0))


def _to_itk(voxels: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction)[:, ::-1].ravel().tolist())
    return image


def _open(path: Path) -> sitk.ImageFileReader:
    if not path.exists():
        broken = " (a link whose target is gone)" if path.is_symlink() else ""
        raise DataError(f"{path} does not exist{broken}")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); copy it again")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read as an image: {_cause(error)}") from error
    return reader


def _read_with_itk(path: Path) -> np.ndarray:
    try:
        return sitk.GetArrayFromImage(_open(path).Execute())
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read: {_cause(error)}; it may be truncated: copy it again") from error


def _read_slices_grid(path: Path) -> tuple[Grid, int | None]:
    """The grid of stacked slices, 1 mm apart where their files state nothing; and their number of colours."""
    files = list_files(path)
    reader = _open(files[0])
    (columns, rows), (width, height) = reader.GetSize()[:2], reader.GetSpacing()[:2]
    colours = reader.GetNumberOfComponents()
    grid = Grid(shape=(len(files), rows, columns), spacing=(1.0, height or 1.0, width or 1.0))
    return grid, colours if colours > 1 else None


def _read_slice(file: Path, grid: Grid, colour: int | None) -> np.ndarray:
    """(Y,X) one slice of a volume on ``grid``; one of its colours where it has several."""
    voxels = _read_with_itk(file)
    voxels = voxels[..., colour] if colour is not None and voxels.ndim > 2 else voxels
    if voxels.shape != grid.shape[1:]:
        raise DataError(
            f"{file} is {'x'.join(map(str, voxels.shape))} pixels (y,x), but the first slice beside it is "
            f"{grid.shape[1]}x{grid.shape[2]}; slices of one volume must have one size"
        )
    return voxels


def _cause(error: RuntimeError) -> str:
    """The last clause of an ITK message, without its source line and object address."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1].split("): ")[-1] if lines else "unknown cause").rstrip(".")


def _check_header(reader: sitk.ImageFileReader, path: Path) -> None:
    """Refuse a NIfTI file whose two transforms disagree: two programs would read two different scans."""
    keys = reader.GetMetaDataKeys()
    if "qform_code" not in keys or "sform_code" not in keys:
        return
    if min(int(float(reader.GetMetaData(code))) for code in ("qform_code", "sform_code")) <= 0:
        return
    rows = np.array([[float(v) for v in reader.GetMetaData(f"srow_{axis}").split()] for axis in "xyz"])
    from_sform = np.linalg.norm(rows[:, :3], axis=0)
    from_qform = np.array([abs(float(reader.GetMetaData(f"pixdim[{i}]"))) for i in (1, 2, 3)])
    if not np.allclose(from_sform, from_qform, rtol=1e-2):
        raise DataError(
            f"{path} states two spacings: {np.round(from_qform, 4).tolist()} mm (qform) and "
            f"{np.round(from_sform, 4).tolist()} mm (sform), so programs would read different scans; "
            f"repair its header"
        )


def _nifti_header(path: Path) -> bytes | None:
    """The first 348 bytes of a NIfTI-1 file, or None if it is something else."""
    if file_ending(path) not in (".nii", ".nii.gz"):
        return None
    opener = gzip.open if path.name.lower().endswith(".gz") else Path.open
    with opener(path, "rb") as file:
        header = file.read(348)
    if len(header) < 348 or header[344:347] not in (b"n+1", b"ni1"):
        return None
    return header


# Fields of the header: (offset, struct format). Those of the first row place the voxels.
# Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
_GEOMETRY = ((76, "8f"), (123, "B"), (252, "2h"), (256, "6f"), (280, "12f"))
_DIMENSIONS, _TYPE, _DATA_OFFSET, _SCALE = (40, "8h"), (70, "2h"), (108, "f"), (112, "2f")
_NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip


def _nifti_order(header: bytes) -> Literal["<", ">"]:
    return "<" if struct.unpack("<i", header[:4])[0] == 348 else ">"


def _read_nifti(path: Path) -> np.ndarray | None:
    """The voxels of a NIfTI-1 file, flat, scaled as in its header; None for what is left to ITK.

    ITK's own reader turns NaN into 0 and fills what a truncated file lacks with 0; neither may pass unseen.

    Raises:
        DataError: the file is truncated or damaged.
    """
    try:
        content = path.read_bytes()
        content = igzip.decompress(content) if path.name.lower().endswith(".gz") else content
    except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]  # its stub takes the class for an instance
        raise DataError(f"{path} is truncated or damaged ({error}); copy it again") from error
    if len(content) < 348 or content[344:347] != b"n+1":
        return None
    order = _nifti_order(content)
    dimensions, (kind, _), (offset,), (slope, intercept) = (
        struct.unpack_from(order + form, content, at) for at, form in (_DIMENSIONS, _TYPE, _DATA_OFFSET, _SCALE)
    )
    if kind not in _NIFTI_TYPES:
        return None
    count = math.prod(max(1, n) for n in dimensions[1 : dimensions[0] + 1])
    dtype = np.dtype(_NIFTI_TYPES[kind]).newbyteorder(order)
    if len(content) < int(offset) + count * dtype.itemsize:
        raise DataError(
            f"{path} is truncated: {len(content)} of {int(offset) + count * dtype.itemsize} bytes; copy it again"
        )
    voxels = np.frombuffer(content, dtype, count, int(offset)).astype(dtype.newbyteorder("="))
    if slope == 0 or (slope, intercept) == (1, 0) or not np.isfinite(slope):  # 0 means: not scaled
        return voxels
    return (voxels * np.float64(slope) + np.float64(intercept)).astype(np.float64 if kind in (8, 64) else np.float32)


def _nifti_file(source: bytes, voxels: np.ndarray) -> bytes:
    """A little-endian NIfTI-1 file with the voxels given and the geometry of another header, bit for bit."""
    order = _nifti_order(source)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    for offset, fields in _GEOMETRY:
        struct.pack_into("<" + fields, header, offset, *struct.unpack_from(order + fields, source, offset))
    z, y, x = voxels.shape
    struct.pack_into("<8h", header, _DIMENSIONS[0], 3, x, y, z, 1, 1, 1, 1)
    kind = next(number for number, name in _NIFTI_TYPES.items() if np.dtype(name) == voxels.dtype)
    struct.pack_into("<2h", header, _TYPE[0], kind, voxels.dtype.itemsize * 8)
    struct.pack_into("<3f", header, _DATA_OFFSET[0], 352.0, 1.0, 0.0)
    header[344:348] = b"n+1\0"
    return bytes(header) + np.ascontiguousarray(voxels).astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes()
