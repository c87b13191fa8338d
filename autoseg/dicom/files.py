"""DICOM files in a folder and in zips: found, bounded before they are parsed, and read without pixels.

Source: DICOM PS3.10 (files), PS3.3 (attributes).
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from autoseg.core.errors import DataError, UsageError
from autoseg.core.image_files import MAX_BYTES, open_file, real_path, show_path

if TYPE_CHECKING:
    from pydicom import Dataset

ENDINGS = (".dcm", ".ima", ".dicom")
MAX_FILES = 200_000
MAX_DEPTH = 10
MAX_ZIP_RATIO = 200  # of all content to the zip itself; zipped scans take a third to a tenth
MAX_HEADER = 2**26  # bytes before the pixels; an enhanced object with 10,000 frames has 20 MB
MAGIC = b"DICM"
DEFLATED = "1.2.840.10008.1.2.1.99"
SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # bits, label map
PIXELS = 0x7FE00010


@dataclass(frozen=True, kw_only=True)
class Source:
    """One DICOM file.

    Attributes:
        path: the file, or the zip that holds it.
        member: its name in the zip; None for a file of its own.
        name: for messages: the path below the folder that was given.
        facts: size and time by which a changed file is noticed.
    """

    path: Path
    member: str | None = None
    name: str
    facts: tuple[int, int]

    @property
    def place(self) -> str:
        """The folder that it lies in, or the zip, below the folder that was given; empty for that folder itself."""
        return self.name.partition("!")[0] if self.member is not None else self.name.rpartition("/")[0]

    def read(self, limit: int = MAX_BYTES) -> bytes:
        """Its bytes, at most ``limit``.

        Raises:
            DataError: it cannot be read, or the zip states another size.
        """
        if self.member is None:
            with open_file(self.path) as file:
                return _read_bytes(self.name, file, limit)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                content = file.read(limit)
        except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, EOFError, *_ZIP) as error:
            raise DataError(f"{self.name} cannot be unpacked ({_clause(error)}); copy the zip again") from error
        if len(content) < min(limit, self.facts[0]):
            raise DataError(f"{self.name} ends early in its zip; copy the zip again")
        return content


@dataclass(kw_only=True)
class Found:
    """Files below a folder.

    Attributes:
        sources: DICOM files.
        problems: place -> a sentence for each file there that should be DICOM and cannot be used.
    """

    sources: list[Source] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def add_problem(self, place: str, sentence: str) -> None:
        """Note that a file cannot be used."""
        self.problems.setdefault(place, []).append(sentence)


_ZIP = (zipfile.BadZipFile, zipfile.LargeZipFile, zipfile.zlib.error)  # type: ignore[attr-defined]


def check_packages() -> None:
    """Check that the optional packages are there.

    Raises:
        UsageError: one is not installed.
    """
    missing = [name for name in ("pydicom", "highdicom") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"DICOM needs {' and '.join(missing)}; install with: pip install {' '.join(missing)}")


def holds_dicom(path: Path, *, without: Path | None = None) -> bool:
    """Whether the first files of a folder, or a zip, or a file, are DICOM; other images in it do not matter.

    Args:
        without: a folder inside that is not searched.
    """
    if path.is_file():
        return _starts_as_dicom(path) or path.suffix.lower() == ".zip"
    for number, (file, _) in enumerate(_walk(path, Found(), without)):
        if _starts_as_dicom(file) or (file.suffix.lower() == ".zip" and _zip_holds_dicom(file)):
            return True
        if number >= 200:
            break
    return False


def find_files(folder: Path, *, without: Path | None = None) -> Found:
    """All DICOM files in a folder, in the zips in it, or in one zip; other files are ignored.

    Args:
        without: a folder inside that is not searched.

    Raises:
        UsageError: there are more files than a folder of studies has.
    """
    found = Found()
    files = [(folder, folder.name)] if folder.is_file() else _walk(folder, found, without)
    for file, name in files:
        place = name.rpartition("/")[0]
        try:
            if file.suffix.lower() == ".zip":
                found.sources += _list_zip(file, name)
            elif _starts_as_dicom(file):
                status = file.stat()
                found.sources.append(Source(path=file, name=name, facts=(status.st_size, status.st_mtime_ns)))
            elif file.suffix.lower() in ENDINGS:
                raise DataError(f"{name} is not a DICOM file, whatever its name; copy it again or remove it")
        except DataError as error:
            found.add_problem(name if file.suffix.lower() == ".zip" else place, str(error))
        if len(found.sources) > MAX_FILES:
            raise UsageError(f"{folder} holds more than {MAX_FILES} DICOM files; give a part of it")
    return found


def parse(source: Source, *, pixels: bool = False, whole: bool = False) -> Dataset:
    """Parse a file; nothing in it can run code, and its size bounds the memory.

    Args:
        pixels: read the pixels, too.
        whole: keep every attribute, also those that name the patient; otherwise those that images are sorted by.

    Raises:
        DataError: damaged, or deflated, whose size nothing bounds.
    """
    import pydicom

    from autoseg.dicom.attributes import TAGS

    content = source.read(MAX_BYTES if pixels else MAX_HEADER)
    syntax = _read_syntax(source, content)
    if syntax == DEFLATED:
        raise DataError(f"{source.name} is deflated as a whole; write it again without (dcmconv +te)")
    logging.getLogger("pydicom").disabled = True  # its messages quote values, which may name a person
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    tags = None if whole else [*TAGS, *([PIXELS] if pixels else [])]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=not pixels, specific_tags=tags)
            dataset.walk(lambda *_: None)  # values are converted here, where an error costs one file
    except Exception as error:  # whatever a parser of a hundred value types raises on a damaged file
        raise DataError(f"{source.name} is damaged ({_clause(error)}); copy it again") from error
    return dataset


def is_image(dataset: Dataset) -> bool:
    """Whether a file states that it is an image, or does not state what it is."""
    from pydicom.uid import UID

    kind = str(dataset.get("SOPClassUID") or getattr(dataset.file_meta, "MediaStorageSOPClassUID", ""))
    return not kind or UID(kind).name.endswith("Image Storage")


def _walk(folder: Path, found: Found, without: Path | None) -> Iterator[tuple[Path, str]]:
    """(file, path below the folder) of all files, sorted; a link that leads out of the folder is a problem."""
    root, skipped = real_path(folder), without and real_path(without)
    for inside, folders, names in os.walk(root, followlinks=False):
        below = Path(inside).relative_to(root)
        visible = sorted(name for name in folders if not name.startswith(".") and Path(inside, name) != skipped)
        folders[:] = visible if len(below.parts) < MAX_DEPTH else []
        for name in sorted(names):
            shown = show_path(below / name).replace(os.sep, "/")
            path = Path(inside) / name
            if name.startswith(".") or name.upper() == "DICOMDIR":
                continue
            if path.is_symlink() and not real_path(path).is_relative_to(root):
                if _starts_as_dicom(path):
                    found.add_problem(
                        below.as_posix().removeprefix("."),
                        f"{shown} is a link out of the folder; copy the file instead",
                    )
                continue
            yield path, shown


def _starts_as_dicom(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == MAGIC
    except OSError:
        return False


def _zip_holds_dicom(path: Path) -> bool:
    try:
        return bool(_list_zip(path, path.name))
    except DataError:
        return True  # to be reported


def _list_zip(path: Path, name: str) -> list[Source]:
    """DICOM files of a zip, which is never unpacked onto the disk.

    Raises:
        DataError: damaged, encrypted, names that lead out of it, or more content than its size can honestly hold.
    """
    sources = []
    try:
        with zipfile.ZipFile(path) as archive:
            size, stamp = path.stat().st_size, path.stat().st_mtime_ns
            members = [member for member in archive.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            if len(members) > MAX_FILES or total > 2 * MAX_BYTES or total > MAX_ZIP_RATIO * size + 2**20:
                raise DataError(
                    f"{name} unpacks to {total >> 20} MB in {len(members)} files from {size >> 10} KB, which no zip of "
                    f"scans does; check it"
                )
            for member in members:
                parts = PurePosixPath(member.filename.replace("\\", "/")).parts
                if ".." in parts or member.filename.startswith(("/", "\\")) or ":" in parts[0]:
                    raise DataError(f"{name} holds {member.filename!r}, a path out of the zip; make the zip again")
                if member.flag_bits & 1:
                    raise DataError(f"{name} is encrypted; unpack it first")
                if any(part.startswith((".", "__MACOSX")) for part in parts) or parts[-1].upper() == "DICOMDIR":
                    continue
                with archive.open(member) as file:
                    if file.read(132)[128:] != MAGIC:
                        continue
                facts = (member.file_size, stamp)
                sources.append(Source(path=path, member=member.filename, name=f"{name}!{member.filename}", facts=facts))
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, *_ZIP) as error:
        raise DataError(f"{name} is damaged or of an unknown kind ({_clause(error)}); copy the zip again") from error
    return sources


def _read_bytes(name: str, file: BinaryIO, limit: int) -> bytes:
    try:
        return file.read(limit)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({_clause(error)})") from error


def _read_syntax(source: Source, content: bytes) -> str:
    """The transfer syntax that the first group states, or "" (PS3.10 section 7.1)."""
    at = 132
    while at + 8 <= len(content):
        group, element, kind, length = struct.unpack_from("<HH2sH", content, at)
        if group != 2:
            break
        at += 8
        if kind in (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN"):
            if at + 4 > len(content):
                break
            (length,) = struct.unpack_from("<I", content, at)
            at += 4
        if element == 0x10:
            return content[at : at + length].rstrip(b"\0 ").decode("ascii", "replace")
        at += length
    raise DataError(f"{source.name} states no transfer syntax; convert it again")


def _clause(error: Exception) -> str:
    """The first sentence of another library's message, without values of the file."""
    text = (getattr(error, "strerror", None) or str(error)).splitlines()
    return (text[0].partition(":")[0][:80] if text else "") or type(error).__name__
