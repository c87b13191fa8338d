"""DICOM for training: studies in folders or zips, with labels as DICOM-SEG in the study or as NIfTI beside it.

A folder is converted when it is imported and is never read in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.errors import CasesError, DataError, UsageError
from autoseg.core.images import read_voxels, strip_ending, write_voxels
from autoseg.core.records import Case, Dataset, Grid
from autoseg.core.store import hash_settings
from autoseg.core.text import join_names
from autoseg.datasets.folders import list_images, list_images_below
from autoseg.datasets.registry import Importer
from autoseg.datasets.scans import LABEL_WORDS, split_words
from autoseg.dicom import (
    Study,
    check_packages,
    choose_volumes,
    find_studies,
    frequent_kinds,
    place_mask,
    read_segmentation,
    write_study,
)
from autoseg.options import ImportOptions

Place = Callable[[Grid], tuple[np.ndarray, dict[int, str]]]  # a grid -> (Z,Y,X) uint8, and value -> name


def convert(options: ImportOptions, folder: Path) -> Dataset:
    """Convert every study that has a label to NIfTI.

    Args:
        options: of the command: source, channels, and whether bad cases are skipped.
        folder: for the files.

    Raises:
        UsageError: no channels are given, and no sequence is common to the studies.
        CasesError: a study cannot be used; all of them are named.
    """
    check_packages()
    studies, failures = find_studies(options.source)
    patterns = dict(pair.split("=", 1) for pair in options.channel)
    channels = tuple(patterns) or frequent_kinds([study.volumes for study in studies])
    if not channels:
        raise UsageError(
            f"{options.source} has no sequence that half of its {len(studies)} studies share; name the channels with "
            f"--channel NAME=PATTERN"
        )
    left_out: dict[str, str] = {}
    cases: list[Case] = []
    names: dict[int, str] = {}
    patients = _number_patients(studies)
    for study in studies:
        try:
            places = _find_labels(options.source, study, single=len(studies) == 1)
            if not places:
                left_out[study.id] = "has no label (a DICOM-SEG in the study, or a NIfTI file beside it)"
                continue
            choices = choose_volumes(study.id, channels, study.volumes, patterns)
            case = write_study(study, choices, folder / "scans", hash_settings(study.key))
            grid = choices[channels[0]].volume.grid
            path = folder / "labels" / f"{study.id}.nii.gz"
            write_voxels(path, _unite(places, grid, names), grid, like=case.channels[0].path)
            cases.append(case.model_copy(update={"labels": (path,), "group": patients.get(study.patient)}))
        except DataError as error:
            failures[study.id] = str(error)
    if failures and not options.skip_bad:
        others = "nothing was written (repair these, or skip them with --skip-bad)"
        count = len({study.id for study in studies} | set(failures))
        raise CasesError(failures, of=count, doing="importing", others=others)
    values = sorted(names)
    return Dataset(
        name=options.dataset,
        kind="dicom",
        channels=channels,
        labels={"background": 0, **{names[value]: number for number, value in enumerate(values, start=1)}},
        label_values={value: number for number, value in enumerate(values, start=1)},
        cases=tuple(cases),
        left_out={**left_out, **failures},
    )


def _number_patients(studies: Sequence[Study]) -> dict[str, str]:
    """Number of a patient with several studies -> ``patient_1``; the number itself is not written."""
    count = Counter(study.patient for study in studies if study.patient)
    return {patient: f"patient_{n}" for n, patient in enumerate((p for p, c in count.items() if c > 1), start=1)}


def _find_labels(source: Path, study: Study, *, single: bool) -> list[Place]:
    """Labels of a study: its segmentation objects, else NIfTI files in its folders or with its name."""
    if study.segmentations:
        return [lambda grid, file=file: read_segmentation(file, grid) for file in study.segmentations]  # type: ignore[misc]
    folders = {source / place for place in study.places if (source / place).is_dir()}
    folders |= {above for inside in folders for above in inside.parents if above != source and source in above.parents}
    beside = {path for inside in folders | ({source} if single else set()) for path in list_images(inside)}
    named = {path for path in list_images_below(source) if _is_named(path, study.id)}
    words = LABEL_WORDS | {"lesion", "lesions", "roi"}
    files = sorted(beside | named)
    marked = [path for path in files if words & set(split_words(strip_ending(path)))]
    chosen = marked or files
    if len(chosen) > 1:
        raise DataError(
            f"case {study.id}: several files may be its label ({join_names(path.name for path in chosen)}); keep one, "
            f"or put 'mask' into its name"
        )
    return [lambda grid, path=path: _read_nifti(path, grid) for path in chosen]  # type: ignore[misc]


def _is_named(path: Path, case: str) -> bool:
    stem = strip_ending(path)
    return stem == case or (stem.startswith((f"{case}_", f"{case}-")) and not stem[len(case) + 1 :].isdigit())


def _read_nifti(path: Path, grid: Grid) -> tuple[np.ndarray, dict[int, str]]:
    """A mask on the grid of a scan, whatever the order of its axes."""
    voxels, mask_grid = read_voxels(path)
    rounded = np.rint(voxels)
    if np.abs(voxels - rounded).max() > 1e-3 or rounded.min() < 0 or rounded.max() > 255:
        raise DataError(f"{path} holds values other than 0 to 255; it is not a label")
    placed = place_mask(rounded.astype(np.uint8), mask_grid, grid)
    if placed is None:
        raise DataError(
            f"{path} does not lie on the voxels of the scan: it has {mask_grid.describe()}; the first channel has "
            f"{grid.describe()}; resample it onto the first channel, or name the channel that it was drawn on first"
        )
    values = [int(value) for value in np.unique(placed) if value]
    return placed, {value: "lesion" if value == 1 else f"label_{value}" for value in values}


def _unite(places: Sequence[Place], grid: Grid, names: dict[int, str]) -> np.ndarray:
    """(Z,Y,X) uint8 with the values of ``names``, to which labels of a new name are added."""
    union = np.zeros(grid.shape, np.uint8)
    for place in places:
        mask, labels = place(grid)
        table = np.zeros(256, np.uint8)
        for number, name in labels.items():
            value = next((value for value, present in names.items() if present == name), None)
            if value is None:
                value = number if number not in names else max(names) + 1
                if value > 255:
                    raise DataError(f"its label {name} is one more than the 255 that masks can hold")
                names[value] = name
            table[number] = value
        union = np.maximum(union, table[mask])
    return union


def _find(folder: Path, name: str) -> Dataset:
    raise DataError(
        f"{folder} is DICOM, which is not read in place; import it: autoseg_import dicom {folder} -d {name}"
    )


IMPORTER = Importer(
    looks_for="folders or zips of DICOM series, with a DICOM-SEG or a NIfTI mask for each study; named as such only: "
    "autoseg_import dicom",
    recognises=lambda folder: False,
    find=_find,
    convert=convert,
)
