"""ISLES 2015, as distributed: SISS (sub-acute lesions) and SPES (penumbra and core), one folder per file.

``SISS2015_Training/<1..28>/VSD.Brain.XX.O.MR_{DWI,Flair,T1,T2}.<id>/<same>.nii`` and
``SPES2015_Training/<1..30>/VSD.Brain.XX.O.MR_{T1c,T2,DWI,CBF,CBV,TTP,Tmax}.<id>/<same>.nii``; the label is
``VSD.Brain.XX.O.OT.<id>``.
Source: doi:10.1016/j.media.2016.07.009
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Dataset
from autoseg.datasets.folders import list_folders, list_images_below, walk_folders
from autoseg.datasets.matching import Files, Session, match_cases, sort_files
from autoseg.datasets.registry import Importer
from autoseg.datasets.vsd import read_vsd_kind


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One of the two tasks: its channels, by which its folders are known, and its labels."""

    channels: dict[str, str]
    labels: dict[str, int]


TASKS = {
    "siss": _Task(
        channels={"DWI": "mr_dwi", "FLAIR": "mr_flair", "T1": "mr_t1", "T2": "mr_t2"},
        labels={"background": 0, "lesion": 1},
    ),
    "spes": _Task(
        channels={
            "T1c": "mr_t1c", "T2": "mr_t2", "DWI": "mr_dwi", "CBF": "mr_cbf", "CBV": "mr_cbv", "TTP": "mr_ttp",
            "Tmax": "mr_tmax",
        },
        labels={"background": 0, "penumbra": 1, "core": 2},
    ),
}  # fmt: skip
TELLING = {"siss": {"mr_dwi", "mr_flair"}, "spes": {"mr_dwi", "mr_tmax"}}  # no other dataset has these


def recognises(folder: Path) -> bool:
    """Numbered folders with DWI and FLAIR (SISS) or DWI and Tmax (SPES)."""
    return bool(_find_roots(folder))


def find(folder: Path, name: str) -> Dataset:
    """List the training cases of one task; a case without its label (a test case) or without a channel is left out.

    Raises:
        DataError: there are no numbered folders with files of either task, or those of both.
    """
    roots = _find_roots(folder)
    if not roots:
        raise DataError(f"{folder} is no ISLES 2015 folder; it needs {IMPORTER.looks_for}")
    if len(roots) > 1:
        both = " and ".join(root.relative_to(folder).as_posix() for root in roots.values())
        raise DataError(f"{folder} holds both tasks of ISLES 2015, {both}; give the folder of one of them")
    [(task, root)] = roots.items()
    sessions = [
        Session(id=f"{task}_{int(number.name):02d}", files=_choose_label(_sort(number))) for number in _numbered(root)
    ]
    cases, left_out = match_cases(sessions, TASKS[task].channels, "ot")
    return Dataset(
        name=name,
        kind="isles15",
        channels=tuple(TASKS[task].channels),
        labels=TASKS[task].labels,
        licence="as stated in the ISLES 2015 download; cite doi:10.1016/j.media.2016.07.009",
        cases=cases,
        left_out=left_out,
    )


def _find_roots(folder: Path) -> dict[str, Path]:
    """Task -> the folder that holds its numbered ones: the one given, or one near it, training before testing."""
    inside = sorted(
        walk_folders(folder, depth=2), key=lambda path: "test" in path.relative_to(folder).as_posix().lower()
    )
    roots: dict[str, Path] = {}
    for root in inside:
        for task in _tasks(root):
            roots.setdefault(task, root)
    return roots


def _tasks(root: Path) -> Iterator[str]:
    kinds = [_kinds(number) for number in _numbered(root)]
    yield from (task for task, telling in TELLING.items() if any(telling <= found for found in kinds))


def _numbered(root: Path) -> list[Path]:
    return sorted((path for path in list_folders(root) if path.name.isdecimal()), key=lambda path: int(path.name))


def _kinds(number: Path) -> set[str]:
    """Kinds of the files in a case folder, from the names of its entries alone."""
    return {kind for inside in list_folders(number) if (kind := read_vsd_kind(inside / "any"))} | set(_sort(number))


def _sort(number: Path) -> Files:
    return sort_files(list_images_below(number), read_vsd_kind)


def _choose_label(files: Files) -> Files:
    """SPES labels may lie there three times: core and penumbra each alone, and merged, which is the one to take."""
    merged = [path for path in files.get("ot", []) if "merged" in strip_ending(path).lower()]
    return {**files, "ot": merged} if merged else files


IMPORTER = Importer(
    looks_for="SISS2015_Training/<number>/VSD.Brain.XX.O.MR_{DWI,Flair,T1,T2}.<id>/*.nii, or SPES2015_Training with "
    "MR_{T1c,T2,DWI,CBF,CBV,TTP,Tmax}, and ...OT.<id>/*.nii (ISLES 2015)",
    recognises=recognises,
    find=find,
)
