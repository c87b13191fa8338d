"""Headers of MetaImage, NRRD and TIFF, checked before ITK sees a file: what they state must fit what the file holds.

ITK's readers trust a header: one field too long or too large writes past a buffer (ITK#6853), and a data file may be
any file of the machine.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from isal import isal_zlib

from autoseg.core.errors import DataError
from autoseg.core.image_files import MAX_BYTES, check_file, check_size, damaged, inflate, open_file

REPAIR = "repair its header, or convert the scan to .nii.gz"
MAX_HEADER = 2**16  # bytes
MAX_TEXT = 1000  # characters of a field
MAX_FIELDS = 200
MAX_AXIS = 2**20
MAX_PAGES = 2**14

_META_TYPES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_META_NUMBERS = {  # field -> whether it is a matrix
    "Offset": False, "Position": False, "Origin": False, "ElementSpacing": False, "ElementSize": False,
    "CenterOfRotation": False, "TransformMatrix": True, "Rotation": True, "Orientation": True,
}  # fmt: skip
_NRRD_TYPES = {
    1: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    2: "short|short int|signed short|signed short int|int16|int16_t|ushort|unsigned short|unsigned short int|uint16"
    "|uint16_t",
    4: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    8: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|ulonglong"
    "|unsigned long long|unsigned long long int|uint64|uint64_t|double",
}


@dataclass(frozen=True, kw_only=True)
class StatedImage:
    """The numbers of a header that must fit the file.

    Attributes:
        shape: of every axis, the fastest first.
        size: bytes of all voxels.
    """

    shape: tuple[int, ...]
    size: int


def check_header(path: Path, ending: str) -> StatedImage:
    """Check the header of a file that is not NIfTI.

    Raises:
        DataError: a field that cannot be, or does not fit the file; the message names it.
    """
    check = _check_tiff if ending in (".tif", ".tiff") else _check_nrrd if ending == ".nrrd" else _check_meta
    try:
        with open_file(path) as file:
            return check(path, file)
    except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]  # its stub takes the class for an instance
        raise damaged(path, error) from error


# ------------------------------------------------------------------------------------------------- MetaImage


def _check_meta(path: Path, file: BinaryIO) -> StatedImage:
    """MetaImage. Source: https://itk.org/Wiki/ITK/MetaIO/Documentation."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        name, value = _split(path, _read_line(path, file), "=")
        _add(path, fields, name, value)
    axes = _integer(path, "NDims", fields.get("NDims"), 2, 4)
    shape = _integers(path, "DimSize", fields.get("DimSize"), axes)
    kind = fields.get("ElementType", "")
    if kind not in _META_TYPES:
        raise DataError(f"{path} states ElementType {kind or '(none)'}, which cannot be read; {REPAIR}")
    components = _integer(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1, 16)
    if fields.get("BinaryData", "True").lower() != "true":
        raise DataError(f"{path} states its voxels as text (BinaryData); convert the scan to .nii.gz")
    for key, rows in _META_NUMBERS.items():
        if key in fields:
            _numbers(path, key, fields[key], axes ** (1 + rows), positive=key in ("ElementSpacing", "ElementSize"))
    for key in ("CompressedDataSize", "HeaderSize"):
        if key in fields:
            _integer(path, key, fields[key], -1, 2**40)
    packed = fields.get("CompressedData", "False").lower() == "true"
    source = fields["ElementDataFile"]
    if source.upper() == "LOCAL":
        if int(fields.get("HeaderSize", 0)) > 0:
            raise DataError(f"{path} states HeaderSize {fields['HeaderSize']} and holds its voxels itself; {REPAIR}")
        where, begin = path, file.tell()
    else:
        where, begin = _data_file(path, source), int(fields.get("HeaderSize", 0))
    itemsize = _META_TYPES[kind] * components
    size = check_size(where, shape, itemsize, packed=packed, before=max(0, begin))
    if begin == -1 and not packed:
        return StatedImage(shape=shape, size=size)  # the voxels are the last bytes
    _check_data(where, max(0, begin), size, wbits=47 if packed else None)
    return StatedImage(shape=shape, size=size)


# ------------------------------------------------------------------------------------------------------ NRRD


def _check_nrrd(path: Path, file: BinaryIO) -> StatedImage:
    """NRRD. Source: https://teem.sourceforge.net/nrrd/format.html."""
    if not re.fullmatch(r"NRRD000[1-5]", _read_line(path, file)):
        raise DataError(f"{path} is not an NRRD file, whatever its name; convert the scan again")
    fields: dict[str, str] = {}
    while line := _read_line(path, file):
        if line.startswith("#"):
            continue
        if ":=" in line:
            _add(path, fields, *_split(path, line, ":="))
            continue
        name, value = _split(path, line, ":")
        _add(path, fields, name.lower(), value)
    axes = _integer(path, "dimension", fields.get("dimension"), 2, 5)
    shape = _integers(path, "sizes", fields.get("sizes"), axes)
    kind = fields.get("type", "")
    itemsize = next((size for size, names in _NRRD_TYPES.items() if kind in names.split("|")), None)
    if itemsize is None:
        raise DataError(f"{path} states type {kind or '(none)'}, which cannot be read; {REPAIR}")
    encoding = fields.get("encoding", "")
    if encoding not in ("raw", "gzip", "gz"):
        raise DataError(f"{path} states encoding {encoding or '(none)'}; write it as raw or gzip")
    if fields.get("endian", "little") not in ("little", "big"):
        raise DataError(f"{path} states endian {fields['endian']}; {REPAIR}")
    _check_nrrd_place(path, fields, axes)
    for key in ("byte skip", "line skip", "byteskip", "lineskip"):
        if _integer(path, key, fields.get(key, "0"), -1, 2**40):
            raise DataError(f"{path} states {key} {fields[key]}; write its voxels without a gap")
    source = fields.get("data file", fields.get("datafile"))
    where, begin = (path, file.tell()) if source is None else (_data_file(path, source), 0)
    size = check_size(where, shape, itemsize, packed=encoding != "raw", before=begin)
    _check_data(where, begin, size, wbits=None if encoding == "raw" else 31)
    return StatedImage(shape=shape, size=size)


def _check_nrrd_place(path: Path, fields: Mapping[str, str], axes: int) -> None:
    """The fields that place voxels: counts and finite numbers."""
    if "spacings" in fields:
        words = fields["spacings"].split()
        numbers = [word for word in words if word.lower() != "nan"]
        if len(words) != axes:
            raise DataError(f"{path} states {len(words)} spacings for {axes} axes; {REPAIR}")
        _numbers(path, "spacings", " ".join(numbers), len(numbers), positive=True)
    for key, count in (("space directions", axes), ("space origin", 1), ("measurement frame", None)):
        if key not in fields:
            continue
        vectors = re.findall(r"\(([^()]*)\)|\bnone\b", fields[key])
        rest = re.sub(r"\([^()]*\)|\bnone\b", "", fields[key]).strip()
        if rest or (count is not None and len(vectors) != count):
            raise DataError(f"{path} states {key} {fields[key][:60]}; {REPAIR}")
        sizes = {len(vector.split(",")) for vector in vectors if vector}
        if len(sizes) > 1 or not sizes <= {2, 3, 4}:
            raise DataError(f"{path} states {key} {fields[key][:60]}; {REPAIR}")
        for vector in filter(None, vectors):
            _numbers(path, key, vector.replace(",", " "), len(vector.split(",")))
    if "space dimension" in fields:
        _integer(path, "space dimension", fields["space dimension"], 2, 4)


# ------------------------------------------------------------------------------------------------------ TIFF

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES = 256, 257, 258, 259, 277
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips and of tiles
_TIFF_TAGS = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, *_OFFSETS, *_COUNTS}


def _check_tiff(path: Path, file: BinaryIO) -> StatedImage:
    """TIFF and BigTIFF. Source: TIFF revision 6.0 (Adobe, 1992)."""
    size = check_file(path)
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    magic = struct.unpack_from(f"{order}H", start, 2)[0] if order and len(start) >= 8 else 0
    if order is None or magic not in (42, 43) or (magic == 43 and len(start) < 16):
        raise DataError(f"{path} is not a TIFF file, whatever its name; convert the scan again")
    is_big = magic == 43
    at = struct.unpack_from(order + "Q", start, 8)[0] if is_big else struct.unpack_from(f"{order}I", start, 4)[0]
    pages: list[tuple[int, ...]] = []
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) >= MAX_PAGES:
            raise DataError(f"{path} lists its pages in a circle, or more than {MAX_PAGES}; {REPAIR}")
        seen.add(at)
        tags, at = _read_page(path, file, at, order, size, is_big=is_big)
        pages.append(_check_page(path, tags, size))
    if not pages or len(set(pages)) > 1:
        stated = ", ".join("x".join(map(str, page[:2])) for page in dict.fromkeys(pages)) or "none"
        raise DataError(f"{path} holds pages of different sizes or types ({stated}); write one file per image")
    width, height, itemsize = pages[0]
    shape = (width, height, len(pages)) if len(pages) > 1 else (width, height)
    total = math.prod(shape) * itemsize
    if total > MAX_BYTES:
        raise DataError(f"{path} states {'x'.join(map(str, shape))} voxels, more than the 4 GB that a scan may take")
    return StatedImage(shape=shape, size=total)


def _read_page(
    path: Path, file: BinaryIO, at: int, order: str, size: int, *, is_big: bool
) -> tuple[dict[int, tuple[int, ...]], int]:
    """Tag -> its integers, and the offset of the next page."""
    wide = "Q" if is_big else "I"
    count_form, width = ("Q", 20) if is_big else ("H", 12)

    def read(offset: int, count: int) -> bytes:
        file.seek(offset)
        content = file.read(count)
        if len(content) < count:
            raise DataError(f"{path} is truncated: a list of its tags lies behind its end; copy it again")
        return content

    head = struct.calcsize(order + count_form)
    (entries,) = struct.unpack(order + count_form, read(at, head))
    if entries > 512:
        raise DataError(f"{path} states {entries} tags on one page; {REPAIR}")
    table = read(at + head, entries * width + struct.calcsize(order + wide))
    tags: dict[int, tuple[int, ...]] = {}
    for number in range(entries):
        tag, kind, count = struct.unpack_from(f"{order}HH{wide}", table, number * width)
        bytes_needed = _TIFF_SIZES.get(kind, 1) * count
        if bytes_needed > size:
            raise DataError(f"{path} states a tag of {bytes_needed} bytes, more than the file has; {REPAIR}")
        if kind not in _TIFF_INTEGERS or tag not in (
            _WIDTH,
            _HEIGHT,
            _BITS,
            _COMPRESSION,
            _SAMPLES,
            *_OFFSETS,
            *_COUNTS,
        ):
            continue
        inside = number * width + (12 if is_big else 8)
        room = 8 if is_big else 4
        if bytes_needed <= room:
            content = table[inside : inside + bytes_needed]
        else:
            content = read(struct.unpack_from(order + wide, table, inside)[0], bytes_needed)
        tags[tag] = struct.unpack(f"{order}{count}{_TIFF_INTEGERS[kind]}", content)
    (following,) = struct.unpack_from(order + wide, table, entries * width)
    return tags, following


def _check_page(path: Path, tags: Mapping[int, tuple[int, ...]], size: int) -> tuple[int, ...]:
    """Width, height and bytes a pixel of a page whose pixels lie in the file."""
    single = {tag: tags.get(tag, (default,)) for tag, default in ((_COMPRESSION, 1), (_SAMPLES, 1))}
    sides = [tags.get(tag, ()) for tag in (_WIDTH, _HEIGHT)]
    if any(len(side) != 1 or not 1 <= side[0] <= MAX_AXIS for side in sides):
        stated = " x ".join(str(side[0]) if len(side) == 1 else "?" for side in sides)
        raise DataError(f"{path} states a page of {stated} pixels; {REPAIR}")
    (width,), (height,) = sides
    samples, bits = single[_SAMPLES][0] if single[_SAMPLES] else 0, tags.get(_BITS, (1,))
    if not 1 <= samples <= 16 or len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16, 32, 64):
        raise DataError(f"{path} states {samples} values a pixel of {bits[0] if bits else 0} bits; {REPAIR}")
    offsets = next((tags[tag] for tag in _OFFSETS if tags.get(tag)), ())
    counts = next((tags[tag] for tag in _COUNTS if tags.get(tag)), ())
    if not offsets or len(offsets) != len(counts):
        raise DataError(f"{path} lists {len(offsets)} offsets of pixels and {len(counts)} lengths; {REPAIR}")
    if any(offset + count > size for offset, count in zip(offsets, counts, strict=True)):
        raise DataError(f"{path} is truncated: pixels lie behind its end; copy it again")
    row = math.ceil(width * samples * bits[0] / 8)
    is_plain = single[_COMPRESSION][:1] == (1,)
    if is_plain and sum(counts) < row * height:
        raise DataError(f"{path} states {width} x {height} pixels and holds {sum(counts)} bytes of them; {REPAIR}")
    if row * height > max(1, sum(counts)) * 2000 + 2**20:
        raise DataError(
            f"{path} states {width} x {height} pixels, more than its {sum(counts)} bytes can hold; {REPAIR}"
        )
    return width, height, math.ceil(samples * bits[0] / 8)


# ---------------------------------------------------------------------------------------------------- fields


def _read_line(path: Path, file: BinaryIO) -> str:
    """One line of a header, without its end."""
    if file.tell() > MAX_HEADER:
        raise DataError(f"{path} has a header of more than {MAX_HEADER} bytes; {REPAIR}")
    line = file.readline(MAX_TEXT + 100)
    if not line.endswith(b"\n"):
        raise DataError(f"{path} has a header that never ends, or a field that is too long; {REPAIR}")
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} has a header that is not text; convert the scan again") from error


def _split(path: Path, line: str, sign: str) -> tuple[str, str]:
    name, found, value = line.partition(sign)
    if not found:
        raise DataError(f"{path} has a header line without '{sign}': {line[:60]!r}; {REPAIR}")
    return name.strip(), value.strip()


def _add(path: Path, fields: dict[str, str], name: str, value: str) -> None:
    if name in fields:
        raise DataError(f"{path} states {name[:60]} twice; {REPAIR}")
    if len(fields) >= MAX_FIELDS or len(name) > 100 or len(value) > MAX_TEXT or "\0" in name + value:
        raise DataError(f"{path} has a header field that is too long ({name[:60]}), or too many fields; {REPAIR}")
    fields[name] = value


def _integer(path: Path, name: str, text: str | None, low: int, high: int) -> int:
    return _integers(path, name, text, 1, low, high)[0]


def _integers(
    path: Path, name: str, text: str | None, count: int, low: int = 1, high: int = MAX_AXIS
) -> tuple[int, ...]:
    words = (text or "").split()
    if len(words) != count or not all(re.fullmatch(r"[+-]?\d{1,15}", word) for word in words):
        raise DataError(f"{path} states {name} {(text or '(none)')[:60]}, not {count} whole numbers; {REPAIR}")
    numbers = tuple(int(word) for word in words)
    if not all(low <= number <= high for number in numbers):
        raise DataError(f"{path} states {name} {(text or '')[:60]}, not from {low} to {high}; {REPAIR}")
    return numbers


def _numbers(path: Path, name: str, text: str, count: int, *, positive: bool = False) -> None:
    words = text.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    expected = f"{count} {'positive ' if positive else ''}numbers"
    if len(numbers) != count or not all(map(math.isfinite, numbers)) or (positive and min(numbers, default=1) <= 0):
        raise DataError(f"{path} states {name} {text[:60]}, not {expected}; {REPAIR}")


def _data_file(path: Path, name: str) -> Path:
    """The one file beside a header, or below its folder, that holds its voxels."""
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name or "%" in name or re.match(r"LIST\b", name):
        raise DataError(
            f"{path} names {name[:60]!r} as the file of its voxels; only one file in its own folder is read: move it "
            f"there, or convert the scan to .nii.gz"
        )
    where = path.parent / inside
    check_file(where)
    return where


def _check_data(path: Path, begin: int, size: int, *, wbits: int | None) -> None:
    """Whether a file holds exactly as many bytes of voxels as its header states."""
    data_bytes = check_file(path) - begin
    if wbits is not None:
        with open_file(path) as file:
            file.seek(begin)
            wbits = (31 if file.read(2) == b"\x1f\x8b" else 15) if wbits == 47 else wbits
            file.seek(begin)
            data_bytes = 0
            for chunk in inflate(file, wbits=wbits):
                data_bytes += len(chunk)
                if data_bytes > size:
                    break
    if data_bytes < size:
        raise DataError(f"{path} is truncated: {data_bytes} of {size} bytes of voxels; copy it again")
    if data_bytes > size:
        raise DataError(f"{path} holds more voxels than its header states, so what it shows is uncertain; {REPAIR}")
