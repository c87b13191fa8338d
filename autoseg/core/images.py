"""Voxels on disk. The only file that uses SimpleITK and its x-y-z order.

A file passes three gates: it is a regular file (``image_files``); its header states what can be and what the file holds
(``nifti``, ``image_headers``); and what is not NIfTI is read in a process of its own (``image_reader``).
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from autoseg.core.errors import DataError
from autoseg.core.image_files import gzip_bytes, is_series, list_files
from autoseg.core.image_headers import check_header
from autoseg.core.image_reader import READER, answer, limit_memory
from autoseg.core.nifti import Form, place_grid, read_header, read_nifti, render_nifti
from autoseg.core.records import Grid
from autoseg.core.store import replacing

sitk.ProcessObject.SetGlobalWarningDisplay(False)

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".tif", ".tiff")
NIFTI = (".nii", ".nii.gz")
NIFTI_HEADER_BYTES = 352  # of version 1, with the four bytes before the voxels
MAX_SHEAR = 1e-3  # of the cosine between two axes, which should be 0


def file_ending(path: Path) -> str | None:
    """The image ending of a file name in lower case, or None when it is not one we read."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending) and not name.startswith(".")), None)


def strip_ending(path: Path) -> str:
    """The file name without its image ending."""
    ending = file_ending(path)
    return path.name[: -len(ending)] if ending else path.name


def read_grid(path: Path, *, orientation: Form | None = None) -> tuple[Grid, int | None]:
    """Grid of a file, from its header alone.

    Args:
        path: a file, or the name of slices with ``%d`` for their number; their colours are its volumes.
        orientation: the form to follow in a NIfTI file whose two forms disagree; None refuses it.

    Returns:
        The grid, and the length of the fourth axis or None for a 3D file.

    Raises:
        DataError: missing, empty, unreadable, colour, more than four axes, or a header that contradicts itself.
    """
    if is_series(path):
        return _read_slices_grid(path)
    if file_ending(path) in NIFTI:
        header = read_header(path)
        return place_grid(path, header, orientation), (*header.shape, None)[3]
    return _make_grid(path, _ask(path)[0])


def count_volumes(path: Path) -> int:
    """Length of a file's fourth axis, or its colours where it is one of several slices; 1 without."""
    if file_ending(path) in NIFTI and not is_series(path):
        return (*read_header(path).shape, 1)[3]
    return read_grid(path)[1] or 1


def states_orientation(path: Path) -> bool:
    """Whether a file states how its axes lie in the head; a NIfTI file may not (qform and sform code 0)."""
    return file_ending(path) not in NIFTI or is_series(path) or bool(read_header(path).forms)


def stated_unit(path: Path) -> str | None:
    """The unit of length that a NIfTI header states, if it is another than the millimetre."""
    is_nifti = file_ending(path) in NIFTI and not is_series(path)
    return {1: "metre", 3: "micron"}.get(read_header(path).unit) if is_nifti else None


def read_voxels(path: Path, *, volume: int | None = None, orientation: Form | None = None) -> tuple[np.ndarray, Grid]:
    """One 3D volume and its grid.

    Args:
        volume: which volume of a file with a fourth axis.
        orientation: as in ``read_grid``.

    Returns:
        (Z,Y,X) in the file's own dtype, scanner units; every value is finite.

    Raises:
        DataError: as ``read_grid``; also truncated data, NaN or infinity, or a fourth axis without ``volume``.
    """
    grid, volumes = read_grid(path, orientation=orientation)
    if volumes is not None and volume is None:
        raise DataError(
            f"{path} has a fourth axis of length {volumes}; split it into one 3D file per channel "
            f"(autoseg_import does so for the layouts it knows)"
        )
    if volume is not None and volume >= (volumes or 1):
        raise DataError(f"{path} has {volumes or 1} volumes, but volume {volume} was requested")
    voxels = _read_all(path, grid, volumes or 1)[volume or 0]
    _check_finite(path, voxels)
    return voxels, grid


def read_volumes(path: Path, *, orientation: Form | None = None) -> tuple[np.ndarray, Grid]:
    """Every volume of a file and their grid; the file is read once.

    Returns:
        (V,Z,Y,X) in the file's own dtype, scanner units; every value is finite.

    Raises:
        DataError: as ``read_voxels``.
    """
    grid, volumes = read_grid(path, orientation=orientation)
    voxels = _read_all(path, grid, volumes or 1)
    _check_finite(path, voxels)
    return voxels, grid


def _read_all(path: Path, grid: Grid, volumes: int) -> np.ndarray:
    """(V,Z,Y,X) of a file, or of slices whose colours are the volumes."""
    if is_series(path):
        return np.moveaxis(np.stack([_read_slice(file, grid, volumes) for file in list_files(path)]), -1, 0)
    is_nifti = file_ending(path) in NIFTI
    content = read_nifti(path, read_header(path)) if is_nifti else _ask(path, voxels=True)[1]
    return content.reshape(-1, *grid.shape)


def _check_finite(path: Path, voxels: np.ndarray) -> None:
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        raise DataError(f"{path} holds {bad} voxels that are NaN or infinite; replace them (0 outside the head)")


def write_voxels(path: Path, voxels: np.ndarray, grid: Grid, *, like: Path | None = None) -> None:
    """Write one volume whole or not at all.

    Args:
        voxels: (Z,Y,X) uint8, int16, uint16 or float32.
        grid: where they lie.
        like: a NIfTI file on the same grid whose geometry is copied bit for bit, header field by header field.

    Raises:
        StorageError: the disk refused the write.
    """
    is_copied = like is not None and file_ending(path) in NIFTI and file_ending(like) in NIFTI
    header = read_header(like) if like is not None and is_copied else None
    with replacing(path) as temporary:
        if header is not None:
            content = render_nifti(header, voxels)
            temporary.write_bytes(gzip.compress(content, 5, mtime=0) if path.name.endswith(".gz") else content)
            return
        image = _to_itk(voxels, grid)
        if path.name.endswith(".nii.gz"):
            temporary.write_bytes(gzip_bytes(_render_with_itk(image, temporary)))
            return
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            written = sitk.ReadImage(str(temporary))  # named, because a view does not keep its image alive
            same = np.array_equal(sitk.GetArrayViewFromImage(written), voxels)
        except RuntimeError as error:
            if shutil.disk_usage(path.parent).free > voxels.nbytes:
                raise OSError(errno.EIO, _cause(error)) from error
            same = False
        if not same:  # ITK does not always report a short write
            raise OSError(errno.ENOSPC, "No space left on device")


def _render_with_itk(image: sitk.Image, beside: Path) -> bytes:
    """The bytes of an uncompressed NIfTI file, which ITK writes beside a path for a moment."""
    plain = beside.with_suffix("")
    try:
        sitk.WriteImage(image, str(plain))
        content = plain.read_bytes()
    except RuntimeError as error:
        raise OSError(28, f"No space left or refused ({_cause(error)})") from error
    finally:
        plain.unlink(missing_ok=True)
    if len(content) < NIFTI_HEADER_BYTES + image.GetNumberOfPixels() * image.GetSizeOfPixelComponent():
        raise OSError(28, "No space left on device")  # ITK does not always report a short write
    return content


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


def serve() -> None:
    """Loop of the reading process: read one file after the other until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it decides when it ends
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print, too
    stream.write(b"ready\n")
    stream.flush()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        limit_memory(asked["size"])
        array = None
        try:
            reader = sitk.ImageFileReader()
            reader.SetFileName(asked["path"])
            reader.ReadImageInformation()
            facts: dict[str, Any] = {
                "size": reader.GetSize(),
                "spacing": reader.GetSpacing(),
                "origin": reader.GetOrigin(),
                "direction": reader.GetDirection(),
                "components": reader.GetNumberOfComponents(),
            }
            if asked["voxels"]:
                array = sitk.GetArrayFromImage(reader.Execute())
        except (RuntimeError, MemoryError, ValueError) as error:
            facts, array = {"error": _cause(error)}, None
        with contextlib.suppress(BrokenPipeError):
            answer(stream, facts, array)


def _ask(path: Path, *, voxels: bool = False) -> tuple[dict[str, Any], np.ndarray]:
    """Geometry and voxels of a file whose header fits its content, read by ITK; without ``voxels`` an empty array."""
    stated = check_header(path, file_ending(path) or "")
    facts, array = READER.read(path, stated.size, voxels=voxels)
    if facts["components"] == 1 and math.prod(facts["size"]) != math.prod(stated.shape):
        size, shape = ("x".join(map(str, found)) for found in (facts["size"], stated.shape))
        raise DataError(f"{path} is read as {size} voxels, but its header states {shape}; convert it to .nii.gz")
    return facts, np.empty(0) if array is None else array


def _make_grid(path: Path, facts: dict[str, Any]) -> tuple[Grid, int | None]:
    """Grid and length of the fourth axis, from what ITK reads."""
    size, spacing, origin = list(facts["size"]), list(facts["spacing"]), list(facts["origin"])
    if facts["components"] != 1:
        raise DataError(f"{path} has several values (colours) per voxel; convert it to one")
    axes = len(size)
    matrix = np.eye(max(axes, 3))
    matrix[:axes, :axes] = np.array(facts["direction"], float).reshape(axes, axes)
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) > 4:
        raise DataError(f"{path} has {len(size)} axes ({'x'.join(map(str, size))}); convert it to 3")
    volumes = size[3] if len(size) == 4 else None
    while len(size) < 3:  # one slice
        size, spacing, origin = [*size, 1], [*spacing, 1.0], [*origin, 0.0]
    rows = matrix[:3, :3][:, ::-1]
    if not np.isfinite([*rows.ravel(), *spacing[:3], *origin[:3]]).all() or min(spacing[:3]) <= 0:
        raise DataError(f"{path} has spacing {spacing[:3]} or an invalid orientation; repair its header")
    if np.abs(rows.T @ rows - np.eye(3)).max() > MAX_SHEAR:
        raise DataError(f"{path} has sheared axes; resample the scan onto a grid with right angles")
    grid = Grid(
        shape=(size[2], size[1], size[0]),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(tuple(float(v) for v in row) for row in rows),  # type: ignore[arg-type]
    )
    return grid, volumes


def _read_slices_grid(path: Path) -> tuple[Grid, int | None]:
    """The grid of stacked slices, 1 mm apart where their files state nothing; and their number of colours."""
    files = list_files(path)
    facts, _ = _ask(files[0])
    (columns, rows), (width, height) = facts["size"][:2], facts["spacing"][:2]
    colours = facts["components"]
    grid = Grid(shape=(len(files), rows, columns), spacing=(1.0, height or 1.0, width or 1.0))
    return grid, colours if colours > 1 else None


def _read_slice(file: Path, grid: Grid, colours: int) -> np.ndarray:
    """(Y,X,C) one slice of a volume on ``grid``; a grey one has the same value in every colour."""
    pixels = _ask(file, voxels=True)[1]
    is_coloured = colours > 1 and pixels.ndim > 2
    voxels = pixels if is_coloured else np.repeat(pixels[..., None], colours, axis=-1)
    if voxels.shape != (*grid.shape[1:], colours):
        size = "x".join(map(str, pixels.shape[:2] if is_coloured else pixels.shape))
        raise DataError(
            f"{file} is {size} pixels (y,x), but the first slice beside it is "
            f"{grid.shape[1]}x{grid.shape[2]}; slices of one volume must have one size"
        )
    return voxels


def _cause(error: Exception) -> str:
    """The last clause of an ITK message, without its source line and object address."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = lines[-1].split("): ")[-1].removeprefix("sitk::ERROR: ") if lines else "the machine ran out of memory"
    return "its header is damaged" if "ImageIO reader" in cause else cause.rstrip(".")
