"""Table of the known layouts, and opening a dataset in any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import Dataset
from autoseg.core.registry import Table, unknown_name
from autoseg.core.store import subfolders
from autoseg.core.text import join_names
from autoseg.options import ImportOptions

MAX_LABEL = 255  # masks are written as bytes


@dataclass(frozen=True, kw_only=True)
class Importer:
    """One layout. It only lists; reading and checking voxels is the same for all (``read_case``).

    Attributes:
        looks_for: one clause on the files that make the layout.
        recognises: whether a folder has this layout, by its names; raises only where a folder cannot be listed.
        find: (folder, name) -> the dataset, with every case that is complete.
        convert: of files that are not read in place: (options, folder to write into) -> the dataset, converted there.
    """

    looks_for: str
    recognises: Callable[[Path], bool]
    find: Callable[[Path, str], Dataset]
    convert: Callable[[ImportOptions, Path], Dataset] | None = None


IMPORTERS: Table[Importer] = Table(
    "importer",
    {
        "nnunet": "autoseg.datasets.nnunet:IMPORTER",
        "msd": "autoseg.datasets.msd:IMPORTER",
        "isles15": "autoseg.datasets.isles15:IMPORTER",
        "isles22": "autoseg.datasets.isles22:IMPORTER",
        "atlas": "autoseg.datasets.atlas:IMPORTER",
        "brats15": "autoseg.datasets.brats15:IMPORTER",
        "brats": "autoseg.datasets.brats:IMPORTER",
        "brats23": "autoseg.datasets.brats23:IMPORTER",
        "lgg": "autoseg.datasets.lgg:IMPORTER",
        "wmh": "autoseg.datasets.wmh:IMPORTER",
        "openms": "autoseg.datasets.openms:IMPORTER",
        "mouse": "autoseg.datasets.mouse:IMPORTER",
        "bids": "autoseg.datasets.bids:IMPORTER",
        "dicom": "autoseg.datasets.dicom:IMPORTER",
    },
)


def open_dataset(folder: Path, name: str) -> Dataset:
    """The dataset in a folder, in any layout; nothing is written.

    Raises:
        UsageError: the folder does not exist; the message lists the datasets beside it.
        DataError: no layout fits, or the files do not make up a dataset.
    """
    if not folder.is_dir():
        raise UsageError(unknown_name("dataset", name, subfolders(folder.parent), of=str(folder.parent)))
    return find_dataset(folder, name)


def find_dataset(folder: Path, name: str, *, kind: str | None = None) -> Dataset:
    """List a folder's cases in the layout given, or in the one that recognises it.

    Raises:
        UsageError: the layout or the folder does not exist, or several layouts recognise it.
        DataError: no layout fits, or the files do not make up a dataset.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the folder that the dataset was unpacked into")
    return check_dataset(IMPORTERS[kind or _recognise(folder)].find(folder, name), folder)


def _recognise(folder: Path) -> str:
    """The layout of a folder.

    Raises:
        UsageError: several datasets lie in it.
        DataError: no layout fits.
    """
    kinds: list[str] = []
    for kind in IMPORTERS:
        if IMPORTERS[kind].recognises(folder):
            kinds.append(kind)
            if (folder / "dataset.json").is_file():  # it describes what is beside it
                break
    if not kinds:
        layouts = "".join(f"\n  {kind}: {IMPORTERS[kind].looks_for}" for kind in IMPORTERS)
        raise DataError(f"{folder} has none of the layouts that autoseg reads; expected one of{layouts}")
    if len(kinds) > 1:
        raise UsageError(
            f"{folder} holds datasets of several layouts ({', '.join(kinds)}); give the folder of one, or name "
            f"the layout: autoseg_import {kinds[0]} {folder} -d {folder.name}"
        )
    return kinds[0]


def check_dataset(dataset: Dataset, folder: Path) -> Dataset:
    """Check what every importer must deliver."""
    if not dataset.channels:
        raise DataError(f"{folder} holds labels without scans; unpack the scans too")
    if not dataset.cases:
        left_out = join_names((f"{case} ({reason})" for case, reason in dataset.left_out.items()), limit=3)
        raise DataError(f"{folder} holds no complete case" + (f"; left out: {left_out}" if left_out else ""))
    for noun, names in (("case", [case.id for case in dataset.cases]), ("channel", dataset.channels)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{folder} has several {noun}s called {join_names(twice)}; rename all but one")
    unsafe = [case.id for case in dataset.cases if "/" in case.id or "\\" in case.id or case.id.startswith((".", "-"))]
    if unsafe:
        raise DataError(f"{folder} has cases whose ids cannot name a file: {join_names(unsafe)}; rename them")
    values = sorted([*dataset.labels.values(), *([] if dataset.ignore_label is None else [dataset.ignore_label])])
    if values != list(range(len(values))) or dataset.labels.get("background") != 0 or len(dataset.labels) < 2:
        labels = ", ".join(f"{name} {value}" for name, value in dataset.labels.items())
        raise DataError(
            f"{folder}: label values must be background 0, then 1, 2, ... without a gap"
            f"{' (ignore last)' if dataset.ignore_label is not None else ''}, not: {labels}"
        )
    if values[-1] > MAX_LABEL:
        raise DataError(f"{folder} has label values up to {values[-1]}; masks hold values up to {MAX_LABEL}")
    return dataset
