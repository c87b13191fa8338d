"""Chosen volumes of every study -> NIfTI files beside the masks, with a record of the rule that chose each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.core.errors import DataError, PlanError
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Case, ChannelFile, Record
from autoseg.core.store import hash_settings, read_record, write_record
from autoseg.dicom.files import check_packages
from autoseg.dicom.pixels import read_volume
from autoseg.dicom.sequences import Choice, choose_volumes
from autoseg.dicom.studies import Study, describe_left_out, find_studies
from autoseg.dicom.volumes import Volume

log = logging.getLogger(__name__)
FORMAT = 1  # of the conversion; another number converts again


class ConversionRecord(Record):
    """Origin of a case's converted scans.

    Attributes:
        key: of the source files and of what was asked for.
        channels: channel -> series and the rule that chose it, without what names a person.
        left_out: a sentence for each series that is not a volume.
    """

    key: str
    channels: dict[str, str]
    left_out: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Converted:
    """Result of a conversion.

    Attributes:
        cases: with NIfTI files.
        failures: case id -> sentence.
        references: case id -> the volume whose grid the case has, its first channel.
    """

    cases: list[Case] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    references: dict[str, Volume] = field(default_factory=dict)


def convert_studies(
    folder: Path,
    target: Path,
    channels: Sequence[str],
    patterns: Mapping[str, str],
    *,
    progress: Progress = no_progress,
) -> Converted:
    """Convert the studies of a folder; scans that were converted from the same files are kept.

    Args:
        folder: of series, of patients or of zips; or one zip.
        target: the folder for ``<case>_0000.nii.gz`` and ``<case>.json``; the one above it is not searched.
        channels: names, in order.
        patterns: channel -> pattern of a series (``--channel``).
    """
    check_packages()
    studies, failures = find_studies(folder, without=target.parent)
    converted = Converted(failures=failures)
    for number, study in enumerate(studies, start=1):
        try:
            choices = choose_volumes(study.id, channels, study.volumes, patterns)
        except DataError as error:
            rest = describe_left_out(study.left_out)
            converted.failures[study.id] = f"{error}{f'; not used: {rest}' if rest else ''}"
            continue
        try:
            converted.cases.append(write_study(study, choices, target, hash_settings(FORMAT, study.key, choices)))
            converted.references[study.id] = choices[channels[0]].volume
        except DataError as error:
            converted.failures[study.id] = f"case {study.id}: {error}"
        progress(number, len(studies), f"converting DICOM, {study.id}")
    return converted


def write_study(study: Study, choices: Mapping[str, Choice], target: Path, key: str) -> Case:
    """Write the chosen volumes of one study, unless they are there already, and log the rules.

    Raises:
        DataError: pixels cannot be read; the message names the file.
    """
    files = [target / f"{study.id}_{number:04d}.nii.gz" for number in range(len(choices))]
    record = ConversionRecord(
        key=key,
        channels={channel: f"{choice.volume.title}: {choice.rule}" for channel, choice in choices.items()},
        left_out=tuple(f"{series.title} {series.reason}" for series in study.left_out),
    )
    for channel, sentence in record.channels.items():
        log.info("case %s: %s from %s", study.id, channel, sentence)
    for sentence in record.left_out:
        log.info("case %s: left out: %s", study.id, sentence)
    if len({choice.volume.series.reference for choice in choices.values()}) > 1:
        log.warning(
            "case %s: its series state different frames of reference, so the patient may have moved between them; "
            "check that they overlap",
            study.id,
        )
    case = Case(id=study.id, channels=tuple(ChannelFile(path=path) for path in files))
    path = target / f"{study.id}.json"
    if all(file.exists() for file in files) and _read_key(path) == key:
        return case
    path.unlink(missing_ok=True)
    for file, choice in zip(files, choices.values(), strict=True):
        write_voxels(file, read_volume(choice.volume), choice.volume.grid)
    write_record(path, record)
    return case


def _read_key(path: Path) -> str | None:
    try:
        return read_record(ConversionRecord, path, advice="").key
    except PlanError:
        return None
