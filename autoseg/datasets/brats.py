"""BraTS 2017 to 2021, as distributed: one folder per case.

``[{HGG,LGG}/]<case>/<case>_{flair,t1,t1ce,t2,seg}.nii[.gz]``; the grades are folders until 2019. One label of 2020
kept another name, ``W39_1998.09.19_Segm.nii``, and some copies put each file into a folder of its own name. On disk the
enhancing tumour is 4, here 3. Until 2019 the name of a case says which institution scanned it.
Source: arXiv:1811.02629, arXiv:2107.02314
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.images import file_ending
from autoseg.core.records import Dataset
from autoseg.datasets.folders import walk_images
from autoseg.datasets.matching import Files, Session, last_word
from autoseg.datasets.registry import Importer
from autoseg.datasets.tumours import make_tumour_dataset

KINDS = {"FLAIR": "flair", "T1": "t1", "T1c": "t1ce", "T2": "t2"}
LABEL_WORDS = ("seg", "segm")
CASE = re.compile(r"brats(?P<year>17|18|19|20|2021)_(?P<rest>\w+)", re.IGNORECASE)
VALUES = {1: 1, 2: 2, 4: 3}


def recognises(folder: Path) -> bool:
    """Folders ``BraTS<year>_...`` with a file ``*_t1ce``."""
    return any(last_word(path) == KINDS["T1c"] and CASE.fullmatch(_case(path).name) for path in walk_images(folder))


def find(folder: Path, name: str) -> Dataset:
    """List every case; one without its label (a validation case) or a channel is left out.

    Raises:
        DataError: there are no case folders of BraTS 2017 to 2021.
    """
    scans: dict[Path, Files] = {}
    for path in walk_images(folder):
        if CASE.fullmatch(_case(path).name):
            word = last_word(path)
            scans.setdefault(_case(path), {}).setdefault("label" if word in LABEL_WORDS else word, []).append(path)
    if not scans:
        raise DataError(f"{folder} is no BraTS folder of 2017 to 2021; it needs {IMPORTER.looks_for}")
    sessions = [Session(id=scan.name, files=files, site=_site(scan)) for scan, files in sorted(scans.items())]
    return make_tumour_dataset(name, "brats", sessions, KINDS, label_values=VALUES)


def _case(path: Path) -> Path:
    """The folder of the case that a file belongs to; a folder named as a file does not count."""
    return path.parent.parent if file_ending(path.parent) else path.parent


def _site(scan: Path) -> str | None:
    """``BraTS19_CBICA_AAB_1`` -> ``CBICA``."""
    found = CASE.fullmatch(scan.name)
    if found is None or found["year"] not in ("17", "18", "19"):
        return None
    return found["rest"].partition("_")[0]


IMPORTER = Importer(
    looks_for="BraTS*_*/ with *_flair, *_t1, *_t1ce, *_t2 and *_seg.nii.gz, perhaps in HGG and LGG (BraTS 2017-2021)",
    recognises=recognises,
    find=find,
)
