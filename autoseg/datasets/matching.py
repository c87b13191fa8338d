"""Files of scan sessions -> complete cases, and the missing files of each of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.records import Case, ChannelFile
from autoseg.core.text import join_names
from autoseg.datasets.folders import list_folders

LABEL = "label"  # the kind of file that is not a channel
Files = dict[str, list[Path]]
Matched = tuple[tuple[Case, ...], dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Session:
    """The files of one scan session.

    Attributes:
        id: of the case it may become.
        files: channel name or ``label`` -> files.
        group: the patient, where the layout states it.
        site: the hospital or scanner, where the layout states it.
        left_out: reason why it is left out even if it is complete.
    """

    id: str
    files: Mapping[str, Sequence[Path]]
    group: str | None = None
    site: str | None = None
    left_out: str | None = None


def sort_files(files: Iterable[Path], kind_of: Callable[[Path], str | None]) -> Files:
    """Kind -> files of that kind; files without a kind are ignored."""
    kinds: Files = {}
    for path in files:
        kind = kind_of(path)
        if kind is not None:
            kinds.setdefault(kind, []).append(path)
    return kinds


def match_cases(sessions: Iterable[Session], channels: Sequence[str], *, united: bool = False) -> Matched:
    """Sessions with one file per channel and a label become cases.

    Args:
        united: a label may be several files, which are united.

    Returns:
        The cases in the order given, and for every other session what it lacks.
    """
    cases: list[Case] = []
    left_out: dict[str, str] = {}
    for session in sessions:
        files = {name: session.files.get(name, ()) for name in channels}
        labels = session.files.get(LABEL, ())
        problems = [_describe_count(name, paths) for name, paths in files.items() if len(paths) != 1]
        if not labels or (len(labels) > 1 and not united):
            problems.append(_describe_count("the label", labels))
        if session.left_out is not None or problems:
            left_out[session.id] = session.left_out or f"has {join_names(problems)}"
            continue
        image = tuple(ChannelFile(path=paths[0]) for paths in files.values())
        cases.append(Case(id=session.id, channels=image, labels=tuple(labels), group=session.group, site=session.site))
    return tuple(cases), left_out


def _describe_count(name: str, paths: Sequence[Path]) -> str:
    if not paths:
        return f"no {name.removeprefix('the ')}"
    return f"{len(paths)} files for {name} ({', '.join(path.name for path in paths)})"


def choose_channels(sessions: Sequence[Session], channels: Iterable[str]) -> tuple[str, ...]:
    """The channels that a dataset has: those of at least half of its sessions with scans and a label.

    One session may lack a channel, and one may have a channel more; neither decides for all.

    Args:
        channels: all that may occur.
    """
    names = tuple(channels)
    scanned = [s for s in sessions if s.files.get(LABEL) and any(s.files.get(name) for name in names)]
    counts = Counter(name for session in scanned for name in session.files)
    return tuple(name for name in names if counts[name] > 0 and 2 * counts[name] >= len(scanned))


def find_roots(folder: Path, is_root: Callable[[Path], bool], *, depth: int = 2) -> list[Path]:
    """The nearest folders that hold a dataset: the one given, else all that are equally near."""
    level = [folder] if folder.is_dir() else []
    for _ in range(depth + 1):
        roots = [inside for inside in level if is_root(inside)]
        if roots:
            return roots
        level = [below for inside in level for below in list_folders(inside)]
    return []


def take_root(roots: Sequence[Path], folder: Path, dataset: str, looks_for: str) -> Path:
    """The only one of the folders that hold a dataset.

    Args:
        folder: that was given.
        dataset: its title, for messages.
        looks_for: the files that make it.

    Raises:
        DataError: there is none, or more than one.
    """
    if not roots:
        raise DataError(f"{folder} is not a folder of {dataset}; expected {looks_for}")
    if len(roots) > 1:
        names = join_names(root.relative_to(folder).as_posix() for root in roots)
        raise DataError(f"{folder} holds {dataset} in several folders: {names}; give one")
    return roots[0]
