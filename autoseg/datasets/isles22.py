"""ISLES 2022, both copies: the BIDS download and the challenge's ``rawdata`` folder.

``[rawdata/]sub-strokecaseXXXX/ses-0001/[anat/|dwi/]*_{FLAIR,dwi,adc}.nii.gz`` in upper or lower case, labels
``derivatives/.../*_msk.nii.gz``. DWI, ADC and label share a grid; FLAIR has its own.
Source: doi:10.1038/s41597-022-01875-5
"""

from __future__ import annotations

from pathlib import Path

from autoseg.core.images import strip_ending
from autoseg.core.records import Dataset
from autoseg.datasets.folders import list_folders, list_images_below, walk_images
from autoseg.datasets.matching import Files, Session, find_roots, last_word, match_cases, sort_files, take_root
from autoseg.datasets.registry import Importer

CHANNELS = {"DWI": "dwi", "ADC": "adc", "FLAIR": "flair"}


def recognises(folder: Path) -> bool:
    """Folders ``sub-*`` with an ADC map, beside ``derivatives``."""
    return bool(_find_roots(folder))


def find(folder: Path, name: str) -> Dataset:
    """List every session; one without its label or a channel is left out.

    Raises:
        DataError: there are no such folders, or it is not clear which are meant.
    """
    root = take_root(_find_roots(folder), folder, "ISLES 2022", IMPORTER.looks_for)
    sessions: dict[str, Files] = {}
    groups: dict[str, str] = {}
    for subject in _subjects(root):
        for session, paths in sort_files(list_images_below(subject), _session).items():
            sessions[session], groups[session] = sort_files(paths, last_word), subject.name
    masks = sort_files((p for p in walk_images(root / "derivatives") if last_word(p) == "msk"), _session)
    cases, left_out = match_cases(
        (
            Session(id=session, files={**files, "msk": masks.get(session, [])}, group=groups[session])
            for session, files in sorted(sessions.items())
        ),
        CHANNELS,
        "msk",
    )
    return Dataset(
        name=name,
        kind="isles22",
        channels=tuple(CHANNELS),
        labels={"background": 0, "lesion": 1},
        licence="as stated in the ISLES 2022 download; cite doi:10.1038/s41597-022-01875-5",
        cases=cases,
        left_out=left_out,
    )


def _find_roots(folder: Path) -> list[Path]:
    return find_roots(folder, _is_root, depth=1)


def _is_root(folder: Path) -> bool:
    if not (folder / "derivatives").is_dir():
        return False
    return any(last_word(path) == "adc" for subject in _subjects(folder) for path in walk_images(subject))


def _subjects(folder: Path) -> list[Path]:
    raw = folder / "rawdata"
    return [path for path in list_folders(raw if raw.is_dir() else folder) if path.name.startswith("sub-")]


def _session(path: Path) -> str:
    """``sub-01_ses-01_dwi.nii.gz`` -> ``sub-01_ses-01``."""
    return strip_ending(path).rpartition("_")[0]


IMPORTER = Importer(
    looks_for="sub-*/ses-*/ with *_dwi, *_adc and *_FLAIR.nii.gz, and derivatives/.../*_msk.nii.gz (ISLES 2022)",
    recognises=recognises,
    find=find,
)
