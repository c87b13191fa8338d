"""ISLES 2022, both copies: the BIDS download and the challenge's ``rawdata`` folder.

``[rawdata/]sub-strokecaseXXXX/ses-0001/[anat/|dwi/]*_{FLAIR,dwi,adc}.nii.gz`` in upper or lower case, labels
``derivatives/.../*_msk.nii.gz``. DWI, ADC and label share a grid; FLAIR has its own.
Source: doi:10.1038/s41597-022-01875-5
"""

from __future__ import annotations

from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Case, ChannelFile, Dataset
from autoseg.datasets.folders import list_folders, list_images_below, list_some
from autoseg.datasets.shelf import Importer

CHANNELS = {"DWI": "dwi", "ADC": "adc", "FLAIR": "flair"}


def recognises(folder: Path) -> bool:
    """Folders ``sub-*`` with an ADC map, beside ``derivatives``."""
    if not (folder / "derivatives").is_dir():
        return False
    return any(_ending(path) == "adc" for subject in _subjects(folder) for path in list_images_below(subject))


def find(folder: Path, name: str) -> Dataset:
    """List every session; one without its label or a channel is left out.

    Raises:
        DataError: there are no ``sub-*`` folders.
    """
    if not _subjects(folder):
        raise DataError(f"{folder} is no ISLES 2022 folder; it needs {IMPORTER.looks_for}")
    masks: dict[str, list[Path]] = {}
    for path in list_images_below(folder / "derivatives"):
        if _ending(path) == "msk":
            masks.setdefault(_prefix(path), []).append(path)
    cases, left_out = [], {}
    for subject in _subjects(folder):
        sessions: dict[str, dict[str, list[Path]]] = {}
        for path in list_images_below(subject):
            sessions.setdefault(_prefix(path), {}).setdefault(_ending(path), []).append(path)
        for session, files in sorted(sessions.items()):
            found = {channel: files.get(key, []) for channel, key in CHANNELS.items()}
            found["the label (msk)"] = masks.get(session, [])
            problems = [f"{len(paths)} files for {kind}" for kind, paths in found.items() if len(paths) != 1]
            if problems:
                left_out[session] = f"has {list_some(problems)}"
                continue
            channels = tuple(ChannelFile(path=found[channel][0]) for channel in CHANNELS)
            cases.append(Case(id=session, channels=channels, labels=(masks[session][0],), group=subject.name))
    return Dataset(
        name=name,
        kind="isles22",
        channels=tuple(CHANNELS),
        labels={"background": 0, "lesion": 1},
        licence="as stated in the ISLES 2022 download; cite doi:10.1038/s41597-022-01875-5",
        cases=tuple(cases),
        left_out=left_out,
    )


def _subjects(folder: Path) -> list[Path]:
    raw = folder / "rawdata"
    return [path for path in list_folders(raw if raw.is_dir() else folder) if path.name.startswith("sub-")]


def _ending(path: Path) -> str:
    """``sub-01_ses-01_dwi.nii.gz`` -> ``dwi``."""
    return strip_ending(path).rpartition("_")[2].lower()


def _prefix(path: Path) -> str:
    """``sub-01_ses-01_dwi.nii.gz`` -> ``sub-01_ses-01``."""
    return strip_ending(path).rpartition("_")[0]


IMPORTER = Importer(
    looks_for="sub-*/ses-*/ with *_dwi, *_adc and *_FLAIR.nii.gz, and derivatives/.../*_msk.nii.gz (ISLES 2022)",
    recognises=recognises,
    find=find,
)
