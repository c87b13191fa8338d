"""nnU-Net v2's raw layout, which is also autoseg's own.

``dataset.json`` with ``channel_names``, ``labels`` and ``file_ending``; ``imagesTr/<case>_0000.nii.gz``, one file per
channel; ``labelsTr/<case>.nii.gz``. autoseg adds four optional keys: ``groups``, ``sites``, ``left_out``, ``licence``.
Cases that ``groups`` does not name and that are called ``sub-<label>[_ses-<label>...]`` are grouped by subject.
Source: doi:10.1038/s41592-020-01008-z, https://github.com/MIC-DKFZ/nnUNet (documentation of the dataset format).
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoseg.core.errors import DataError
from autoseg.core.images import ENDINGS, file_ending, strip_ending
from autoseg.core.records import Case, ChannelFile, Dataset, Outputs
from autoseg.core.text import join_names
from autoseg.datasets.bids import find_subject
from autoseg.datasets.folders import list_images, read_json, read_mapping, read_names
from autoseg.datasets.registry import Importer

log = logging.getLogger(__name__)
Files = dict[str, tuple[tuple[Path, ...], tuple[Path, ...]]]


def recognises(folder: Path) -> bool:
    """Any ``dataset.json`` that is not the Decathlon's; a damaged one is reported here."""
    path = folder / "dataset.json"
    if not path.is_file():
        return False
    try:
        content = read_json(path)
    except DataError:
        return True
    return "channel_names" in content or "modality" not in content


def find(folder: Path, name: str) -> Dataset:
    """List the cases of a folder in nnU-Net v2's raw layout.

    Raises:
        DataError: ``dataset.json`` is wrong, or images and labels do not pair up.
    """
    path = folder / "dataset.json"
    content = read_json(path)
    missing = [key for key in ("channel_names", "labels", "file_ending") if key not in content]
    if missing:
        raise DataError(f"{path} lacks {join_names(missing)}; add what nnU-Net v2's raw layout needs")
    ending = str(content["file_ending"]).lower()
    if ending not in ENDINGS:
        raise DataError(f'{path}: "file_ending" {ending!r} is not supported; use {", ".join(ENDINGS)}')
    channels = read_names(path, "channel_names", content["channel_names"])
    labels, regions, ignore = read_labels(path, content)
    groups, sites = read_mapping(path, content, "groups"), read_mapping(path, content, "sites")
    files = _listed_files(path, content["dataset"], channels) if "dataset" in content else None
    files = files if files is not None else _paired_files(folder, ending, channels)
    left_out = read_mapping(path, content, "left_out")
    for key, mapping in (("groups", groups), ("sites", sites)):
        _check_ids(path, key, mapping, [*files, *left_out])
    stated = content.get("numTraining", len(files))
    if stated != len(files):
        log.warning("%s states numTraining %s, but there are %d cases", path, stated, len(files))
    cases = tuple(
        Case(
            id=case,
            channels=tuple(ChannelFile(path=image) for image in images),
            labels=label,
            # Names after BIDS contain the subject; folds must not split subjects.
            group=groups.get(case) or find_subject(case),
            site=sites.get(case),
        )
        for case, (images, label) in sorted(files.items())
    )
    return Dataset(
        name=name,
        kind="nnunet",
        channels=channels,
        labels=labels,
        regions=regions,
        ignore_label=ignore,
        licence=str(content.get("licence") or content.get("license") or ""),
        cases=cases,
        left_out=left_out,
    )


def _check_ids(path: Path, key: str, mapping: Mapping[str, str], cases: Sequence[str]) -> None:
    """Refuse ids that name no case: a typing error would put one patient on both sides of a fold."""
    unknown = [case for case in mapping if case not in cases]
    if unknown:
        inside = sorted((case for case in cases if unknown[0].startswith(case)), key=len, reverse=True)
        nearest = inside or difflib.get_close_matches(unknown[0], cases, n=1, cutoff=0.3)
        hint = f" (did you mean '{nearest[0]}'?)" if nearest else ""
        raise DataError(
            f"{path}: \"{key}\" names {len(unknown)} cases that the dataset does not have: '{unknown[0]}'{hint}; "
            f"use the names of the files in labelsTr without ending"
        )


def read_labels(
    path: Path, content: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, tuple[int, ...]], int | None]:
    """``labels`` and ``regions_class_order`` -> classes, regions, the value to ignore."""
    stated = content["labels"]
    named: dict[str, tuple[int, ...]] = {}
    for name, value in stated.items() if isinstance(stated, dict) else ():
        values = tuple(value) if isinstance(value, list) else (value,)
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise DataError(f'{path}: label "{name}" must be an integer or a list of integers, not {value!r}')
        named[name] = values
    if named.pop("background", None) != (0,):
        raise DataError(f'{path}: "labels" must hold "background": 0 and the classes after it, not {stated!r}')
    ignored = named.pop("ignore", None)
    if ignored is not None and (len(ignored) != 1 or ignored[0] <= max((max(v) for v in named.values()), default=0)):
        raise DataError(f'{path}: label "ignore" must be one value above all others, not {list(ignored)}')
    ignore = ignored[0] if ignored else None
    if not any(isinstance(value, list) for name, value in stated.items() if name not in ("background", "ignore")):
        return {"background": 0, **{name: values[0] for name, values in named.items()}}, {}, ignore
    own_names = {values[0]: name for name, values in named.items() if len(values) == 1}
    classes = sorted({value for values in named.values() for value in values})
    labels = {"background": 0, **{own_names.get(value, f"label_{value}"): value for value in classes}}
    order = content.get("regions_class_order")
    regions = _order_regions(path, named, order) if order is not None else named
    try:
        painted = list(Outputs.of(labels, regions, ignore).values)
    except ValueError as error:
        raise DataError(f"{path}: {error}; list a region before those that lie inside it") from error
    if order not in (None, painted):
        raise DataError(
            f'{path}: "regions_class_order" {order} paints a region with a value of a later one; '
            f"list a region before those that lie inside it"
        )
    return labels, regions, ignore


def _order_regions(path: Path, regions: dict[str, tuple[int, ...]], order: Any) -> dict[str, tuple[int, ...]]:
    """Put first in each region the value that ``regions_class_order`` paints it with."""
    fits = isinstance(order, list) and len(order) == len(regions)
    if not fits or any(first not in values for first, values in zip(order, regions.values(), strict=True)):
        stated = ", ".join(f"{name} {list(values)}" for name, values in regions.items())
        raise DataError(
            f'{path}: "regions_class_order" must give one value of each region in turn ({stated}), not {order!r}'
        )
    return {
        name: (first, *(value for value in values if value != first))
        for (name, values), first in zip(regions.items(), order, strict=True)
    }


def _listed_files(path: Path, listed: Any, channels: tuple[str, ...]) -> Files:
    """Cases that ``dataset.json`` lists one by one: ``{"case": {"images": [...], "label": "..."}}``."""
    files: Files = {}
    if not isinstance(listed, dict):
        raise DataError(f'{path}: "dataset" must be an object of cases, not a {type(listed).__name__}')
    for case, entry in listed.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or len(images) != len(channels) or not entry.get("label"):
            raise DataError(
                f'{path}: case {case} under "dataset" needs "label" and {len(channels)} "images" '
                f"({join_names(channels)}), not {entry!r}"
            )
        files[case] = tuple(path.parent / str(image) for image in images), (path.parent / str(entry["label"]),)
    gone = [file for images, labels in files.values() for file in (*images, *labels) if not file.exists()]
    if gone:
        raise DataError(f'{path} lists files under "dataset" that do not exist: {join_names(gone)}')
    return files


def _paired_files(folder: Path, ending: str, channels: tuple[str, ...]) -> Files:
    """Pair ``imagesTr/<case>_0000`` with ``labelsTr/<case>``; everything that has no partner is reported at once."""
    problems: list[str] = []
    labels: dict[str, Path] = {}
    images: dict[str, dict[int, Path]] = {}
    for file in list_images(folder / "labelsTr"):
        labels[strip_ending(file)] = file
        if file_ending(file) != ending:
            problems.append(f"labelsTr/{file.name} does not end in {ending}")
    for file in list_images(folder / "imagesTr"):
        match = re.fullmatch(r"(.+)_(\d{4})", strip_ending(file))
        if file_ending(file) != ending:
            problems.append(f"imagesTr/{file.name} does not end in {ending}")
        elif match is None:
            problems.append(f"imagesTr/{file.name} has no channel number (_0000 for {channels[0]})")
        elif int(match[2]) >= len(channels):
            problems.append(f"imagesTr/{file.name} has a channel number that channel_names lacks")
        else:
            images.setdefault(match[1], {})[int(match[2])] = file
    for case, channel_files in images.items():
        problems += [
            f"imagesTr/{case}_{i:04d}{ending} ({name}) is missing"
            for i, name in enumerate(channels)
            if i not in channel_files
        ]
        if case not in labels:
            problems.append(f"imagesTr/{case}_0000{ending} has no label labelsTr/{case}{ending}")
    problems += [f"labelsTr/{labels[case].name} has no image" for case in labels if case not in images]
    if problems:
        raise DataError(f"{folder}: images and labels do not pair up: {join_names(problems)}")
    return {
        case: (tuple(channel_files[i] for i in sorted(channel_files)), (labels[case],))
        for case, channel_files in images.items()
    }


IMPORTER = Importer(
    looks_for="dataset.json with channel_names, imagesTr/<case>_0000.nii.gz and labelsTr/<case>.nii.gz (nnU-Net v2)",
    recognises=recognises,
    find=find,
)
