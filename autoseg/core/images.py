"""Voxels on disk. The only file that knows SimpleITK, its x-y-z order, and NIfTI headers."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from autoseg.core.errors import DataError
from autoseg.core.records import Grid
from autoseg.core.store import replacing

sitk.ProcessObject.SetGlobalWarningDisplay(False)

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".tif", ".tiff")


def file_ending(path: Path) -> str | None:
    """The image ending of a file name in lower case, or None when it is not one we read."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending) and not name.startswith(".")), None)


def strip_ending(path: Path) -> str:
    """The file name without its image ending."""
    ending = file_ending(path)
    return path.name[: -len(ending)] if ending else path.name


def read_grid(path: Path) -> tuple[Grid, int | None]:
    """Where a file's voxels lie, from its header alone.

    Returns:
        The grid, and the length of the fourth axis or None for a 3D file.

    Raises:
        DataError: missing, empty, unreadable, colour, more than four axes, or a header that contradicts itself.
    """
    reader = _open(path)
    size, spacing = list(reader.GetSize()), list(reader.GetSpacing())
    origin, direction = list(reader.GetOrigin()), np.array(reader.GetDirection())
    if reader.GetNumberOfComponents() != 1:
        raise DataError(f"{path} has several values (colours) per voxel; autoseg reads one")
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) > 4:
        raise DataError(f"{path} has {len(size)} axes ({'x'.join(map(str, size))}); autoseg reads 3 axes")
    volumes = size[3] if len(size) == 4 else None
    axes = reader.GetDimension()
    matrix = np.eye(max(axes, 3))
    matrix[:axes, :axes] = direction.reshape(axes, axes)
    while len(size) < 3:  # one slice
        size, spacing, origin = [*size, 1], [*spacing, 1.0], [*origin, 0.0]
    _check_header(reader, path)
    rows = matrix[:3, :3][:, ::-1]
    if not np.isfinite([*rows.ravel(), *spacing[:3], *origin[:3]]).all() or min(spacing[:3]) <= 0:
        raise DataError(f"{path} has spacing {spacing[:3]} or an orientation that is no geometry; repair its header")
    grid = Grid(
        shape=(size[2], size[1], size[0]),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(tuple(float(v) for v in row) for row in rows),  # type: ignore[arg-type]
    )
    return grid, volumes


def read_voxels(path: Path, *, volume: int | None = None) -> tuple[np.ndarray, Grid]:
    """One 3D volume and where it lies.

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
            f"{path} has a fourth axis of length {volumes}; autoseg reads one 3D file per channel: "
            f"split it (autoseg_import does it for the layouts it knows)"
        )
    if volume is not None and volume >= (volumes or 1):
        raise DataError(f"{path} has {volumes or 1} volumes, but volume {volume} was asked for")
    _check_stream(path)
    try:
        voxels = sitk.GetArrayFromImage(_open(path).Execute())
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read: {_cause(error)}; it may be truncated: copy it again") from error
    voxels = voxels.reshape(-1, *grid.shape)[volume or 0]
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
            same = np.array_equal(sitk.GetArrayViewFromImage(sitk.ReadImage(str(temporary))), voxels)
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


def _cause(error: RuntimeError) -> str:
    """The last clause of an ITK message, without its source line and object address."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1].split("): ")[-1] if lines else "unknown cause").rstrip(".")


def _check_stream(path: Path) -> None:
    """A gzip file that ends early must be an error; some readers fill the rest with zeros."""
    if not path.name.lower().endswith(".gz"):
        return
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 22):
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged ({error}); copy it again") from error


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
            f"{np.round(from_sform, 4).tolist()} mm (sform), so two programs would read two different scans; "
            f"repair its header"
        )


def _nifti_header(path: Path) -> bytes | None:
    """The first 348 bytes of a NIfTI-1 file, or None if it is something else."""
    opener = gzip.open if path.name.lower().endswith(".gz") else Path.open
    with opener(path, "rb") as file:
        header = file.read(348)
    if len(header) < 348 or header[344:347] not in (b"n+1", b"ni1"):
        return None
    return header


# Fields that say where voxels lie: (offset, struct format).
_GEOMETRY = ((76, "8f"), (123, "B"), (252, "2h"), (256, "6f"), (280, "12f"))
_NIFTI_TYPES = {"uint8": (2, 8), "int16": (4, 16), "float32": (16, 32), "uint16": (512, 16)}


def _nifti_file(source: bytes, voxels: np.ndarray) -> bytes:
    """A little-endian NIfTI-1 file with the voxels given and the geometry of another header, bit for bit.

    Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
    """
    order = "<" if struct.unpack("<i", source[:4])[0] == 348 else ">"
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    for offset, fields in _GEOMETRY:
        struct.pack_into("<" + fields, header, offset, *struct.unpack_from(order + fields, source, offset))
    z, y, x = voxels.shape
    struct.pack_into("<8h", header, 40, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, *_NIFTI_TYPES[voxels.dtype.name])
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)
    header[344:348] = b"n+1\0"
    return bytes(header) + np.ascontiguousarray(voxels).astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes()
