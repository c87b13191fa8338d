"""Folders: their images, their subfolders and their ``dataset.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autoseg.core.errors import DataError
from autoseg.core.image_files import show_path
from autoseg.core.images import file_ending
from autoseg.core.records.base import FOREIGN_JSON_BYTES, JsonError, parse_json


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted; hidden ones (``._*``) are not listed."""
    found = [folder / entry.name for entry in _list(folder) if file_ending(Path(entry.name)) and not _is_folder(entry)]
    return [path for path in found if is_text(path.name)]


def unreadable_names(folder: Path) -> list[str]:
    """Names of image files in a folder that are not UTF-8, as far as they can be shown; no program can print them."""
    names = [Path(entry.name) for entry in _list(folder) if not is_text(entry.name)]
    return [show_path(name) for name in names if file_ending(name)]


def is_text(name: str) -> bool:
    """Whether the bytes of a name are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def list_images_below(folder: Path) -> list[Path]:
    """Image files anywhere below a folder, sorted; nothing hidden and nothing in hidden folders."""
    return sorted(walk_images(folder))


def walk_images(folder: Path, *, depth: int = 8) -> Iterator[Path]:
    """Image files in and below a folder, nearer ones first; nothing hidden.

    Args:
        depth: folders to go down at most, because a link may lead back up.

    Raises:
        DataError: a folder cannot be listed.
    """
    for inside in walk_folders(folder, depth=depth):
        yield from list_images(inside)


def walk_folders(folder: Path, *, depth: int = 8) -> Iterator[Path]:
    """A folder and the visible ones below it, nearer ones first, sorted within each.

    Raises:
        DataError: a folder cannot be listed.
    """
    level = [folder] if folder.is_dir() else []
    for step in range(depth + 1):
        yield from level
        level = [below for inside in level for below in list_folders(inside)] if step < depth else []


def list_folders(folder: Path) -> list[Path]:
    """Visible folders directly in a folder, sorted."""
    visible = [entry for entry in _list(folder) if not entry.name.startswith(".") and is_text(entry.name)]
    return [folder / entry.name for entry in visible if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _list(folder: Path) -> list[os.DirEntry[str]]:
    """All entries of a folder, sorted; none where it is not a folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); make it readable") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: missing, not JSON, or not an object.
    """
    try:
        content = parse_json(path.read_bytes(), max_bytes=FOREIGN_JSON_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, JsonError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); repair it") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a JSON {type(content).__name__} instead of an object; repair it")
    return content


def read_names(path: Path, key: str, content: Any) -> tuple[str, ...]:
    """``{"0": "FLAIR", "1": "T1"}`` -> ("FLAIR", "T1").

    Args:
        path: the file it came from, for the message.
        key: where in the file, for the message.

    Raises:
        DataError: not an object of names numbered from 0, or a name twice.
    """
    numbered = content if isinstance(content, dict) else {}
    names = tuple(str(numbered[number]) for number in sorted(numbered, key=lambda n: (len(str(n)), str(n))))
    if not names or {str(number) for number in numbered} != {str(i) for i in range(len(names))}:
        raise DataError(f'{path}: "{key}" must name the channels as {{"0": "FLAIR", "1": "T1"}}, not {content!r}')
    return names


def read_mapping(path: Path, content: Mapping[str, Any], key: str) -> dict[str, str]:
    """An optional object of strings, such as ``groups``.

    Raises:
        DataError: it is something else.
    """
    mapping = content.get(key) or {}
    if not isinstance(mapping, dict):
        raise DataError(f'{path}: "{key}" must be an object of case ids and names, not {mapping!r}')
    return {str(name): str(value) for name, value in mapping.items()}
