"""Layouts as declarations: file names that identify channel or label, case, patient and site.

A layout is a regular expression with named groups over the path of a file, and what the dataset holds. One function
lists the cases of any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Dataset
from autoseg.core.text import join_names
from autoseg.datasets.folders import walk_images
from autoseg.datasets.matching import LABEL, Session, choose_channels, match_cases
from autoseg.datasets.registry import Importer

Naming = str | Callable[["re.Match[str]"], str]  # the name of a group, or a function of the match
Found = tuple[str, "re.Match[str]", Path]  # channel or ``label``, match and path of a file
TEST_CASE = "is a test case; to import test cases, give a folder that holds nothing else"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One dataset as distributed.

    Attributes:
        title: of the dataset, for messages.
        patterns: each matched to the end of a file's absolute path without its image ending, in either case; the
            first that fits counts. Named groups: ``kind`` (of a scan) or ``label``; those that ``case``, ``patient``
            and ``site`` read; ``part`` (the nearest to the folder given is used, and there may be one only);
            ``split``; ``preferred`` (where any file has it, files without are ignored).
        channels: channel name -> pattern of the kind of its files.
        known_by: channels, ``label`` among them, that one scan must have for the layout to be recognised.
        case, patient, site: id of the case, what folds must not split, and the hospital or scanner, from the match.
        optional_channels: channels that fewer than half of the scans have are not used, instead of leaving cases out.
        united_labels: a scan may have several label files, which are united.
        fields: labels, licence and others of the ``Dataset``.
    """

    title: str
    patterns: tuple[str, ...]
    channels: Mapping[str, str]
    known_by: tuple[str, ...]
    case: Naming = "case"
    patient: Naming = "patient"
    site: Naming = "site"
    optional_channels: bool = False
    united_labels: bool = False
    fields: Mapping[str, Any]

    def match_files(self, folder: Path) -> list[Found]:
        """Every file of the layout in and below a folder."""
        patterns = [re.compile(rf"(?:{pattern})$", re.IGNORECASE) for pattern in self.patterns]
        files = []
        for path in walk_images(folder):
            text = (path.absolute().parent / strip_ending(path)).as_posix()
            match = next((match for pattern in patterns if (match := pattern.search(text))), None)
            channel = match and self._channel(match)
            if match and channel:
                files.append((channel, match, path))
        preferred = any(_group(match, "preferred") is not None for _, match, _ in files)
        return [file for file in files if not preferred or file[1].groupdict().get("preferred", "") is not None]

    def _channel(self, match: re.Match[str]) -> str | None:
        if _group(match, "label") is not None:
            return LABEL
        kinds = self.channels.items()
        return next((name for name, kind in kinds if re.fullmatch(kind, match["kind"], re.IGNORECASE)), None)

    def make_sessions(self, files: Sequence[Found]) -> list[Session]:
        """The scan sessions that files belong to, sorted by split and case."""
        grouped: dict[tuple[str, str], dict[str, list[Path]]] = {}
        matches: dict[tuple[str, str], re.Match[str]] = {}
        for channel, match, path in files:
            key = ((_group(match, "split") or "").lower(), _group(match, self.case) or "")
            grouped.setdefault(key, {}).setdefault(channel, []).append(path)
            matches.setdefault(key, match)
        other_splits = any(split not in ("", "test") for split, _ in grouped)
        return [
            Session(
                id=case,
                files=grouped[split, case],
                group=_group(matches[split, case], self.patient),
                site=_group(matches[split, case], self.site),
                left_out=TEST_CASE if split == "test" and other_splits else None,
            )
            for split, case in sorted(grouped)
        ]

    def recognises(self, files: Sequence[Found]) -> bool:
        """Whether a scan has every file that identifies the layout."""
        return any(set(self.known_by) <= set(session.files) for session in self.make_sessions(files))


def make_importer(kind: str, looks_for: str, *layouts: Layout) -> Importer:
    """The importer of one dataset, which may be distributed in more than one layout.

    Args:
        kind: name in the table of importers.
        looks_for: one clause on the files that make it.
        layouts: of which a folder may hold one.
    """

    def find(folder: Path, name: str) -> Dataset:
        present = [(layout, files) for layout in layouts if layout.recognises(files := layout.match_files(folder))]
        if not present:
            raise DataError(f"{folder} is not a folder of {layouts[0].title}; expected {looks_for}")
        if len(present) > 1:
            titles = " and ".join(layout.title for layout, _ in present)
            raise DataError(f"{folder} holds {titles}; give the folder of one")
        [(layout, files)] = present
        parts = sorted({_group(match, "part") or "" for _, match, _ in files}, key=lambda part: (part.count("/"), part))
        nearest = [part for part in parts if part.count("/") == parts[0].count("/")]
        if len(nearest) > 1:
            names = join_names(part.removeprefix(f"{folder.absolute().as_posix()}/") for part in nearest)
            raise DataError(f"{folder} holds {layout.title} in several folders: {names}; give one")
        sessions = layout.make_sessions([file for file in files if (_group(file[1], "part") or "") == parts[0]])
        channels = choose_channels(sessions, layout.channels) if layout.optional_channels else tuple(layout.channels)
        cases, left_out = match_cases(sessions, channels, united=layout.united_labels)
        return Dataset(name=name, kind=kind, channels=channels, cases=cases, left_out=left_out, **layout.fields)

    return Importer(
        looks_for=looks_for,
        recognises=lambda folder: any(layout.recognises(layout.match_files(folder)) for layout in layouts),
        find=find,
    )


def _group(match: re.Match[str], naming: Naming) -> str | None:
    """The text that a match is named by; None where the pattern has no such group."""
    return match.groupdict().get(naming) if isinstance(naming, str) else naming(match)
