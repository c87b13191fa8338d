"""Folders: their images, their subfolders and their ``dataset.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autoseg.core.errors import DataError
from autoseg.core.images import file_ending


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted; hidden ones (``._*``) are not listed."""
    return [folder / entry.name for entry in _list(folder) if file_ending(Path(entry.name)) and not entry.is_dir()]


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
    return [folder / entry.name for entry in _list(folder) if not entry.name.startswith(".") and entry.is_dir()]


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
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
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
