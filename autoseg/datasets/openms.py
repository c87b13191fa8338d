"""The multiple sclerosis scans of the University of Ljubljana (open MS data), cross-sectional and longitudinal.

``cross_sectional/<space>/patientXX/{FLAIR,T1W,T1WKS,T2W,consensus_gt,brainmask}.nii.gz`` and
``longitudinal/<space>/patientXX/{study1_*,study2_*,gt,brainmask}.nii.gz``, the space being ``coregistered``, ``raw`` or
``MNI``; the original archives name files ``patientXX_FLAIR`` and ``patientX_study1_FLAIRreg`` and hold raw scans in a
folder ``raw`` of each patient.

The longitudinal label marks what changed between two scans, so it is the label of neither: a pair is one case with the
channels of both.
Source: doi:10.1007/s12021-017-9348-7, doi:10.1007/s12021-016-9301-1
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Dataset
from autoseg.core.text import join_names
from autoseg.datasets.folders import walk_images
from autoseg.datasets.matching import Session, choose_channels, match_cases, sort_files
from autoseg.datasets.registry import Importer

KINDS = {
    "flair": "FLAIR", "t1w": "T1", "t1": "T1", "t1wks": "T1c", "t1post": "T1c", "t2w": "T2", "t2": "T2",
    "consensus": "label", "gold": "label", "gt": "label",
}  # fmt: skip
CROSS_SECTIONAL = ("FLAIR", "T1", "T1c", "T2")
LONGITUDINAL = tuple(f"study{number}_{name}" for number in (1, 2) for name in CROSS_SECTIONAL)
NAME = re.compile(r"(patient\d+_)?(?P<study>study\d_)?(?P<word>[A-Za-z0-9]+?)(reg)?(_\w+)?", re.IGNORECASE)
PATIENT = re.compile(r"patient\d+", re.IGNORECASE)


def recognises(folder: Path) -> bool:
    """Folders ``patient<number>`` with one of the labels' names."""
    return any(_kind(path) == "label" for path in walk_images(folder))


def find(folder: Path, name: str) -> Dataset:
    """List every patient of one database in one space; one without a label or a channel is left out.

    Channels that fewer than half of the patients have are not used.

    Raises:
        DataError: there are no such folders, or it is not clear which are meant.
    """
    spaces: dict[Path, list[Path]] = {}
    for path in walk_images(folder):
        if _kind(path):
            spaces.setdefault(path.parent.parent, []).append(path)
    if not any(_kind(path) == "label" for files in spaces.values() for path in files):
        raise DataError(f"{folder} is no folder of the open MS data; it needs {IMPORTER.looks_for}")
    space = _choose_space(folder, spaces)
    patients = sort_files(spaces[space], lambda path: path.parent.name)
    sessions = [
        Session(id=patient, files=sort_files(files, _kind), group=patient)
        for patient, files in sorted(patients.items())
    ]
    pairs = any("study1_FLAIR" in session.files for session in sessions)
    known = LONGITUDINAL if pairs else CROSS_SECTIONAL
    channels = choose_channels(sessions, {channel: channel for channel in known}, "label")
    cases, left_out = match_cases(sessions, channels, "label")
    return Dataset(
        name=name,
        kind="openms",
        channels=tuple(channels),
        labels={"background": 0, "lesion_change" if pairs else "lesion": 1},
        licence="CC BY; cite doi:10.1007/s12021-01" + ("6-9301-1" if pairs else "7-9348-7"),
        cases=cases,
        left_out=left_out,
    )


def _kind(path: Path) -> str | None:
    """``patient01/T1WKS.nii.gz`` -> ``T1c``; ``label``; with ``study1_`` before it where there are two scans."""
    found = NAME.fullmatch(strip_ending(path))
    if found is None or not PATIENT.fullmatch(path.parent.name):
        return None
    kind = KINDS.get(found["word"].lower())
    return kind and f"{(found['study'] or '').lower()}{kind}"


def _choose_space(folder: Path, spaces: dict[Path, list[Path]]) -> Path:
    """The folder of patients to take: the only one, or the only one called ``coregistered``.

    Raises:
        DataError: there are several.
    """
    coregistered = [space for space in spaces if space.name.lower() == "coregistered"]
    if len(spaces) > 1 and len(coregistered) != 1:
        names = join_names(sorted(space.relative_to(folder).as_posix() for space in coregistered or spaces))
        raise DataError(f"{folder} holds the same patients, or two databases, in several folders: {names}; give one")
    return coregistered[0] if coregistered else next(iter(spaces))


IMPORTER = Importer(
    looks_for="patient<number>/ with FLAIR, T1W, T1WKS, T2W and consensus_gt.nii.gz, or study1_*, study2_* and "
    "gt.nii.gz (open MS data)",
    recognises=recognises,
    find=find,
)
