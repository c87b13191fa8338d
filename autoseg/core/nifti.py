"""NIfTI-1 and NIfTI-2 in one file: header, both of its geometries, voxels, and masks with a scan's own header.

Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autoseg.core.errors import DataError
from autoseg.core.image_files import check_size, read_content, read_start
from autoseg.core.records import Grid

Form = Literal["sform", "qform"]
REPAIR = "repair its header, or convert the scan again"
SCANNER = 1  # code of a form that is in the scanner's own coordinates
SAME_MM = 0.1  # two geometries whose corners are this close are one
# Version -> field -> (offset, struct format).
_FIELDS = {
    1: {
        "dimensions": (40, "8h"), "type": (70, "2h"), "pixdim": (76, "8f"), "offset": (108, "f"), "scale": (112, "2f"),
        "units": (123, "B"), "codes": (252, "2h"), "quaternion": (256, "6f"), "rows": (280, "12f"),
    },
    2: {
        "dimensions": (16, "8q"), "type": (12, "2h"), "pixdim": (104, "8d"), "offset": (168, "q"), "scale": (176, "2d"),
        "units": (500, "i"), "codes": (344, "2i"), "quaternion": (352, "6d"), "rows": (400, "12d"),
    },
}  # fmt: skip
_SIZES = {1: 348, 2: 540}
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_COLOURS = {128, 2304}
_UNITS = {1: 1e3, 3: 1e-3}  # metre and micron in mm; everything else is taken as mm
_PLACING = ("pixdim", "units", "codes", "quaternion", "rows")


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """A checked header.

    Attributes:
        raw: its bytes.
        version: 1 or 2.
        order: of bytes.
        shape: voxels along x, y, z and a fourth axis, without trailing axes of length 1; at least three.
        kind: code of the data type.
        offset: of the first voxel.
        scale: slope and intercept, or None where values are not scaled.
        spacing: mm along x, y, z.
        forms: qform and sform, as far as they have a code, the one that ITK follows first: (4,4) float64, voxel index
            (x,y,z,1) -> world LPS mm.
        packed: whether the file is gzip.
        unit: code of the unit of length.
    """

    raw: bytes
    version: int
    order: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    scale: tuple[float, float] | None
    spacing: tuple[float, float, float]
    forms: dict[Form, np.ndarray]
    packed: bool
    unit: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the voxels on disk."""
        return np.dtype(_TYPES[self.kind]).newbyteorder(self.order)  # type: ignore[arg-type]


def read_header(path: Path) -> NiftiHeader:
    """Read and check a file's header.

    Raises:
        DataError: not NIfTI, or a field that cannot be; the message names it.
    """
    raw, packed = read_start(path, 552)
    version, order = _find_version(path, raw)

    def read(field: str) -> tuple[Any, ...]:
        at, form = _FIELDS[version][field]
        return struct.unpack_from(order + form, raw, at)

    shape = _read_shape(path, read("dimensions"))
    kind, bits = read("type")
    if kind in _COLOURS:
        raise DataError(f"{path} has several values (colours) per voxel; convert it to one")
    if kind not in _TYPES:
        raise DataError(f"{path} has NIfTI data type {kind}, which cannot be read; convert it to float32")
    itemsize = np.dtype(_TYPES[kind]).itemsize
    if bits != 8 * itemsize:
        raise DataError(f"{path} states data type {kind} ({8 * itemsize} bits) and {bits} bits a voxel; {REPAIR}")
    scale = read("scale")
    if math.isinf(scale[0]) or (scale[0] and not math.isnan(scale[0]) and not math.isfinite(scale[1])):
        raise DataError(f"{path} scales its values by {scale[0]:g} and adds {scale[1]:g}; {REPAIR}")
    is_scaled = math.isfinite(scale[0]) and scale[0] != 0 and tuple(scale) != (1, 0)
    axes = min(3, read("dimensions")[0])
    spacing, unit = _read_spacing(path, read, axes)
    offset = _read_offset(path, read("offset")[0], version)
    check_size(path, shape, itemsize, packed=packed, before=offset)
    return NiftiHeader(
        raw=raw[: _SIZES[version]],
        version=version,
        order=order,
        shape=shape,
        kind=kind,
        offset=offset,
        scale=(scale[0], scale[1]) if is_scaled else None,
        spacing=spacing,
        forms=_read_forms(path, read, spacing, unit, axes),
        packed=packed,
        unit=read("units")[0] & 7,
    )


def place_grid(path: Path, header: NiftiHeader, orientation: Form | None = None) -> Grid:
    """The grid of a file's first three axes.

    Args:
        path: for the message.
        orientation: which form to follow where both have a code.

    Raises:
        DataError: both forms have a code and put corners more than 0.1 mm apart, or the form is sheared.
    """
    grids = {form: _make_grid(header, affine) for form, affine in header.forms.items()}
    if len(grids) == 2:
        apart = grids["sform"].distance_mm(grids["qform"])
        if apart > SAME_MM and orientation is None:
            raise DataError(
                f"{path} states two geometries, {apart:.3g} mm apart: its qform {grids['qform'].describe()}; its "
                f"sform {grids['sform'].describe()}; repair its header, or predict with --orientation sform or qform"
            )
    form = orientation if orientation in grids else next(iter(grids), None)
    if form is None:  # neither has a code; as ITK places them
        return _make_grid(header, np.diag([*header.spacing, 1.0]))
    _check_shear(path, form, header.forms[form], header)
    return grids[form]


def read_nifti(path: Path, header: NiftiHeader) -> np.ndarray:
    """The voxels, flat, scaled as the header states.

    ITK's own reader turns NaN into 0 and fills what a truncated file lacks with 0; neither may pass unseen.

    Raises:
        DataError: the file is truncated or damaged, or holds more voxels than its header states.
    """
    count, dtype = math.prod(header.shape), header.dtype
    expected = header.offset + count * dtype.itemsize
    slack = max(1, expected // max(1, header.shape[2]))
    content = read_content(path, expected + slack)
    if len(content) < expected:
        raise DataError(f"{path} is truncated: {len(content)} of {expected} bytes; copy it again")
    extended = content[_SIZES[header.version]] != 0  # then zeros at the end may be voxels, and the offset wrong
    rest = content[expected:]
    if rest and (extended or len(rest) > slack or any(rest)):
        more = f"{len(rest)} bytes more" if len(rest) <= slack else "more slices"
        raise DataError(f"{path} holds {more} than its header states, so what it shows is uncertain; {REPAIR}")
    voxels = np.frombuffer(content, dtype, count, header.offset).astype(dtype.newbyteorder("="))
    if header.scale is None:
        return voxels
    slope, intercept = header.scale
    wide = np.float64 if header.kind in (8, 64) else np.float32
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by the caller
        return (voxels * np.float64(slope) + np.float64(intercept)).astype(wide)


def render_nifti(source: NiftiHeader, voxels: np.ndarray) -> bytes:
    """A little-endian NIfTI-1 file with the voxels given and the geometry of another header, bit for bit.

    Args:
        source: its fields that place voxels are copied; those of NIfTI-2 are rounded to float32.
        voxels: (Z,Y,X) of a dtype of NIfTI.
    """
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    for field in _PLACING:
        at, form = _FIELDS[source.version][field]
        to, target = _FIELDS[1][field]
        struct.pack_into("<" + target, header, to, *struct.unpack_from(source.order + form, source.raw, at))
    z, y, x = voxels.shape
    struct.pack_into("<8h", header, 40, 3, x, y, z, 1, 1, 1, 1)
    kind = next(number for number, name in _TYPES.items() if np.dtype(name) == voxels.dtype)
    struct.pack_into("<2h", header, 70, kind, voxels.dtype.itemsize * 8)
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)
    header[344:348] = b"n+1\0"
    return bytes(header) + np.ascontiguousarray(voxels).astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes()


def _find_version(path: Path, raw: bytes) -> tuple[int, str]:
    for order in "<>":
        if len(raw) >= 352 and struct.unpack_from(order + "i", raw)[0] == 348:
            if raw[344:347] == b"n+1":
                return 1, order
            if raw[344:347] == b"ni1":
                raise DataError(f"{path} is the header of a pair of files (.hdr, .img); convert it to one .nii.gz")
        if len(raw) >= 544 and struct.unpack_from(order + "i", raw)[0] == 540 and raw[4:7] == b"n+2":
            return 2, order
    raise DataError(f"{path} is not a NIfTI file, whatever its name; convert the scan again")


def _read_shape(path: Path, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    axes = dimensions[0]
    if not 2 <= axes <= 7 or min(dimensions[1 : axes + 1]) < 1:
        stated = "x".join(map(str, dimensions[1 : axes + 1] if 2 <= axes <= 7 else dimensions[1:]))
        raise DataError(f"{path} states {axes} axes of {stated} voxels; {REPAIR}")
    shape = list(dimensions[1 : axes + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) > 4:
        raise DataError(f"{path} has {len(shape)} axes ({'x'.join(map(str, shape))}); convert it to 3")
    return tuple([*shape, 1, 1][: max(3, len(shape))])


def _read_spacing(path: Path, read: Any, axes: int) -> tuple[tuple[float, float, float], float]:
    """Spacing (x,y,z) in mm, 1 along an axis that the file does not have; and the length of its unit in mm."""
    pixdim = read("pixdim")[1 : axes + 1]
    unit = _UNITS.get(read("units")[0] & 7, 1.0)
    if not all(math.isfinite(mm) and mm > 0 for mm in pixdim):
        raise DataError(f"{path} states a spacing of {' x '.join(f'{mm:g}' for mm in pixdim)} (x,y,z); {REPAIR}")
    x, y, z = ([mm * unit for mm in pixdim] + [1.0] * (3 - len(pixdim)))[:3]
    if not all(0 < mm < math.inf for mm in (x, y, z)):
        raise DataError(f"{path} states a spacing of {x:g} x {y:g} x {z:g} mm (x,y,z); {REPAIR}")
    return (x, y, z), unit


def _read_offset(path: Path, stated: float, version: int) -> int:
    """Offset of the first voxel; whether it agrees with the file's length is checked when voxels are read."""
    least = _SIZES[version] + 4
    offset = least if stated == 0 else stated
    if not math.isfinite(offset) or offset != int(offset) or not least <= offset < 2**40:
        raise DataError(f"{path} states that its voxels begin at byte {stated:g}; {REPAIR}")
    return int(offset)


def _read_forms(
    path: Path, read: Any, spacing: tuple[float, float, float], unit: float, axes: int
) -> dict[Form, np.ndarray]:
    """The forms that have a code; of a file with two axes the third is at right angles to them."""
    forms: dict[Form, np.ndarray] = {}
    qform, sform = read("codes")
    flip = np.diag([-1.0, -1.0, 1.0])  # RAS+ -> LPS+
    if qform > 0:
        b, c, d, x, y, z = read("quaternion")
        length = b * b + c * c + d * d
        if not (length <= 1.001 and all(map(math.isfinite, (x, y, z)))):
            raise DataError(f"{path} has an invalid orientation (qform); {REPAIR}")
        rotation = _rotation(b, c, d)
        rotation[:, 2] *= -1 if read("pixdim")[0] < 0 else 1
        forms["qform"] = _affine(flip @ rotation * spacing, flip @ (x, y, z) * unit)
    if sform > 0:
        rows = np.array(read("rows"), float).reshape(3, 4)
        if axes < 3:
            third = np.cross(rows[:, 0], rows[:, 1])
            rows[:, 2] = third / (np.linalg.norm(third) * unit)
        lengths = np.linalg.norm(rows[:, :3], axis=0) * unit if np.isfinite(rows).all() else np.zeros(3)
        if not (np.isfinite(lengths).all() and lengths.min() > 0):
            raise DataError(f"{path} has an invalid orientation (sform); {REPAIR}")
        if not np.allclose(lengths, spacing, rtol=1e-2):
            stated = [" x ".join(f"{mm:.4g}" for mm in mms) for mms in (spacing, lengths)]
            raise DataError(
                f"{path} states two spacings: {stated[0]} mm (pixdim, qform) and {stated[1]} mm (sform), so programs "
                f"would read different scans; repair its header"
            )
        forms["sform"] = _affine(flip @ rows[:, :3] * unit, flip @ rows[:, 3] * unit)
    return dict(reversed(forms.items())) if sform == SCANNER else forms


def _rotation(b: float, c: float, d: float) -> np.ndarray:
    """(3,3) rotation of a quaternion whose first part is not stored."""
    length = b * b + c * c + d * d
    a = math.sqrt(max(0.0, 1 - length))
    if 1 - length < 1e-7:
        b, c, d = (part / math.sqrt(length) for part in (b, c, d))
        a = 0.0
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )


def _affine(matrix: np.ndarray, origin: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, origin
    return affine


def _make_grid(header: NiftiHeader, affine: np.ndarray) -> Grid:
    x, y, z = header.shape[:3]
    direction = (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))[:, ::-1]
    return Grid(
        shape=(z, y, x),
        spacing=header.spacing[::-1],
        origin=tuple(float(mm) for mm in affine[:3, 3]),  # type: ignore[arg-type]
        direction=tuple(tuple(float(v) for v in row) for row in direction),  # type: ignore[arg-type]
    )


def _check_shear(path: Path, form: str, affine: np.ndarray, header: NiftiHeader) -> None:
    """Refuse axes that are not at right angles, by what it moves the farthest corner."""
    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(direction)
    lengths = [n * mm for n, mm in zip(header.shape, header.spacing, strict=False)]
    moved = float(np.linalg.norm(np.abs(direction - left @ right) @ lengths))
    if moved > SAME_MM:
        cosines = np.abs(direction.T @ direction - np.eye(3)).max()
        angle = math.degrees(math.acos(min(1.0, cosines)))
        raise DataError(
            f"{path} has sheared axes ({form}: {angle:.3g} degrees apart instead of 90); resample the scan onto a "
            f"grid with right angles"
        )
