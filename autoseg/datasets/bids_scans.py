"""Scans of a BIDS dataset to predict: a case for each session, its channels by the suffix of their files.

Source: https://bids-specification.readthedocs.io (entities of a file name, suffixes of sequences).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Case, ChannelFile
from autoseg.core.text import join_names
from autoseg.datasets.bids import find_case, list_scans, read_kind
from autoseg.datasets.folders import list_folders

WEIGHTINGS = {"t1": "t1w", "t2": "t2w", "pd": "pdw"}  # name in other datasets -> suffix


def is_bids(folder: Path) -> bool:
    """Whether a folder holds ``dataset_description.json`` and subjects."""
    described = (folder / "dataset_description.json").is_file()
    return described and any(inside.name.startswith("sub-") for inside in list_folders(folder))


def find_bids_scans(folder: Path, channels: Sequence[str]) -> tuple[tuple[Case, ...], dict[str, str]]:
    """The sessions of all subjects.

    Args:
        folder: of the dataset; its derivatives are not searched.
        channels: the trained channels, in order.

    Returns:
        The complete cases, and for every other one a sentence on what it lacks.
    """
    sessions: dict[str, list[Path]] = {}
    for path in list_scans(folder):
        sessions.setdefault(find_case(path), []).append(path)
    cases, failures = [], {}
    for name, files in sorted(sessions.items()):
        try:
            chosen = tuple(ChannelFile(path=_choose_file(name, files, channel)) for channel in channels)
            cases.append(Case(id=name, channels=chosen, group=name.partition("_")[0]))
        except DataError as error:
            failures[name] = str(error)
    return tuple(cases), failures


def _choose_file(case: str, files: Sequence[Path], channel: str) -> Path:
    """The file whose name without subject, session and run is the channel; else the only one with its suffix, of
    several the one with the fewest entities.

    Raises:
        DataError: there is none, or several.
    """
    name = WEIGHTINGS.get(channel.lower(), channel.lower())
    same = [path for path in files if read_kind(path).lower() == name]
    candidates = same or [path for path in files if read_kind(path).lower().rpartition("_")[2] == name]
    fewest = min((path.name.count("_") for path in candidates), default=0)
    simplest = [path for path in candidates if path.name.count("_") == fewest]
    if len(simplest) == 1:
        return simplest[0]
    names = join_names(strip_ending(path) for path in simplest or files)
    if simplest:
        raise DataError(f"case {case}: several files may be {channel}: {names}; keep one")
    raise DataError(f"case {case}: no file has the suffix {name} for the channel {channel} (files: {names})")
