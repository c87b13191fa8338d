"""BraTS 2015, as distributed: MetaImage files, each in a folder of its own.

``{HGG,LGG}/<case>/VSD.Brain.XX.O.MR_{Flair,T1,T1c,T2}.<id>/<same>.mha``, the label
``VSD.Brain_3more.XX.O.OT.<id>``, values 0 to 4. Cases ``brats_tcia_pat105_0001`` and ``brats_tcia_pat105_0124`` are
scans of one patient.
Source: doi:10.1109/TMI.2014.2377694
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.records import Dataset
from autoseg.datasets.folders import walk_images
from autoseg.datasets.matching import Files, Session
from autoseg.datasets.registry import Importer
from autoseg.datasets.tumours import LABELS_2015, REGIONS_2015, make_tumour_dataset
from autoseg.datasets.vsd import find_vsd_case, read_vsd_kind

KINDS = {"FLAIR": "mr_flair", "T1": "mr_t1", "T1c": "mr_t1c", "T2": "mr_t2"}
PATIENT = re.compile(r"brats_\w*pat\d+", re.IGNORECASE)


def recognises(folder: Path) -> bool:
    """Folders ``brats_..._pat<number>...`` with a contrast-enhanced T1."""
    return any(read_vsd_kind(path) == KINDS["T1c"] and _is_case(find_vsd_case(path)) for path in walk_images(folder))


def find(folder: Path, name: str) -> Dataset:
    """List every scan; one without its label (a test case) or a channel is left out.

    Raises:
        DataError: there are no folders of BraTS 2015.
    """
    scans: dict[Path, Files] = {}
    for path in walk_images(folder):
        if _is_case(find_vsd_case(path)) and (kind := read_vsd_kind(path)):
            scans.setdefault(find_vsd_case(path), {}).setdefault("label" if kind == "ot" else kind, []).append(path)
    if not scans:
        raise DataError(f"{folder} is no BraTS 2015 folder; it needs {IMPORTER.looks_for}")
    sessions = [_session(scan, files) for scan, files in sorted(scans.items())]
    return make_tumour_dataset(name, "brats15", sessions, KINDS, labels=LABELS_2015, regions=REGIONS_2015)


def _is_case(folder: Path) -> bool:
    return PATIENT.match(folder.name) is not None


def _session(scan: Path, files: Files) -> Session:
    """Both grades have a ``brats_2013_pat0001``, and they are two patients."""
    grade = f"{scan.parent.name}_" if scan.parent.name.upper() in ("HGG", "LGG") else ""
    patient = PATIENT.match(scan.name)
    return Session(id=grade + scan.name, files=files, group=grade + patient[0] if patient else None)


IMPORTER = Importer(
    looks_for="{HGG,LGG}/brats_*_pat<number>_*/VSD.Brain.XX.O.MR_{Flair,T1,T1c,T2}.<id>/*.mha and ...OT.<id>/*.mha "
    "(BraTS 2015)",
    recognises=recognises,
    find=find,
)
