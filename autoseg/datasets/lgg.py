"""Lower-grade gliomas (LGG, "kaggle_3m"), as distributed: one TIFF file per slice, its colours being the channels.

``kaggle_3m/TCGA_<institution>_<patient>_<date>/<folder>_<slice>.tif`` and ``<folder>_<slice>_mask.tif``. The files do
not state a geometry. Slices are stacked by number and assumed to be 1 x 1 mm, 5 mm apart: heads are that wide, and
33 slices, the median, then reach from neck to crown. Volumes in ml are as approximate as this.
Where a sequence was not scanned, the authors put FLAIR into its place; an import names these cases.
Source: doi:10.1016/j.compbiomed.2019.05.002
"""

from __future__ import annotations

import re
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.image_files import NUMBER, list_files
from autoseg.core.images import strip_ending
from autoseg.core.records import Case, ChannelFile, Dataset
from autoseg.core.text import join_names
from autoseg.datasets.folders import list_folders, list_images
from autoseg.datasets.matching import find_roots, take_root
from autoseg.datasets.registry import Importer

CHANNELS = ("pre-contrast", "FLAIR", "post-contrast")
SPACING = (5.0, 1.0, 1.0)
FOLDER = re.compile(r"(?P<patient>TCGA_(?P<site>[A-Z0-9]{2})_[A-Z0-9]{4})_\d{8}")


def recognises(folder: Path) -> bool:
    """Folders ``TCGA_<institution>_<patient>_<date>`` with TIFF slices and masks."""
    return bool(_find_roots(folder))


def find(folder: Path, name: str) -> Dataset:
    """List every patient; one with slices or masks missing is left out.

    Raises:
        DataError: no folder holds such files, or several do.
    """
    root = take_root(_find_roots(folder), folder, "the LGG slices", IMPORTER.looks_for)
    cases: list[Case] = []
    left_out: dict[str, str] = {}
    for patient in list_folders(root):
        named = FOLDER.fullmatch(patient.name)
        if named is None:
            continue
        image, mask = (patient / f"{patient.name}_{NUMBER}{rest}" for rest in _endings(patient))
        try:
            problem = _compare(list_files(image), list_files(mask))
        except DataError as error:
            problem = str(error).replace(f"{root}/", "")
        if problem:
            left_out[patient.name] = problem
            continue
        channels = tuple(ChannelFile(path=image, volume=colour) for colour in range(len(CHANNELS)))
        cases.append(
            Case(
                id=patient.name,
                channels=channels,
                labels=(mask,),
                spacing=SPACING,
                group=named["patient"],
                site=named["site"],
            )
        )
    return Dataset(
        name=name,
        kind="lgg",
        channels=CHANNELS,
        labels={"background": 0, "lesion": 1},
        mask_threshold=0.5,
        licence="CC BY-NC-SA 4.0; cite doi:10.1016/j.compbiomed.2019.05.002",
        cases=tuple(cases),
        left_out=left_out,
    )


def _find_roots(folder: Path) -> list[Path]:
    return find_roots(folder, lambda root: any(_is_patient(inside) for inside in list_folders(root)))


def _is_patient(folder: Path) -> bool:
    return FOLDER.fullmatch(folder.name) is not None and any(
        strip_ending(path).endswith("_mask") for path in list_images(folder)
    )


def _endings(folder: Path) -> tuple[str, str]:
    """Name endings after the slice's number, of images and of masks: ``.tif`` or ``.TIF``."""
    suffixes = {path.suffix for path in list_images(folder)}
    ending = next(iter(sorted(suffixes)), ".tif")
    return ending, f"_mask{ending}"


def _compare(images: list[Path], masks: list[Path]) -> str | None:
    """Problem of the slices of one patient; None where they pair up."""
    named = {path.name.replace("_mask", "") for path in masks}
    alone = sorted({path.name for path in images} ^ named)
    return f"has {join_names(alone, limit=3)} without its image or its mask" if alone else None


IMPORTER = Importer(
    looks_for="TCGA_<institution>_<patient>_<date>/*_<slice>.tif and *_<slice>_mask.tif (LGG, kaggle_3m)",
    recognises=recognises,
    find=find,
)
