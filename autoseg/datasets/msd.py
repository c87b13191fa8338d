"""The Medical Segmentation Decathlon's layout: channels as a fourth axis, names in ``dataset.json``.

Source: doi:10.1038/s41467-022-30695-9, http://medicaldecathlon.com
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoseg.core.errors import DataError
from autoseg.core.images import strip_ending
from autoseg.core.records import Case, ChannelFile, Dataset
from autoseg.core.text import join_names
from autoseg.datasets.folders import list_images, read_json, read_names
from autoseg.datasets.registry import Importer


def recognises(folder: Path) -> bool:
    """A ``dataset.json`` that names modalities, beside ``imagesTr``."""
    if not ((folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir()):
        return False
    try:
        content = read_json(folder / "dataset.json")
    except DataError:
        return False
    return "modality" in content and "channel_names" not in content


def find(folder: Path, name: str) -> Dataset:
    """List the training cases of a Decathlon task.

    Raises:
        DataError: ``dataset.json`` is wrong, or images and labels do not pair up.
    """
    path = folder / "dataset.json"
    content = read_json(path)
    channels = read_names(path, "modality", content.get("modality"))
    images = {strip_ending(file): file for file in list_images(folder / "imagesTr")}
    labels = {strip_ending(file): file for file in list_images(folder / "labelsTr")}
    problems = [f"imagesTr/{images[case].name} has no label" for case in images if case not in labels]
    problems += [f"labelsTr/{labels[case].name} has no image" for case in labels if case not in images]
    listed = _read_listed(path, content.get("training"))
    problems += [
        f"{entry} is listed under training but does not exist"
        for case, entry in listed.items()
        if case not in images and case not in labels
    ]
    if problems:
        raise DataError(f"{folder}: images and labels do not pair up: {join_names(problems)}")
    volumes = range(len(channels)) if len(channels) > 1 else (None,)
    cases = tuple(
        Case(
            id=case,
            channels=tuple(ChannelFile(path=image, volume=volume) for volume in volumes),
            labels=(labels[case],),
        )
        for case, image in sorted(images.items())
        if case in listed or not listed
    )
    left_out = {case: "not listed under training in dataset.json" for case in images if listed and case not in listed}
    licence = str(content.get("licence") or content.get("license") or "")
    return Dataset(
        name=name,
        kind="msd",
        channels=channels,
        labels=_read_labels(path, content.get("labels")),
        licence=licence,
        cases=cases,
        left_out=left_out,
    )


def _read_listed(path: Path, training: Any) -> dict[str, str]:
    """Case id -> image as listed."""
    if not isinstance(training or [], list):
        raise DataError(f'{path}: "training" must be a list, not a {type(training).__name__}')
    entries = [str(entry.get("image", entry) if isinstance(entry, dict) else entry) for entry in training or []]
    return {strip_ending(Path(entry)): entry for entry in entries if not Path(entry).name.startswith(".")}


def _read_labels(path: Path, stated: Any) -> dict[str, int]:
    """``{"0": "background", "1": "Anterior"}`` -> name -> value."""
    try:
        labels = {"background" if int(value) == 0 else str(name): int(value) for value, name in stated.items()}
    except (AttributeError, ValueError) as error:
        raise DataError(f'{path}: "labels" must be as {{"0": "background", "1": "lesion"}}, not {stated!r}') from error
    if len(labels) != len(stated):
        raise DataError(f'{path}: "labels" gives one name to two values: {stated!r}; rename one')
    return dict(sorted(labels.items(), key=lambda item: item[1]))


IMPORTER = Importer(
    looks_for="dataset.json with modality, imagesTr/<case>.nii.gz and labelsTr/<case>.nii.gz "
    "(Medical Segmentation Decathlon)",
    recognises=recognises,
    find=find,
)
