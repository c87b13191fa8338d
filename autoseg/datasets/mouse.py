"""Mouse brains after occlusion of the middle cerebral artery (T2w), as distributed.

``{train,val,test}_image/<id>.nii`` and ``{train,val,test}_mask/<id>_mask.nii``.
Source: doi:10.1038/s41598-023-39826-8
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from autoseg.core.images import strip_ending
from autoseg.core.records import Dataset
from autoseg.datasets.folders import list_folders, list_images
from autoseg.datasets.matching import Files, Session, find_roots, match_cases, take_root
from autoseg.datasets.registry import Importer

FOLDER = re.compile(r"(?P<split>train|val|test)_(?P<kind>image|mask)s?", re.IGNORECASE)
TEST = "is a test case; to have test cases, move test_image and test_mask into a folder of their own and import that"


def recognises(folder: Path) -> bool:
    """Folders ``<split>_image`` and ``<split>_mask`` side by side."""
    return bool(_find_roots(folder))


def find(folder: Path, name: str) -> Dataset:
    """List training and validation cases, from which autoseg makes folds of its own; test cases where there is nothing
    else.

    Raises:
        DataError: there are no such folders, or it is not clear which are meant.
    """
    root = take_root(_find_roots(folder), folder, "the mouse stroke data", IMPORTER.looks_for)
    scans: dict[str, dict[str, Files]] = {}
    for inside, split, kind in _split_folders(root):
        for path in list_images(inside):
            stem = strip_ending(path)
            case = re.sub(r"_mask$", "", stem, flags=re.IGNORECASE) if kind == "mask" else stem
            scans.setdefault(split, {}).setdefault(case, {}).setdefault(kind, []).append(path)
    only_test = set(scans) == {"test"}
    cases, left_out = match_cases(
        (
            Session(id=case, files=files, left_out=TEST if split == "test" and not only_test else None)
            for split, found in sorted(scans.items())
            for case, files in sorted(found.items())
        ),
        {"T2": "image"},
        "mask",
    )
    return Dataset(
        name=name,
        kind="mouse",
        channels=("T2",),
        labels={"background": 0, "lesion": 1},
        mask_threshold=0.5,
        licence="as stated in the download; cite doi:10.1038/s41598-023-39826-8",
        cases=cases,
        left_out=left_out,
    )


def _find_roots(folder: Path) -> list[Path]:
    return find_roots(folder, lambda root: {"image", "mask"} <= {kind for _, _, kind in _split_folders(root)})


def _split_folders(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Each folder of images or masks, its split and which of the two it holds."""
    for inside in list_folders(root):
        found = FOLDER.fullmatch(inside.name)
        if found:
            yield inside, found["split"].lower(), found["kind"].lower()


IMPORTER = Importer(
    looks_for="{train,val,test}_image/<id>.nii and {train,val,test}_mask/<id>_mask.nii (mouse stroke, T2w)",
    recognises=recognises,
    find=find,
)
