"""A folder or a zip with foreign models: which of its files matter, and their bytes. Nothing is ever unpacked."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autoseg.core.errors import ModelError, UsageError

DEPTH = 3  # <dataset>/<trainer>__<plans>__<configuration>/plans.json
FOLD_FILE = re.compile(r"fold_(all|\d+)/checkpoint_(final|best)\.pth")

MOST_ENTRIES = 200_000
MOST_TEXT_BYTES = 2**26
MOST_WEIGHT_BYTES = 2**34
MOST_SHRUNK = 100  # weights are noise to a packer; a hundredth of their size is no honest one


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What a folder or a zip holds of models.

    Attributes:
        name: its path, for messages.
        sizes: bytes of each file that can belong to a model, by its path inside.
        read: path inside -> its bytes.
    """

    name: str
    sizes: Mapping[PurePosixPath, int]
    read: Callable[[PurePosixPath], bytes]


@contextmanager
def open_source(path: Path) -> Iterator[ModelSource]:
    """Look into a folder or a zip.

    Raises:
        UsageError: neither.
        ModelError: a zip that is damaged, encrypted, or made to do harm.
    """
    if path.is_dir():
        yield _open_folder(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                yield _open_zip(path, archive)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ModelError(f"{path} is damaged ({error}); copy or download it again") from error
    else:
        what = "is neither a folder nor a zip file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}; give the folder of an nnU-Net model, or what its export wrote")


def _open_folder(folder: Path) -> ModelSource:
    sizes = {}
    for depth in range(DEPTH):
        for pattern in ("plans.json", "dataset.json", "fold_*/checkpoint_*.pth"):
            for file in folder.glob("*/" * depth + pattern):
                inside = PurePosixPath(file.relative_to(folder).as_posix())
                if _matters(inside) and file.is_file():
                    sizes[inside] = file.stat().st_size
    for inside, size in sizes.items():
        _check_size(folder / inside, inside, size)
    return ModelSource(name=str(folder), sizes=sizes, read=lambda inside: (folder / inside).read_bytes())


def _open_zip(path: Path, archive: zipfile.ZipFile) -> ModelSource:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise ModelError(f"{path} holds {len(entries)} files, more than any export of a model; it is not opened")
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(path, entry)
        inside = PurePosixPath(entry.filename)
        if entry.is_dir() or not _matters(inside):
            continue
        if inside in members:
            raise ModelError(f"{path} holds {inside} twice, so nobody knows which one counts; export the model again")
        _check_size(path / inside, inside, entry.file_size, packed=entry.compress_size)
        members[inside] = entry
    sizes = {inside: entry.file_size for inside, entry in members.items()}
    return ModelSource(name=str(path), sizes=sizes, read=lambda inside: archive.read(members[inside]))


def _matters(inside: PurePosixPath) -> bool:
    """Whether a file can belong to a model that lies deep enough, but not deeper."""
    parts = inside.parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    if parts[-1] in ("plans.json", "dataset.json"):
        return len(parts) <= DEPTH
    return len(parts) <= DEPTH + 1 and FOLD_FILE.fullmatch("/".join(parts[-2:])) is not None


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse a zip that would write outside its folder if somebody unpacked it, or that cannot be read."""
    name = entry.filename
    if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
        raise ModelError(f"{path} holds the path '{name}', which leads out of it; it is not opened")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ModelError(f"{path} holds the link '{name}', which no export of a model does; it is not opened")
    if entry.flag_bits & 1:
        raise ModelError(f"{path} is encrypted; unpack it with its password and give the folder instead")


def _check_size(shown: Path, inside: PurePosixPath, size: int, *, packed: int | None = None) -> None:
    text = inside.suffix == ".json"
    most = MOST_TEXT_BYTES if text else MOST_WEIGHT_BYTES
    if size > most:
        raise ModelError(f"{shown} has {size / 2**20:.0f} MB, more than the {most / 2**20:.0f} MB of any honest one")
    if packed is not None and not text and size > MOST_SHRUNK * max(packed, 1):
        raise ModelError(
            f"{shown} grows from {packed} to {size} bytes when unpacked, as weights never do; it is not opened"
        )
