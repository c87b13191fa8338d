"""ISLES 2015 SISS, as distributed: one folder per file, each with an id of its own.

``SISS2015_Training/<1..28>/VSD.Brain.XX.O.MR_{DWI,Flair,T1,T2}.<id>/<same>.nii``, the label ``VSD.Brain.XX.O.OT.<id>``.
Source: doi:10.1016/j.media.2016.07.009
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Case, ChannelFile, Dataset
from autoseg.datasets.folders import list_folders, list_images_below, list_some
from autoseg.datasets.shelf import Importer

CHANNELS = {"DWI": "MR_DWI", "FLAIR": "MR_Flair", "T1": "MR_T1", "T2": "MR_T2"}
KIND = re.compile(r"\.(MR_\w+|OT)\.\d+$")


def recognises(folder: Path) -> bool:
    """Numbered folders with DWI and FLAIR; SPES has no FLAIR, and BraTS no DWI."""
    return _find_root(folder) is not None


def find(folder: Path, name: str) -> Dataset:
    """List the training cases; a folder without its label (a test case) or without a channel is left out.

    Raises:
        DataError: there are no numbered folders with SISS files.
    """
    root = _find_root(folder)
    if root is None:
        raise DataError(f"{folder} is no ISLES 2015 SISS folder; it needs {IMPORTER.looks_for}")
    cases, left_out = [], {}
    for number in _numbered(root):
        case_id = f"siss_{int(number.name):02d}"
        files: dict[str, list[Path]] = {}
        for path in list_images_below(number):
            match = KIND.search(strip_ending(path))
            if match:
                files.setdefault(match[1].lower(), []).append(path)
        found = {channel: files.get(key.lower(), []) for channel, key in CHANNELS.items()} | {"OT": files.get("ot", [])}
        problems = [
            "no label (OT), a test case" if kind == "OT" and not paths else f"{len(paths)} files for {kind}"
            for kind, paths in found.items()
            if len(paths) != 1
        ]
        if problems:
            left_out[case_id] = f"folder {number.name} has {list_some(problems)}"
            continue
        channels = tuple(ChannelFile(path=found[channel][0]) for channel in CHANNELS)
        cases.append(Case(id=case_id, channels=channels, labels=(found["OT"][0],)))
    return Dataset(
        name=name,
        kind="isles15",
        channels=tuple(CHANNELS),
        labels={"background": 0, "lesion": 1},
        licence="as stated in the ISLES 2015 download; cite doi:10.1016/j.media.2016.07.009",
        cases=tuple(cases),
        left_out=left_out,
    )


def _find_root(folder: Path) -> Path | None:
    """The folder that holds the numbered ones: the one given or ``SISS2015_*`` in it."""
    inside = [path for path in list_folders(folder) if path.name.lower().startswith("siss2015")]
    for root in (folder, *sorted(inside, key=lambda path: "training" not in path.name.lower())):
        if any({"mr_dwi", "mr_flair"} <= _kinds(number) for number in _numbered(root)):
            return root
    return None


def _numbered(root: Path) -> list[Path]:
    return sorted((path for path in list_folders(root) if path.name.isdecimal()), key=lambda path: int(path.name))


def _kinds(number: Path) -> set[str]:
    """Kinds of the files in a case folder, from the names of its entries alone."""
    matches = (KIND.search(strip_ending(path)) for path in number.iterdir() if not path.name.startswith("."))
    return {match[1].lower() for match in matches if match}


IMPORTER = Importer(
    looks_for="SISS2015_Training/<number>/VSD.Brain.XX.O.MR_{DWI,Flair,T1,T2}.<id>/*.nii and ...OT.<id>/*.nii "
    "(ISLES 2015 SISS)",
    recognises=recognises,
    find=find,
)
