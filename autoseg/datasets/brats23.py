"""BraTS from 2023 on, as distributed: ``BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz``.

The first number is the patient, the second the scan. The tasks GLI, MEN, MET, PED and SSA share names and labels 0 to
3; labels of later years that hold more are refused when they are read, because their values mean something else.
Source: arXiv:2305.17033
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Dataset
from autoseg.datasets.folders import walk_images
from autoseg.datasets.matching import Files, Session
from autoseg.datasets.registry import Importer
from autoseg.datasets.tumours import make_tumour_dataset

KINDS = {"FLAIR": "t2f", "T1": "t1n", "T1c": "t1c", "T2": "t2w"}
FILE = re.compile(r"(?P<case>(?P<patient>BraTS-(GLI|MEN|MET|PED|SSA)-\d+)-\d+)-(?P<kind>t1n|t1c|t2w|t2f|seg)")


def recognises(folder: Path) -> bool:
    """Files ``BraTS-<task>-<patient>-<scan>-t1n``."""
    return any(FILE.fullmatch(strip_ending(path)) for path in walk_images(folder))


def find(folder: Path, name: str) -> Dataset:
    """List every scan of one task; one without its label (a validation case) or a channel is left out.

    Raises:
        DataError: there are no files of BraTS 2023, or those of several tasks.
    """
    scans: dict[str, Files] = {}
    patients: dict[str, str] = {}
    for path in walk_images(folder):
        found = FILE.fullmatch(strip_ending(path))
        if found:
            kind = "label" if found["kind"] == "seg" else found["kind"]
            scans.setdefault(found["case"], {}).setdefault(kind, []).append(path)
            patients[found["case"]] = found["patient"]
    tasks = sorted({patient.rpartition("-")[0] for patient in patients.values()})
    if not scans:
        raise DataError(f"{folder} is no BraTS 2023 folder; it needs {IMPORTER.looks_for}")
    if len(tasks) > 1:
        raise DataError(f"{folder} holds several tasks ({', '.join(tasks)}); give the folder of one of them")
    sessions = [Session(id=case, files=files, group=patients[case]) for case, files in sorted(scans.items())]
    return make_tumour_dataset(name, "brats23", sessions, KINDS)


IMPORTER = Importer(
    looks_for="BraTS-GLI-<patient>-<scan>/ with *-t1n, *-t1c, *-t2w, *-t2f and *-seg.nii.gz (BraTS 2023)",
    recognises=recognises,
    find=find,
)
