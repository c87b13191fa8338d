"""White matter hyperintensities (WMH challenge, MICCAI 2017), as distributed.

``{training,test}/<site>[/<scanner>]/<id>/{pre,orig}/{FLAIR,T1,3DT1}.nii.gz`` and ``<id>/wmh.nii.gz`` with 1 for WMH and
2 for other pathology, which counts neither way. ``pre`` holds the scans with their bias field corrected; T1 lies on the
grid of FLAIR.
Source: doi:10.1109/TMI.2019.2905770
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Dataset
from autoseg.datasets.folders import walk_images
from autoseg.datasets.matching import Files, Session, match_cases
from autoseg.datasets.registry import Importer

CHANNELS = {"FLAIR": "flair", "T1": "t1"}
SPLITS = ("training", "test", "public")


def recognises(folder: Path) -> bool:
    """A file ``wmh`` beside a folder ``pre`` or ``orig``."""
    return any(
        strip_ending(path) == "wmh" and any((path.parent / inside).is_dir() for inside in ("pre", "orig"))
        for path in walk_images(folder)
    )


def find(folder: Path, name: str) -> Dataset:
    """List every case; one without a channel is left out, and so are test cases that lie beside training cases.

    Raises:
        DataError: there are no such files.
    """
    scans: dict[Path, Files] = {}
    for path in walk_images(folder):
        stem, inside = strip_ending(path), path.parent.name
        if stem == "wmh":
            scans.setdefault(path.parent, {}).setdefault("label", []).append(path)
        elif inside in ("pre", "orig") and stem in CHANNELS:
            scans.setdefault(path.parent.parent, {}).setdefault(f"{inside}/{CHANNELS[stem]}", []).append(path)
    if not any("label" in files for files in scans.values()):
        raise DataError(f"{folder} is no WMH challenge folder; it needs {IMPORTER.looks_for}")
    corrected = any("pre/flair" in files for files in scans.values())
    channels = {channel: f"{'pre' if corrected else 'orig'}/{kind}" for channel, kind in CHANNELS.items()}
    split = {_split(scan, folder) for scan in scans}
    sessions = [_session(scan, files, folder, both="training" in split) for scan, files in sorted(scans.items())]
    cases, left_out = match_cases(sessions, channels, "label")
    return Dataset(
        name=name,
        kind="wmh",
        channels=tuple(CHANNELS),
        labels={"background": 0, "lesion": 1},
        ignore_label=2,
        licence="as stated in the WMH challenge download; cite doi:10.1109/TMI.2019.2905770",
        cases=cases,
        left_out=left_out,
    )


def _session(scan: Path, files: Files, folder: Path, *, both: bool) -> Session:
    site = _site(scan, folder)
    test = both and _split(scan, folder) == "test"
    why = "is a test case; to have test cases, import their folder by itself" if test else None
    return Session(id=f"{site}_{scan.name}", files=files, site=site, left_out=why)


def _split(scan: Path, folder: Path) -> str | None:
    """``training`` or ``test``, where it is a folder below the one given."""
    return next((part.lower() for part in scan.relative_to(folder).parts if part.lower() in SPLITS), None)


def _site(scan: Path, folder: Path) -> str:
    """``training/Amsterdam/GE3T/100`` -> ``Amsterdam_GE3T``: what lies between the split and the case."""
    parts = scan.absolute().parts[:-1]
    start = max((i + 1 for i, part in enumerate(parts) if part.lower() in SPLITS), default=len(folder.absolute().parts))
    named = parts[start:] or (scan.parent.name,)
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(named)).strip("_")


IMPORTER = Importer(
    looks_for="training/<site>/<id>/ with pre/FLAIR.nii.gz, pre/T1.nii.gz and wmh.nii.gz (WMH challenge 2017)",
    recognises=recognises,
    find=find,
)
