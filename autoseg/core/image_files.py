"""Image files as bytes: only regular files are opened, and gzip is inflated up to a stated size."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isal import igzip, isal_zlib

from autoseg.core.errors import DataError
from autoseg.core.text import join_names

NUMBER = "%d"  # in a file name: the number of each slice of a volume stored slice by slice

GZIP = b"\x1f\x8b"
MAX_BYTES = 4 * 2**30  # of voxels in one file: 1024 x 1024 x 1024 of float32
MAX_DEFLATE_RATIO = 1040  # no deflate stream inflates further (zlib: 1032)
MAX_MEMBERS = 200_000  # of one gzip file; bgzip writes one for every 64 KB
CHUNK = 2**20
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


def check_file(path: Path) -> int:
    """Size in bytes of a regular file that holds something.

    Raises:
        DataError: missing, empty, a loop of links, a folder, pipe or device, or its name is not UTF-8.
    """
    try:
        str(path).encode()
        status = path.stat()
    except UnicodeEncodeError as error:
        raise DataError(f"{show_path(path)} has a name that is not UTF-8; rename it") from error
    except FileNotFoundError as error:
        broken = " (a link whose target is gone)" if path.is_symlink() else ""
        raise DataError(f"{path} does not exist{broken}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_describe(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "a device")
        raise DataError(f"{path} is {kind}, not a file; replace it by the scan")
    if status.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); copy it again")
    return status.st_size


def open_file(path: Path) -> BinaryIO:
    """A regular file for reading.

    Raises:
        DataError: as ``check_file``, or the file cannot be opened.
    """
    check_file(path)
    try:
        # Without blocking, should it have become a pipe since.
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {_describe(error)}") from error


def real_path(path: Path) -> Path:
    """A path without links; ``Path.resolve`` raises where links lead in a circle."""
    return Path(os.path.realpath(path))


def show_path(path: Path) -> str:
    """A path that can be printed, whatever bytes its name holds."""
    return os.fsencode(path).decode(errors="replace")


def read_start(path: Path, count: int) -> tuple[bytes, bool]:
    """The first bytes of a file's content, inflated if it is gzip.

    Returns:
        At most ``count`` bytes, and whether the file is gzip.

    Raises:
        DataError: as ``open_file``, or damaged.
    """
    try:
        with open_file(path) as file:
            start = file.read(count)
            if start[:2] != GZIP:
                return start, False
            file.seek(0)
            start = b""
            for chunk in inflate(file):
                start += chunk
                if len(start) >= count:
                    break
            return start[:count], True
    except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]  # its stub takes the class for an instance
        raise damaged(path, error) from error


def read_content(path: Path, limit: int) -> bytearray:
    """The content of a file, inflated if it is gzip, up to one byte more than ``limit``.

    Memory grows with what the file holds, not with what its header states.

    Raises:
        DataError: as ``open_file``, or damaged.
    """
    try:
        with open_file(path) as file:
            is_gzip = file.read(2) == GZIP
            file.seek(0)
            if not is_gzip:
                return bytearray(file.read(limit + 1))
            content = bytearray()
            for chunk in inflate(file):
                content += chunk
                if len(content) > limit:
                    return content[: limit + 1]
            return content
    except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]
        raise damaged(path, error) from error


def inflate(file: BinaryIO, *, wbits: int = 31) -> Iterator[bytes]:
    """Inflated chunks of at most 1 MB of a gzip file, member by member; checksums are verified.

    Args:
        file: where a member begins.
        wbits: as in zlib: 31 for gzip, 15 for a zlib stream, which has one member.

    Raises:
        EOFError: the file ends within a member, or has too many.
        isal_zlib.error: it is damaged.
    """
    data = file.read(CHUNK)
    for _ in range(MAX_MEMBERS):
        engine = isal_zlib.decompressobj(wbits=wbits)
        while not engine.eof:
            chunk = engine.decompress(data, CHUNK)
            if chunk:
                yield chunk
            data = engine.unconsumed_tail
            if not data and not engine.eof:
                data = file.read(CHUNK)
                if not data and not chunk:
                    raise EOFError("it ends within its compressed data")
        data = (engine.unused_data or file.read(CHUNK)).lstrip(b"\0")  # zeros pad archives and tapes
        if not data or wbits != 31:
            return
    raise EOFError(f"it has more than {MAX_MEMBERS} gzip members")


def check_size(path: Path, shape: tuple[int, ...], itemsize: int, *, packed: bool, before: int = 0) -> int:
    """Bytes of the voxels that a header states, against a cap and against the file's size.

    Args:
        shape: voxels along each axis.
        itemsize: bytes a voxel.
        packed: whether the file is compressed.
        before: bytes before the first voxel.

    Raises:
        DataError: more than 4 GB, or more than the file can hold.
    """
    count = itemsize
    for n in shape:
        count *= n
    size = check_file(path)
    stated = f"{'x'.join(map(str, shape))} voxels of {itemsize} bytes"
    if count > MAX_BYTES:
        raise DataError(f"{path} states {stated}, more than the {MAX_BYTES >> 30} GB that a scan may take; check it")
    holds = size * MAX_DEFLATE_RATIO if packed else size
    if before + count > holds:
        raise DataError(f"{path} is truncated: its header states {stated}, and it has {size} bytes; copy it again")
    return count


def damaged(path: Path, error: Exception) -> DataError:
    """The sentence for a file that ends early or whose checksum is wrong."""
    return DataError(f"{path} is truncated or damaged ({_describe(error)}); copy it again")


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "its links lead back to it"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def gzip_bytes(content: bytes) -> bytes:
    """The bytes as a gzip file, in a tenth of zlib's time and with 4 % more bytes; equal bytes give equal files."""
    return bytes(igzip.compress(content, 2, mtime=0))


def is_series(path: Path) -> bool:
    """Whether a path names the slices of a volume (``scan_%d.tif``), and not a file that is called so."""
    return NUMBER in path.name and not path.exists()


def list_files(path: Path) -> list[Path]:
    """The file itself; or every slice, by number, of a volume stored slice by slice (``scan_%d.tif``).

    Raises:
        DataError: no slice exists, or one in between is missing.
    """
    if not is_series(path):
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
