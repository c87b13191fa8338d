"""Files of scan sessions -> complete cases, and what each of the others lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Case, ChannelFile
from autoseg.core.text import join_names
from autoseg.datasets.folders import list_folders

Files = dict[str, list[Path]]
Matched = tuple[tuple[Case, ...], dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Session:
    """The files of one scan session, by what they are.

    Attributes:
        id: of the case it may become.
        files: kind ("flair", "seg") -> files of that kind.
        group: the patient, where the layout says so.
        site: the hospital or scanner, where the layout says so.
        left_out: why it is left out even if it is complete.
    """

    id: str
    files: Mapping[str, Sequence[Path]]
    group: str | None = None
    site: str | None = None
    left_out: str | None = None


def sort_files(files: Iterable[Path], kind_of: Callable[[Path], str | None]) -> Files:
    """Kind -> files of that kind; those without a kind are none of ours."""
    kinds: Files = {}
    for path in files:
        kind = kind_of(path)
        if kind is not None:
            kinds.setdefault(kind, []).append(path)
    return kinds


def match_cases(
    sessions: Iterable[Session], channels: Mapping[str, str], label: str, *, united: bool = False
) -> Matched:
    """Sessions with one file per channel and a label become cases.

    Args:
        channels: channel name -> kind of its file.
        label: kind of the label's file.
        united: a label may be several files, which are united.

    Returns:
        The cases in the order given, and for every other session what it lacks.
    """
    cases: list[Case] = []
    left_out: dict[str, str] = {}
    for session in sessions:
        found = {name: session.files.get(kind, ()) for name, kind in channels.items()}
        labels = session.files.get(label, ())
        problems = [_say(name, paths) for name, paths in found.items() if len(paths) != 1]
        if not labels or (len(labels) > 1 and not united):
            problems.append(_say("the label", labels))
        if session.left_out is not None or problems:
            left_out[session.id] = session.left_out or f"has {join_names(problems)}"
            continue
        files = tuple(ChannelFile(path=paths[0]) for paths in found.values())
        cases.append(Case(id=session.id, channels=files, labels=tuple(labels), group=session.group, site=session.site))
    return tuple(cases), left_out


def _say(name: str, paths: Sequence[Path]) -> str:
    if not paths:
        return "no label" if name == "the label" else f"no {name}"
    return f"{len(paths)} files for {name} ({', '.join(path.name for path in paths)})"


def choose_channels(sessions: Sequence[Session], channels: Mapping[str, str], label: str) -> dict[str, str]:
    """The channels that a dataset has: those of at least half of its sessions with scans and a label.

    One session may lack a channel, and one may have a channel more; neither decides for all.

    Args:
        channels: channel name -> kind, of all that may occur.
        label: kind of the label's file.
    """
    scanned = [s for s in sessions if s.files.get(label) and any(s.files.get(kind) for kind in channels.values())]
    counts = Counter(kind for session in scanned for kind in set(session.files))
    return {name: kind for name, kind in channels.items() if counts[kind] > 0 and 2 * counts[kind] >= len(scanned)}


def find_roots(folder: Path, is_root: Callable[[Path], bool], *, depth: int = 2) -> list[Path]:
    """The nearest folders for which a question is answered with yes: the one given, else all that are equally near."""
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
        dataset: what it is called, for messages.
        looks_for: which files make it.

    Raises:
        DataError: there is none, or it is not clear which is meant.
    """
    if not roots:
        raise DataError(f"{folder} is no folder of {dataset}; it needs {looks_for}")
    if len(roots) > 1:
        names = join_names(root.relative_to(folder).as_posix() for root in roots)
        raise DataError(f"{folder} holds {dataset} in several folders: {names}; give one")
    return roots[0]


def last_word(path: Path, separator: str = "_") -> str:
    """``sub-01_ses-01_DWI.nii.gz`` -> ``dwi``."""
    return strip_ending(path).rpartition(separator)[2].lower()
