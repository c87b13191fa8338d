"""BIDS in general: scans in ``sub-*/[ses-*/]{anat,dwi,perf}``, lesion masks somewhere below ``derivatives``.

A channel is named by all of a file name but subject, session and run: ``FLAIR``, ``ce-gad_T1w``. A mask belongs to the
scans of its subject and session. ``participants.tsv`` may name sites, ``*dseg.tsv`` labels.
Source: doi:10.1038/sdata.2016.44, https://bids-specification.readthedocs.io (entities of a file name, derivatives).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import read_grid, strip_ending
from autoseg.core.records import Dataset
from autoseg.datasets import atlas, isles22
from autoseg.datasets.folders import list_folders, walk_images
from autoseg.datasets.matching import Session, choose_channels, find_roots, match_cases, sort_files, take_root
from autoseg.datasets.registry import Importer

_NAME = re.compile(r"(?P<subject>sub-[A-Za-z0-9]+)(_[a-z]+-[A-Za-z0-9]+)*(_[A-Za-z0-9]+)?")
DATATYPES = ("anat", "dwi", "perf")
MASK_SUFFIXES = ("mask", "msk", "lesion", "roi")
LABEL_SUFFIXES = (*MASK_SUFFIXES, "dseg", "seg", "label")
OTHER_TISSUE = re.compile(r"brain|head|skull|(label|desc)-(GM|WM|CSF)", re.IGNORECASE)


def find_subject(case: str) -> str | None:
    """``sub-01_ses-02`` -> ``sub-01``; None for any other id.

    Args:
        case: its id: ``sub-<label>``, more entities ``_<key>-<value>``, and at the end a suffix such as ``_dwi``.
    """
    match = _NAME.fullmatch(case)
    return None if match is None else match["subject"]


@dataclass(frozen=True, kw_only=True)
class _Name:
    """A file name in its parts: ``sub-01_ses-1_ce-gad_T1w``."""

    subject: str
    session: str | None
    entities: tuple[str, ...]
    suffix: str

    @property
    def kind(self) -> str:
        """The sequence: all entities but subject, session and run."""
        return "_".join([*(e for e in self.entities if not e.startswith("run-")), self.suffix])


def recognises(folder: Path) -> bool:
    """Scans of subjects, and lesion masks below ``derivatives``, not in a BIDS dataset with its own layout."""
    return bool(find_roots(folder, _is_root, depth=1)) and not any(
        layout.IMPORTER.recognises(folder) for layout in (atlas, isles22)
    )


def find(folder: Path, name: str) -> Dataset:
    """List every session; one without a mask or a channel is left out.

    Channels that fewer than half of the sessions have are not used. The first channel is one on the grid of the mask,
    if there is one.

    Raises:
        DataError: no folder holds such files, or several do.
    """
    folder = take_root(
        find_roots(folder, _is_root, depth=1), folder, "BIDS scans with lesion masks", IMPORTER.looks_for
    )
    scans = sort_files(list_scans(folder), find_case)
    labels = sort_files(_labels(folder), lambda path: _case_of_label(path, scans))
    sites = _read_table(folder / "participants.tsv", "participant_id", "site")
    sessions = []
    for case, paths in sorted(scans.items()):
        subject = case.partition("_")[0]
        files = {**sort_files(paths, read_kind), "label": _choose_labels(labels.get(case, []))}
        sessions.append(Session(id=case, files=files, group=subject, site=sites.get(subject)))
    kinds = sorted({kind for session in sessions for kind in session.files} - {"label"})
    channels = _put_first(choose_channels(sessions, kinds), sessions)
    cases, left_out = match_cases(sessions, channels)
    chosen = [path for case in cases for path in case.labels]
    named = _read_label_names(folder, chosen)
    masks = all(_read_name(path).suffix in MASK_SUFFIXES for path in chosen)
    return Dataset(
        name=name,
        kind="bids",
        channels=channels,
        labels={"background": 0, **{label: value for value, label in enumerate(named.values(), start=1)}},
        label_values={old: new for new, old in enumerate(named, start=1) if list(named) != [*range(1, len(named) + 1)]},
        mask_threshold=0.5 if masks and len(named) == 1 else None,
        cases=cases,
        left_out=left_out,
    )


def _is_root(folder: Path) -> bool:
    if not (folder / "derivatives").is_dir():
        return False
    return any(True for _ in list_scans(folder)) and any(True for _ in _labels(folder))


def list_scans(folder: Path) -> Iterator[Path]:
    """Scans of all subjects; a diffusion series, with its directions beside it, is not a map."""
    raw = folder / "rawdata" if (folder / "rawdata").is_dir() else folder
    for subject in list_folders(raw):
        if subject.name.startswith("sub-"):
            for path in walk_images(subject, depth=2):
                is_series = path.with_name(f"{strip_ending(path)}.bval").exists()
                if path.parent.name in DATATYPES and find_subject(strip_ending(path)) and not is_series:
                    yield path


def _labels(folder: Path) -> Iterator[Path]:
    """Files below ``derivatives`` that are named as a label of something other than the brain."""
    for path in walk_images(folder / "derivatives"):
        stem = strip_ending(path)
        if find_subject(stem) and _read_name(path).suffix in LABEL_SUFFIXES and not OTHER_TISSUE.search(stem):
            yield path


def _choose_labels(paths: Sequence[Path]) -> list[Path]:
    """Of several, those that name a lesion."""
    lesions = [path for path in paths if "lesion" in strip_ending(path).lower()]
    return lesions or list(paths)


def _read_name(path: Path) -> _Name:
    subject, *parts = strip_ending(path).split("_")
    suffix = parts.pop() if parts and "-" not in parts[-1] else ""
    session = next((part for part in parts if part.startswith("ses-")), None)
    entities = tuple(part for part in parts if not part.startswith("ses-"))
    return _Name(subject=subject, session=session, entities=entities, suffix=suffix)


def read_kind(path: Path) -> str:
    """The sequence that a file name states: ``FLAIR``, ``ce-gad_T1w``."""
    return _read_name(path).kind


def find_case(path: Path) -> str:
    """The case of a scan: its subject, and session if it has one."""
    return _case(_read_name(path))


def _case(named: _Name) -> str:
    return f"{named.subject}_{named.session}" if named.session else named.subject


def _case_of_label(path: Path, cases: dict[str, list[Path]]) -> str | None:
    """The case of a label; one that names no session belongs to its subject's only one."""
    named = _read_name(path)
    of_subject = [case for case in cases if case.partition("_")[0] == named.subject]
    if named.session or len(of_subject) != 1:
        return _case(named)
    return of_subject[0]


def _put_first(channels: Sequence[str], sessions: Sequence[Session]) -> tuple[str, ...]:
    """Channels; the first is one on the grid of the label, as in the first complete session."""
    complete = [s for s in sessions if all(len(s.files.get(kind, ())) == 1 for kind in (*channels, "label"))]
    first: list[str] = []
    if complete:
        files = complete[0].files
        try:
            grid = read_grid(files["label"][0])[0]
            first = [name for name in channels if read_grid(files[name][0])[0].matches(grid)]
        except DataError:
            first = []  # reading the case will report what is wrong
    return tuple(dict.fromkeys([*first[:1], *channels]))


def _read_label_names(folder: Path, labels: Sequence[Path]) -> dict[int, str]:
    """Value on disk -> name, from a table beside the labels or above them; one class "lesion" without."""
    tables = [path.with_name(f"{strip_ending(path)}.tsv") for path in labels[:1]]
    tables += [above / "dseg.tsv" for path in labels[:1] for above in path.parents if above.is_relative_to(folder)]
    for table in tables:
        names = {int(value): name for value, name in _read_table(table, "index", "name").items() if value.isdecimal()}
        if names:
            return {value: names[value] for value in sorted(names) if value != 0}
    return {1: "lesion"}


def _read_table(path: Path, key: str, value: str) -> dict[str, str]:
    """Two columns of a tab-separated table; empty where the table or a column is missing."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); repair it") from error
    return {row[key]: row[value] for row in rows if row.get(key) and row.get(value) not in (None, "", "n/a")}


IMPORTER = Importer(
    looks_for="sub-*/[ses-*/]{anat,dwi,perf}/*.nii.gz and derivatives/.../sub-*_{mask,dseg,...}.nii.gz (BIDS)",
    recognises=recognises,
    find=find,
)
