"""Files of nnU-Net models in a folder or a zip, and their bytes; nothing is unpacked to disk."""

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
MOST_SHRUNK = 100  # weights hardly compress; a hundredth of their size is an attack


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Files of models in a folder or a zip.

    Attributes:
        name: path of the folder or zip, for messages.
        sizes: bytes of each file that can belong to a model, by its path inside.
        read: path inside -> its bytes.
    """

    name: str
    sizes: Mapping[PurePosixPath, int]
    read: Callable[[PurePosixPath], bytes]


@contextmanager
def open_model_files(path: Path) -> Iterator[ModelFiles]:
    """List the model files of a folder or a zip.

    Raises:
        UsageError: neither.
        ModelError: a zip that is damaged, encrypted, or malicious.
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
        raise UsageError(f"{path} {what}; give the folder or the exported zip of an nnU-Net model")


def _open_folder(folder: Path) -> ModelFiles:
    sizes = {}
    for depth in range(DEPTH):
        for pattern in ("plans.json", "dataset.json", "fold_*/checkpoint_*.pth"):
            for file in folder.glob("*/" * depth + pattern):
                inside = PurePosixPath(file.relative_to(folder).as_posix())
                if _is_model_file(inside) and file.is_file():
                    sizes[inside] = file.stat().st_size
    for inside, size in sizes.items():
        _check_size(folder / inside, inside, size)
    return ModelFiles(name=str(folder), sizes=sizes, read=lambda inside: (folder / inside).read_bytes())


def _open_zip(path: Path, archive: zipfile.ZipFile) -> ModelFiles:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise ModelError(f"{path} holds {len(entries)} files, too many for an exported model; it is not opened")
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(path, entry)
        inside = PurePosixPath(entry.filename)
        if entry.is_dir() or not _is_model_file(inside):
            continue
        if inside in members:
            raise ModelError(f"{path} holds {inside} twice; export the model again")
        _check_size(path / inside, inside, entry.file_size, packed=entry.compress_size)
        members[inside] = entry
    sizes = {inside: entry.file_size for inside, entry in members.items()}
    return ModelFiles(name=str(path), sizes=sizes, read=lambda inside: archive.read(members[inside]))


def _is_model_file(inside: PurePosixPath) -> bool:
    """Whether a file belongs to a model at most ``DEPTH`` folders down."""
    parts = inside.parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    if parts[-1] in ("plans.json", "dataset.json"):
        return len(parts) <= DEPTH
    return len(parts) <= DEPTH + 1 and FOLD_FILE.fullmatch("/".join(parts[-2:])) is not None


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse an entry with a path outside the zip, a link, or an encrypted one."""
    name = entry.filename
    if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
        raise ModelError(f"{path} holds the path '{name}', which leads outside; it is not opened")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ModelError(f"{path} holds the link '{name}'; it is not opened")
    if entry.flag_bits & 1:
        raise ModelError(f"{path} is encrypted; unpack it with its password and give the folder instead")


def _check_size(shown: Path, inside: PurePosixPath, size: int, *, packed: int | None = None) -> None:
    text = inside.suffix == ".json"
    most = MOST_TEXT_BYTES if text else MOST_WEIGHT_BYTES
    if size > most:
        raise ModelError(f"{shown} has {size / 2**20:.0f} MB, more than {most / 2**20:.0f} MB; it is not opened")
    if packed is not None and not text and size > MOST_SHRUNK * max(packed, 1):
        raise ModelError(
            f"{shown} grows from {packed} to {size} bytes when unpacked, as weights never do; it is not opened"
        )
