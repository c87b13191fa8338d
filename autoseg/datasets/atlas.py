"""ATLAS (stroke lesions in T1), releases 2.0 and 1.2, as distributed.

R2.0: ``Training/R0xx/sub-r0xxs0yy/ses-1/anat/*_space-<space>_{T1w,label-L_desc-T1lesion_mask}.nii.gz``.
R1.2: ``Standard_MNI/Site<n>/<subject>/t0<n>/<subject>_{t1w_deface_stx,LesionSmooth_stx,LesionSmooth_1_stx}.nii.gz``,
one file per lesion, values 0 and 255; the native scans are named ``c0001s0004t01_{t1w,LesionSmooth*}``.
Source: doi:10.1038/s41597-022-01401-7 (R2.0), doi:10.1038/sdata.2018.11 (R1.2)
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

RELEASE_2 = re.compile(
    r"(?P<case>(?P<subject>sub-(?P<site>r\d+)s\d+)_ses-\w+?)_(space-\w+_)?"
    r"(?P<kind>T1w|label-L(_space-\w+)?_desc-T1lesion_mask)"
)
RELEASE_1 = re.compile(r"(?P<scan>(?P<subject>(?P<site>c\d+)s\d+)t\d+|\d+)_(?P<kind>t1w|LesionSmooth)(?P<rest>_\w+)?")


def recognises(folder: Path) -> bool:
    """A mask ``*_desc-T1lesion_mask`` (R2.0) or ``*_LesionSmooth*`` (R1.2)."""
    return any(_read_name(path)[0] == "label" for path in walk_images(folder))


def find(folder: Path, name: str) -> Dataset:
    """List every scan; one without a mask (a test case) is left out.

    Raises:
        DataError: there are no files of ATLAS, or those of both releases.
    """
    scans: dict[str, Files] = {}
    patients: dict[str, tuple[str, str | None]] = {}
    paths = [path for path in walk_images(folder) if _read_name(path)[0]]
    if {RELEASE_2.fullmatch(strip_ending(path)) is not None for path in paths} == {True, False}:
        raise DataError(f"{folder} holds ATLAS R2.0 and R1.2, which share scans; give the folder of one of them")
    standard = [path for path in paths if strip_ending(path).endswith("_stx")]
    for path in standard or paths:  # R1.2 holds scans twice: in standard space and as they were
        kind, case, subject, site = _read_name(path)
        scans.setdefault(case, {}).setdefault(kind, []).append(path)
        patients[case] = subject, site
    if not scans:
        raise DataError(f"{folder} is no ATLAS folder; it needs {IMPORTER.looks_for}")
    cases, left_out = match_cases(
        (Session(id=c, files=f, group=patients[c][0], site=patients[c][1]) for c, f in sorted(scans.items())),
        {"T1": "t1"},
        "label",
        united=True,
    )
    return Dataset(
        name=name,
        kind="atlas",
        channels=("T1",),
        labels={"background": 0, "lesion": 1},
        mask_threshold=0.5,
        licence="as stated in the ATLAS download; cite doi:10.1038/s41597-022-01401-7",
        cases=cases,
        left_out=left_out,
    )


def _read_name(path: Path) -> tuple[str, str, str, str | None]:
    """Kind ("t1", "label", or "" for any other file), case, subject and site."""
    stem = strip_ending(path)
    new, old = RELEASE_2.fullmatch(stem), RELEASE_1.fullmatch(stem)
    if new:
        return "t1" if new["kind"] == "T1w" else "label", new["case"], new["subject"], new["site"].upper()
    if not old:
        return "", "", "", None
    kind = "t1" if old["kind"] == "t1w" else "label"
    if old["subject"]:
        return kind, old["scan"], old["subject"], old["site"]
    session, site = path.parent.name, path.parent.parent.parent.name
    return kind, f"{old['scan']}_{session}", old["scan"], site if site.lower().startswith("site") else None


IMPORTER = Importer(
    looks_for="R0xx/sub-r0xxs0yy/ses-1/anat/ with *_T1w and *_label-L_desc-T1lesion_mask.nii.gz (ATLAS R2.0), or "
    "Site<n>/<subject>/t01/ with *_t1w_deface_stx and *_LesionSmooth*_stx.nii.gz (ATLAS R1.2)",
    recognises=recognises,
    find=find,
)
