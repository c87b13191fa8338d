"""Paths of everything on disk, and atomic writing: a file is complete or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

from autoseg.core.errors import PlanError, StorageError, UsageError
from autoseg.core.records import Record, parse_record, render_record

R = TypeVar("R", bound=Record)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well, and vanishes when it does not.

    Raises:
        StorageError: the disk refused the write; ``path`` keeps what it held.
    """
    temporary = hidden_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(explain_write_error(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def growing_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside ``target`` that takes its name when the block ends well, and vanishes when it does not.

    Raises:
        UsageError: ``target`` exists, or another command made it meanwhile.
        StorageError: the disk refused a write.
    """
    taken = f"{target} already exists; use it, remove it, or choose another name"
    if target.exists() or target.is_symlink():
        raise UsageError(taken)
    folder = hidden_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        folder.mkdir()
        yield folder
        folder.rename(target)  # fails where another was faster, unless that one is empty
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.exists():
            raise UsageError(f"{taken} (another command made it meanwhile)") from error
        raise StorageError(explain_write_error(target, error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hidden_beside(path: Path) -> Path:
    """A hidden name beside a path, of this process alone: ``.<machine>-<process>-<random>.<name>``."""
    return path.with_name(f".{_machine()}-{os.getpid():x}-{uuid.uuid4().hex[:8]}.{path.name}")


@contextmanager
def claimed(path: Path, taken: str) -> Iterator[None]:
    """Work at a path while no other process of this machine does; of two at once, the first one works.

    Args:
        path: need not exist; its folder is made.
        taken: sentence for the others.

    Raises:
        UsageError: another process works there.
        StorageError: the disk refused a write.
    """
    claim = hidden_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        claim.touch()
    except OSError as error:
        raise StorageError(explain_write_error(path, error)) from error
    try:
        time.sleep(TICK_S)  # so that claims of one tick see each other, and agree which is the first
        if _first_claim(path) != claim.name:
            raise UsageError(taken)
        yield
    finally:
        claim.unlink(missing_ok=True)


def _first_claim(path: Path) -> str:
    """Name of the oldest claim of a process of this machine that is alive."""
    claims = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            named = _HIDDEN.fullmatch(entry.name)
            if named is not None and named[1] == _machine() and entry.name.endswith(f".{path.name}"):
                with suppress(FileNotFoundError):  # its process ended meanwhile
                    if not _is_leftover(entry):
                        claims.append((entry.stat().st_mtime_ns, entry.name))
    return min(claims)[1]


def remove_leftovers(folder: Path) -> None:
    """Remove hidden files and folders of processes that are gone; once for each folder and process.

    Those of other machines, and those of version 0.1, which name no process, are removed when they are a day old.
    """
    if (os.getpid(), folder) in _swept:
        return
    _swept.add((os.getpid(), folder))
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if _is_leftover(entry)]:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    Path(entry.path).unlink()


_swept: set[tuple[int, Path]] = set()
_HIDDEN = re.compile(r"\.([0-9a-f]{6})-([0-9a-f]+)-[0-9a-f]{8}\..+")
_ENDINGS = "json|jsonl|csv|html|png|npy|npz|pt|safetensors|nii|gz|mha|nrrd|tif|tiff"
_HIDDEN_0_1 = re.compile(rf"\.[0-9a-f]{{8}}\..+\.({_ENDINGS})|\..+\.importing|\.importing_model")
DAY_S = 86400
TICK_S = 0.02  # longer than a step of the clock that dates files
CLOCK_S = 60  # by which the clock of a disk may differ from ours


def _is_leftover(entry: os.DirEntry[str]) -> bool:
    named = _HIDDEN.fullmatch(entry.name)
    if named is None and not _HIDDEN_0_1.fullmatch(entry.name):
        return False
    try:
        changed_at = entry.stat(follow_symlinks=False).st_mtime
        if named is not None and named[1] == _machine():
            process = psutil.Process(int(named[2], 16))
            # One that began later has the number by chance, as the first process of every container has.
            return process.status() == psutil.STATUS_ZOMBIE or process.create_time() - changed_at > CLOCK_S
    except psutil.NoSuchProcess:
        return True
    except (OSError, psutil.Error):
        return False
    return time.time() - changed_at > DAY_S


@cache
def _machine() -> str:
    """Six digits that tell this machine from others that write to the same disk."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def check_ours(path: Path, mark: str) -> None:
    """Refuse to replace a file that autoseg did not write. An empty one, as a full disk leaves a log, may be anybody's.

    Args:
        path: about to be written; it may not exist.
        mark: text within the first 4096 bytes of every such file of autoseg.

    Raises:
        UsageError: it is somebody else's, or a folder.
    """
    if not path.exists():
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file")
    with path.open("rb") as file:
        start = file.read(4096)
    if start and mark.encode() not in start:
        raise UsageError(f"{path} was not written by autoseg as such a file; choose another place with -o, or move it")


def check_writable(folder: Path) -> None:
    """Make a folder and try whether it can be written to, before something long begins.

    Raises:
        StorageError: it cannot.
    """
    trial = hidden_beside(folder / "trial")
    try:
        write_bytes(trial, bytes(4096))
        trial.unlink()
    except StorageError as error:
        cause = error.__cause__
        raise (error if not isinstance(cause, OSError) else StorageError(explain_write_error(folder, cause))) from cause


def explain_write_error(path: Path, error: OSError) -> str:
    """One sentence on why a file could not be written."""
    reasons = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
        errno.EROFS: "the disk is read-only; choose another folder with --root or -o",
        errno.ENOENT: "a part of that path cannot be made; choose another folder with --root or -o",
        errno.ENOTDIR: "a part of that path is a file, not a folder; choose another folder with --root or -o",
        errno.EEXIST: "a part of that path is a file, not a folder; choose another folder with --root or -o",
        errno.EACCES: "permission denied; choose another folder with --root or -o",
    }
    return f"{path} could not be written: {reasons.get(error.errno or 0, error.strerror or str(error))}"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode())


def write_record(path: Path, record: Record) -> None:
    """Write a JSON record whole or not at all."""
    write_text(path, render_record(record))


def read_record(kind: type[R], path: Path, *, advice: str) -> R:
    """Read and validate a JSON record.

    Args:
        advice: what the user can do when it is missing or wrong; ends the message.

    Raises:
        PlanError: missing, unreadable or invalid; the message names every wrong key.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PlanError(f"{path} does not exist; {advice}") from error
    except OSError as error:
        raise PlanError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    return parse_record(kind, content, path=path, advice=advice)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as ``.npy``, whole or not at all."""
    array = np.ascontiguousarray(array)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        # Not by numpy's own ``tofile``, whose error does not name a full disk; and without another copy.
        file.write(array.reshape(-1).view(np.uint8).data)


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Read one ``.npy`` array; ``mapped`` leaves it on disk until it is touched."""
    return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)


def sha256(source: Path | bytes) -> str:
    """SHA-256 of bytes, or of a file's content, as hexadecimal digits."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_settings(*parts: Any, without: Collection[str] = ()) -> str:
    """Twelve hexadecimal digits that change when any part does.

    Args:
        without: keys of the parts that are records which do not count.
    """
    texts = [render_record(part, without=without) if isinstance(part, Record) else repr(part) for part in parts]
    text = "\n".join(texts)
    return sha256(text.encode())[:12]


class Store:
    """One root folder with the raw, preprocessed and results folders of every dataset.

    Args:
        root: the folder that holds ``autoseg_raw``, ``autoseg_preprocessed`` and ``autoseg_results``.
        full_paths: whether records and logs of runs name whole paths.
    """

    def __init__(self, root: Path, *, full_paths: bool = False) -> None:
        self.root, self.full_paths = root, full_paths

    def raw(self, dataset: str) -> Path:
        """The user's data; only read, except by an import."""
        return self.root / "autoseg_raw" / check_name(dataset, "dataset")

    def preprocessed(self, dataset: str) -> Path:
        """A cache: fingerprint, plan, folds, arrays; safe to delete."""
        return self.root / "autoseg_preprocessed" / check_name(dataset, "dataset")

    def results(self, dataset: str, configuration: str) -> Path:
        """Precious: a self-contained folder with the plan and every trained fold."""
        return self.results_root / check_name(dataset, "dataset") / check_name(configuration, "configuration")

    def pretrained(self, dataset: str, configuration: str) -> Path:
        """Folder of a pre-trained network; precious."""
        folder = self.root / "autoseg_pretrained" / check_name(dataset, "dataset")
        return folder / check_name(configuration, "configuration")

    @property
    def results_root(self) -> Path:
        """All trained models of all datasets."""
        return self.root / "autoseg_results"

    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets under ``autoseg_raw``, sorted."""
        return subfolders(self.root / "autoseg_raw")


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the visible folders in a folder, sorted; none if it does not exist."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def check_name(name: str, what: str) -> str:
    """A name that is safe as a folder.

    Raises:
        UsageError: it is empty, starts with a dot or a dash, or holds a slash or another unsafe character.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise UsageError(f"'{name}' is not a valid {what} name; use letters, digits, '_', '-', '+' and '.'")
    return name
