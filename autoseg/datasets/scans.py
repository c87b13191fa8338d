"""Scans to predict: find each case's channels in a folder without labels and without ``dataset.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoseg.core.errors import DataError, UsageError
from autoseg.core.image_files import real_path
from autoseg.core.images import ENDINGS, count_volumes, file_ending, strip_ending
from autoseg.core.records import Case, ChannelFile
from autoseg.core.text import join_names
from autoseg.datasets.bids_scans import find_bids_scans, is_bids
from autoseg.datasets.folders import list_folders, list_images, list_images_below, unreadable_names

LABEL_WORDS = frozenset({"ot", "mask", "msk", "seg", "dseg", "segm", "segmentation", "label", "labels", "gt"})
UNREAD = (".hdr", ".mgz", ".mgh", ".mnc", ".bz2")  # images that would be left out silently
MOST_CHANNELS = 10  # that a folder of scans is taken to have; larger numbers are those of cases
Found = tuple[tuple[Case, ...], dict[str, str]]


def find_scans(folder: Path, channels: Sequence[str], *, without: Path | None = None) -> Found:
    """Find the scans in a folder, in one of four forms.

    1. ``<case>_0000.nii.gz``, one file per channel; the number may be left off when there is one channel, or when
       the channels are a fourth axis.
    2. One folder per case, whose file names hold the channel names as whole words (``sub-01_FLAIR.nii.gz``).
    3. One file, or one case's folder.
    4. A BIDS dataset.

    Args:
        folder: the folder, or one file.
        channels: the trained channels, in order.
        without: a folder that holds no scans, even if it lies in the other: the masks.

    Returns:
        The complete cases, and for every other one a sentence on what it lacks.

    Raises:
        UsageError: the folder does not exist or holds no scan.
    """
    if not folder.exists():
        raise UsageError(f"{folder} does not exist; give a folder of scans")
    if is_bids(folder):
        return find_bids_scans(folder, channels)
    skip = None if without is None else real_path(without)
    files = [folder] if folder.is_file() else list_images(folder)
    if folder.is_file() and not file_ending(folder):
        raise UsageError(f"{folder} is not an image; use {', '.join(ENDINGS)}")
    numbered = any(_split_number(path) for path in files)
    if files and (numbered or len(channels) == 1 or folder.is_file()):
        cases, failures = _from_files(files, channels)
    else:
        cases, failures = _from_folders(list_folders(folder), channels, skip)
        if files and not cases and not failures:
            fourth = _from_files(files, channels)
            cases, failures = fourth if fourth[0] else _from_folders([real_path(folder)], channels, skip)
    unreadable = unreadable_names(folder)
    failures = {**failures, **{name: f"{folder / name} has a name that is not UTF-8; rename it" for name in unreadable}}
    stems = {strip_ending(path) for path in files}  # the same scan in a format that is read
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        stem = path.name.removesuffix(path.suffix).removesuffix(".nii")
        if path.suffix.lower() in UNREAD and stem not in stems and not path.name.startswith("."):
            failures[path.name] = f"{path} is of a format that is not read; convert it to .nii.gz"
    if not cases and not failures:
        raise UsageError(
            f"{folder} holds no scans; expected <case>_0000.nii.gz, one file per channel "
            f"({join_names(channels)}), or one folder per case with the channel names in the file names"
        )
    return cases, failures


def _split_number(path: Path) -> tuple[str, int] | None:
    match = re.fullmatch(r"(.+)_(\d{4})", strip_ending(path))
    return (match[1], int(match[2])) if match else None


def _from_files(files: Sequence[Path], channels: Sequence[str]) -> Found:
    """Files side by side, numbered ``_0000``."""
    cases: list[Case] = []
    failures: dict[str, str] = {}
    numbered: dict[str, dict[int, list[Path]]] = {}
    for path in files:
        case, number = _split_number(path) or (strip_ending(path), None)
        if number is not None:
            numbered.setdefault(case, {}).setdefault(number, []).append(path)
        elif len(channels) == 1:
            numbered.setdefault(case, {}).setdefault(0, []).append(path)
        else:
            try:
                cases.append(Case(id=case, channels=_volumes(path, channels)))
            except DataError as error:
                failures[case] = f"case {case}: {error}"
    if len(channels) == 1:
        numbered = dict(_count_plainly(numbered))
    for case, channel_files in numbered.items():
        twice = [path.name for paths in channel_files.values() if len(paths) > 1 for path in paths]
        missing = [f"{case}_{i:04d} ({name})" for i, name in enumerate(channels) if i not in channel_files]
        extra = [path.name for number, paths in channel_files.items() if number >= len(channels) for path in paths]
        if missing:
            failures[case] = (
                f"case {case}: {join_names(missing)} is missing beside {next(iter(channel_files.values()))[0]}"
            )
        elif extra:
            expected = f"{len(channels)} channel{'s' if len(channels) > 1 else ''} ({join_names(channels)})"
            failures[case] = f"case {case}: {join_names(extra)} is one channel too many; the model has {expected}"
        elif twice:
            failures[case] = f"case {case}: several files for one channel: {join_names(twice)}; keep one"
        else:
            cases.append(
                Case(id=case, channels=tuple(ChannelFile(path=channel_files[i][0]) for i in range(len(channels))))
            )
    for case in [case.id for case in cases if case.id in failures]:
        failures[case] = f"case {case}: both numbered files and one without number; keep one kind"
    return tuple(sorted((c for c in cases if c.id not in failures), key=lambda c: c.id)), failures


def _count_plainly(numbered: dict[str, dict[int, list[Path]]]) -> Iterator[tuple[str, dict[int, list[Path]]]]:
    """With one channel, ``scan_0012`` beside no ``scan_0000`` is a case of that name, not channel 12.

    ``scan_0001`` beside ``other_0000`` is a channel whose first is missing.
    """
    has_channels = any(_split_number(path) for files in numbered.values() for path in files.get(0, ()))
    for case, channel_files in numbered.items():
        if 0 in channel_files or (has_channels and min(channel_files) < MOST_CHANNELS):
            yield case, channel_files
        else:
            yield from ((strip_ending(paths[0]), {0: paths}) for paths in channel_files.values())


def _volumes(path: Path, channels: Sequence[str]) -> tuple[ChannelFile, ...]:
    """The channels of one file, along its fourth axis."""
    volumes = count_volumes(path)
    if volumes != len(channels):
        raise DataError(
            f"{path} holds {volumes} channel{'s' if volumes > 1 else ''}; the model needs {len(channels)} "
            f"({join_names(channels)}); name the files <case>_0000, <case>_0001, ... or use one folder per case"
        )
    return tuple(ChannelFile(path=path, volume=i) for i in range(volumes))


def _from_folders(folders: Sequence[Path], channels: Sequence[str], skip: Path | None) -> Found:
    """One folder per case; nothing in the folder ``skip``."""
    cases: list[Case] = []
    failures: dict[str, str] = {}
    for folder in folders:
        try:
            files = [path for path in list_images_below(folder) if skip is None or skip not in real_path(path).parents]
            if not files:
                continue
            cases.append(Case(id=folder.name, channels=_match_channels(folder, files, channels)))
        except DataError as error:
            failures[folder.name] = str(error)
    return tuple(cases), failures


def _match_channels(folder: Path, files: Sequence[Path], channels: Sequence[str]) -> tuple[ChannelFile, ...]:
    """Give each channel the one file whose name holds the channel's name."""
    words = {channel: split_words(channel) for channel in channels}
    label_words = LABEL_WORDS - {word for parts in words.values() for word in parts}
    candidates: dict[str, list[Path]] = {channel: [] for channel in channels}
    for path in files:
        stem = split_words(strip_ending(path))
        matching = [channel for channel in channels if _holds(stem, words[channel])]
        if label_words & set(stem) or not matching:
            continue
        longest = max(len(words[channel]) for channel in matching)  # T2_FLAIR is the channel "T2 FLAIR", not "T2"
        for channel in matching:
            if len(words[channel]) == longest:
                candidates[channel].append(path)
    missing = [channel for channel, paths in candidates.items() if not paths]
    names = join_names(path.relative_to(folder) for path in files)
    if missing:
        raise DataError(f"case {folder.name}: no file name in {folder} contains {join_names(missing)} (files: {names})")
    for channel, paths in candidates.items():
        shared = [rival for rival in channels if rival != channel and paths[0] in candidates[rival]]
        if len(paths) > 1 or shared:
            candidates_named = join_names(path.relative_to(folder) for path in paths)
            raise DataError(
                f"case {folder.name}: several files in {folder} may be {channel}: {candidates_named}"
                f"{f' (also named after {join_names(shared)})' if shared else ''}; keep one, or name the files "
                f"<case>_0000, <case>_0001, ... side by side"
            )
    return tuple(ChannelFile(path=candidates[channel][0]) for channel in channels)


def split_words(text: str) -> tuple[str, ...]:
    """``VSD.Brain.MR_T1c`` -> ("vsd", "brain", "mr", "t1c"); a leading ``MR_`` is dropped."""
    words = tuple(word for word in re.split(r"[^0-9a-z]+", text.lower()) if word)
    return words[1:] if len(words) > 1 and words[0] == "mr" else words


def _holds(words: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    return any(words[i : i + len(phrase)] == phrase for i in range(len(words) - len(phrase) + 1))
