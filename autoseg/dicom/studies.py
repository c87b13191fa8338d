"""Studies below a folder: one case each, named by its folder or zip and never by what a header says of the patient."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.store import hash_settings, sha256
from autoseg.core.text import join_names
from autoseg.dicom.attributes import Frame, list_frames, read_series
from autoseg.dicom.files import SEGMENTATION, Found, Source, find_files, is_image, parse
from autoseg.dicom.volumes import LeftOut, Volume, build_volumes

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study, as a case.

    Attributes:
        id: of the case: the name of the folder or zip.
        volumes: usable series.
        left_out: the others, with reasons.
        segmentations: files of DICOM-SEG.
        places: folders and zips, below the folder given, that hold its files.
        key: changes when any of its images does.
        patient: number of the patient as stated, to keep visits of one together; never written.
    """

    id: str
    volumes: tuple[Volume, ...]
    left_out: tuple[LeftOut, ...]
    segmentations: tuple[Source, ...]
    places: tuple[str, ...]
    key: str
    patient: str


@dataclass(kw_only=True)
class _Files:
    """Files of one study while they are gathered."""

    date: str = ""
    patient: str = ""
    frames: dict[tuple[str, int], Frame] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    segmentations: list[Source] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    repeated: int = 0


def find_studies(folder: Path, *, without: Path | None = None) -> tuple[list[Study], dict[str, str]]:
    """Studies in a folder of series, of patients or of zips, or in one zip.

    A case is a study. Its name is that of the folder or zip directly below ``folder`` that holds all of it; a study
    that lies in several of them, or in one folder of a single series, has the name of ``folder``; several studies with
    one name get ``-1``, ``-2``, ... by date.

    Args:
        without: a folder inside that is not searched.

    Returns:
        The studies, and case id -> a sentence for those with a file that cannot be used.
    """
    found = find_files(folder, without=without)
    gathered = _gather(found)
    root = folder.stem if folder.is_file() else folder.resolve().name
    names = _name_studies(gathered, root)
    failures = _assign_problems(found, gathered, names, root)
    studies = []
    for uid, files in gathered.items():
        if not files.frames and not files.left_out:
            continue
        case = names[uid]
        if files.problems:
            more = f" (and {len(files.problems) - 1} more files)" if len(files.problems) > 1 else ""
            failures[case] = f"case {case}: {files.problems[0]}{more}"
            continue
        if files.repeated:
            log.warning(
                "case %s: %d files are there twice with the same content; one of each is used", case, files.repeated
            )
        volumes, left_out = build_volumes(list(files.frames.values()))
        studies.append(
            Study(
                id=case,
                volumes=tuple(volumes),
                left_out=(*left_out, *files.left_out.values()),
                segmentations=tuple(files.segmentations),
                places=tuple(sorted({source.place for source in files.sources})),
                key=hash_settings(sorted((source.name, source.facts) for source in files.sources)),
                patient=files.patient,
            )
        )
    return sorted(studies, key=lambda study: study.id), failures


def _gather(found: Found) -> dict[str, _Files]:
    """Study UID -> its files."""
    gathered: dict[str, _Files] = defaultdict(_Files)
    for source in found.sources:
        try:
            dataset = parse(source)
            series = read_series(dataset)
        except DataError as error:
            found.add_problem(source.place, str(error))
            continue
        kind = str(dataset.get("SOPClassUID") or "")
        if kind not in SEGMENTATION and ("Rows" not in dataset or "BitsAllocated" not in dataset):
            if is_image(dataset):
                found.add_problem(source.place, f"{source.name} ends within its header; copy it again")
            continue  # a report, a presentation state, a directory
        if not series.study or not series.uid:
            found.add_problem(source.place, f"{source.name} states no study or series; it cannot be sorted")
            continue
        files = gathered[series.study]
        if kind in SEGMENTATION:
            files.segmentations.append(source)
            continue
        files.sources.append(source)
        files.date, files.patient = files.date or series.date, files.patient or str(dataset.get("PatientID") or "")
        try:
            for frame in list_frames(dataset, source):
                _add_frame(files, frame)
        except DataError as error:
            files.left_out.setdefault(series.uid, LeftOut(series=series, reason=str(error)))
        except Exception:  # a header of a kind that no rule foresees
            files.problems.append(f"{source.name} has a header that cannot be read; copy it again")
    for files in gathered.values():
        for uid in files.left_out:  # one slice that cannot be placed: the series is not whole
            files.frames = {key: frame for key, frame in files.frames.items() if frame.series.uid != uid}
    return gathered


def _add_frame(files: _Files, frame: Frame) -> None:
    key = (frame.uid or frame.source.name, frame.index)
    present = files.frames.setdefault(key, frame)
    if present is frame or present.source == frame.source:
        return
    if sha256(present.source.read()) == sha256(frame.source.read()):
        files.repeated += frame.index == 0
    else:
        files.problems.append(f"{frame.source.name} and {present.source.name} are two versions of one image; keep one")


def _component(place: str) -> str:
    """The folder or zip directly below the folder given."""
    first = place.partition("/")[0]
    return first[:-4] if first.lower().endswith(".zip") else first


def _name_studies(gathered: dict[str, _Files], root: str) -> dict[str, str]:
    """Study UID -> id of its case."""
    names = {}
    for uid, files in gathered.items():
        components = {_component(source.place) for source in files.sources}
        name = components.pop() if len(components) == 1 else root
        places = {source.place for source in files.sources}
        if len(gathered) == 1 and len(places) == 1 and not places.pop().lower().endswith(".zip"):
            name = root if len({frame.series.uid for frame in files.frames.values()}) <= 1 else name
        names[uid] = _make_id(name or root)
    count = Counter(names.values())
    numbers: Counter[str] = Counter()
    for uid in sorted(names, key=lambda uid: (gathered[uid].date, uid)):
        name = names[uid]
        if count[name] > 1:
            numbers[name] += 1
            names[uid] = f"{name}-{numbers[name]}"
    return names


def _make_id(name: str) -> str:
    return re.sub(r"[^\w+.-]", "_", name).lstrip(".-") or "study"


def _assign_problems(found: Found, gathered: dict[str, _Files], names: dict[str, str], root: str) -> dict[str, str]:
    """A file that cannot be used fails every study that has files in its folder, for it may be a slice of any.

    Returns:
        Case id -> sentence, for problems beside no study.
    """
    failures = {}
    for place, sentences in found.problems.items():
        beside = [files for files in gathered.values() if any(source.place == place for source in files.sources)]
        if not beside:
            name = _component(place)
            beside = [files for uid, files in gathered.items() if name and names[uid] == _make_id(name)]
        for files in beside:
            files.problems += sentences
        if not beside:
            case = _make_id(_component(place) or root)
            failures[case] = f"case {case}: {sentences[0]}"
    return failures


def describe_left_out(left_out: Iterable[LeftOut]) -> str:
    """``LOCALIZER (series 1) has slices in 3 orientations; ...``."""
    return "; ".join(f"{series.title} {series.reason}" for series in left_out) or join_names(())
