"""One writer for every layout: any dataset -> autoseg's raw layout, whole or not at all."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from autoseg.core.errors import AutosegError, CasesError, DataError, StorageError, UsageError
from autoseg.core.images import file_ending, is_series, read_grid, read_voxels, write_voxels
from autoseg.core.parallel import Outcome, Progress, count_workers, map_cases, no_progress
from autoseg.core.records import Case, Dataset, Label, Outputs
from autoseg.core.runs import note_case
from autoseg.core.store import (
    check_name,
    explain_write_error,
    growing_folder,
    hidden_beside,
    remove_leftovers,
    write_text,
)
from autoseg.core.text import join_names
from autoseg.datasets.dataset_log import log_assumed
from autoseg.datasets.reading import check_extent, find_repeated_channels, read_case
from autoseg.datasets.registry import IMPORTERS, check_dataset, find_dataset, open_dataset
from autoseg.options import ImportOptions

log = logging.getLogger(__name__)


def import_dataset(
    options: ImportOptions, target: Path, *, workers: int | None = None, progress: Progress = no_progress
) -> Dataset:
    """Check every case of a dataset and lay it out as autoseg reads it; the source is only read.

    A file that can be used as it is becomes a link to the source; any other is converted. The target appears when
    all is done; what an interrupted import left behind is removed by the next.

    Args:
        options: of the command: the source as unpacked, the dataset's name, its layout, and how to treat its files.
        target: the folder to make, ``autoseg_raw/<name>``.
        workers: processes; None for as many as cores and memory allow.
        progress: called after each case.

    Returns:
        The dataset in ``target``.

    Raises:
        UsageError: the target exists, or the source or layout does not.
        DataError: the source is not laid out as it should be.
        CasesError: cases cannot be read; all of them are named, and nothing was written.
        StorageError: the disk refused a write.
    """
    source, name = options.source, options.dataset
    check_name(name, "dataset")
    if target.exists() or target.is_symlink():
        raise UsageError(_describe_existing(target, name))
    convert = IMPORTERS[options.kind].convert if options.kind else None
    if convert is None:
        return _write_dataset(find_dataset(source, name, kind=options.kind), options, target, workers, progress)
    if not source.is_dir():
        raise UsageError(f"{source} is not a folder; give the folder that holds the dataset")
    with _hidden_folder(target) as folder:
        dataset = check_dataset(convert(options, folder), source)
        return _write_dataset(dataset, replace(options, copy=True), target, workers, progress)


@contextmanager
def _hidden_folder(target: Path) -> Iterator[Path]:
    """A folder beside the target for converted files; it vanishes, after a killed run with the next command."""
    folder = hidden_beside(target.with_name(f"{target.name}_converted"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        folder.mkdir()
    except OSError as error:
        raise StorageError(explain_write_error(target, error)) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_dataset(
    dataset: Dataset, options: ImportOptions, target: Path, workers: int | None, progress: Progress
) -> Dataset:
    """Check and write every case of a listed dataset; arguments and errors as in ``import_dataset``."""
    source = options.source
    dataset = dataset.model_copy(update={"resample_channels": options.resample_channels})
    log.info("%s has layout %s: %d cases, %d left out", source, dataset.kind, len(dataset.cases), len(dataset.left_out))
    log_assumed(dataset)
    return lay_out(dataset, target, options, workers=workers, progress=progress)


def lay_out(
    dataset: Dataset,
    target: Path,
    options: ImportOptions,
    *,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Check every case of a dataset and write it in autoseg's raw layout, as ``import_dataset`` does.

    Raises:
        CasesError: cases cannot be read; all of them are named, and nothing was written.
        StorageError: the disk refused a write.
    """
    source, name = options.source, options.dataset
    with growing_dataset(target) as folder:
        ending = _choose_ending(dataset)
        bare = dataset.model_copy(update={"cases": (), "left_out": {}})  # what a worker needs of the dataset
        tasks = [
            _Task(dataset=bare, case=case, folder=folder, ending=ending, options=options) for case in dataset.cases
        ]
        failures = _write_cases(tasks, workers or count_workers(len(tasks), _bytes_per_case(dataset)), progress)
        if failures and (not options.skip_bad or len(failures) == len(dataset.cases)):
            raise CasesError(
                failures,
                of=len(dataset.cases),
                doing="importing",
                others="nothing was written (repair these, or skip them with --skip-bad)",
            )
        left_out = {
            case: reason.removeprefix(f"case {case}: ").replace(f"{source}/", "") for case, reason in failures.items()
        }
        imported = tuple(case for case in dataset.cases if case.id not in failures)
        dataset = dataset.model_copy(update={"cases": imported, "left_out": {**dataset.left_out, **left_out}})
        write_text(
            folder / "dataset.json", json.dumps(describe_dataset(dataset, ending), indent=2, ensure_ascii=False) + "\n"
        )
    return open_dataset(target, name)


def _describe_existing(target: Path, name: str) -> str:
    """One sentence on what is in the way: a whole dataset, as an import leaves it at once, or something else."""
    advice = "or, to import again, remove it or choose another name"
    try:
        cases = len(open_dataset(target, name).cases)
    except (AutosegError, OSError):
        return f"{target} already exists and is not a dataset; remove it, or import under another name"
    return f"{target} already exists, a complete dataset of {cases} cases; use it: autoseg_plan -d {name}; {advice}"


@contextmanager
def growing_dataset(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target that takes its name when the block ends well, and vanishes when it does not."""
    with growing_folder(target) as folder:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir()
        yield folder


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One case to check and write; sent to a worker."""

    dataset: Dataset
    case: Case
    folder: Path
    ending: str
    options: ImportOptions


@dataclass(frozen=True, kw_only=True)
class _Written:
    """Result of one case.

    Attributes:
        problem: reason why it was not written.
        repeats: channels that hold the same voxels.
    """

    problem: str | None = None
    repeats: tuple[str, ...] = ()


def _write_cases(unnamed: Sequence[_Task], workers: int, progress: Progress) -> dict[str, str]:
    """Check and write every case; a bug costs its case, as bad data do.

    Returns:
        Problems of those not written, by case id.

    Raises:
        CasesError: the disk or the memory failed, as they would for the next case.
    """
    tasks = [(task.case.id, task) for task in unnamed]
    progress(0, len(tasks), "importing")
    failures: dict[str, str] = {}
    repeats: dict[str, list[str]] = {}
    # Closed explicitly, so that no worker still writes while an error removes the folder.
    running = cast("Generator[Outcome[_Written], None, None]", map_cases(_write_case, tasks, workers=workers))
    with closing(running) as outcomes:
        for done, outcome in enumerate(outcomes, start=1):
            if outcome.is_bug:
                log.error("case %s:\n%s", outcome.name, outcome.trace)
                failures[outcome.name] = outcome.failure or ""
            elif outcome.failure is not None:  # no case's fault, so there is nothing to skip
                failure = {outcome.name: outcome.failure}
                raise CasesError(failure, of=len(tasks), doing="importing", others="nothing was written")
            else:
                assert outcome.value is not None
                if outcome.value.problem is not None:
                    failures[outcome.name] = outcome.value.problem
                for pair in outcome.value.repeats:
                    repeats.setdefault(pair, []).append(outcome.name)
            note_case(outcome.name, failures.get(outcome.name), outcome.seconds)
            progress(done, len(tasks), f"importing, {outcome.name} done")
    for pair, cases in sorted(repeats.items()):
        count = f"{len(cases)} cases" if len(cases) > 1 else "one case"
        log.warning("%s hold the same voxels in %s: %s", pair, count, join_names(sorted(cases)))
    return dict(sorted(failures.items()))


def _bytes_per_case(dataset: Dataset) -> int:
    """Memory to read the largest case: float32 channels twice (stacking), one volume as float64 and its copies."""
    largest = 0
    for case in dataset.cases:
        try:
            largest = max(largest, math.prod(read_grid(case.channels[0].path)[0].shape))
        except DataError:
            continue  # reading the case reports it
    return largest * (8 * len(dataset.channels) + 24)


def _choose_ending(dataset: Dataset) -> str:
    """The one ending of all files, so that they can be linked; ``.nii.gz`` where there is more than one.

    An ``.mhd`` header names its voxel file, so under another name beside no such file it would be useless. Slices
    become volumes, and a TIFF file has no geometry.
    """
    files = [file.path for case in dataset.cases for file in case.channels]
    files += [path for case in dataset.cases for path in case.labels]
    endings = {file_ending(path) for path in files}
    only = endings.pop()
    usable = only and not endings and only != ".mhd" and not any(map(is_series, files))
    return only if only and usable else ".nii.gz"


def _write_case(task: _Task) -> _Written:
    """Read and check one case, then link, copy or convert each of its files."""
    dataset, case = task.dataset, task.case
    try:
        image, label = read_case(dataset, case)
        if not task.options.accept_spacing:
            check_extent(case.id, case.channels[0].path, image.grid)
        as_it_is = label is not None and _is_whole_label(dataset, case, label)
    except DataError as error:
        return _Written(problem=str(error))
    repeats = find_repeated_channels(image.voxels, dataset.channels)
    for i, file in enumerate(case.channels):
        target = task.folder / "imagesTr" / f"{case.id}_{i:04d}{task.ending}"
        grid, volumes = read_grid(file.path)
        if file_ending(file.path) == task.ending and volumes is None and grid.matches(image.grid):
            _place(file.path, target, copy=task.options.copy)
        else:
            like = file.path if grid.matches(image.grid) else case.channels[0].path
            write_voxels(target, _smallest(image.voxels[i]), image.grid, like=like)
    if label is None:
        return _Written(repeats=repeats)
    target = task.folder / "labelsTr" / f"{case.id}{task.ending}"
    if as_it_is and file_ending(case.labels[0]) == task.ending:
        _place(case.labels[0], target, copy=task.options.copy)
    else:
        voxels = label.voxels.astype(np.uint8) if label.voxels.max() < 256 else label.voxels
        write_voxels(target, voxels, label.grid, like=case.labels[0])
    return _Written(repeats=repeats)


def _smallest(voxels: np.ndarray) -> np.ndarray:
    """The same numbers as bytes or 16-bit integers where they are such: a quarter of the time to compress them."""
    for kind in (np.uint8, np.int16):
        limits = np.iinfo(kind)
        if limits.min <= voxels.min() and voxels.max() <= limits.max:
            whole = voxels.astype(kind)
            if np.array_equal(whole, voxels):
                return whole
    return voxels


def _is_whole_label(dataset: Dataset, case: Case, label: Label) -> bool:
    """Whether the label's one file holds the very numbers it was read as."""
    if len(case.labels) != 1 or dataset.label_values or is_series(case.labels[0]):
        return False
    return np.array_equal(read_voxels(case.labels[0])[0], label.voxels)


def _place(source: Path, target: Path, *, copy: bool) -> None:
    """Link to a file that can be used as it is, or copy it."""
    try:
        if copy:
            shutil.copyfile(source, target)
        else:
            target.symlink_to(source.absolute())
    except OSError as error:
        hint = "" if copy else "; if this disk cannot hold links, import with --copy"
        raise StorageError(explain_write_error(target, error) + hint) from error


def describe_dataset(dataset: Dataset, ending: str) -> Mapping[str, Any]:
    """``dataset.json``: nnU-Net v2's keys, then ours where they are not empty."""
    named: dict[str, int | list[int]] = dict(dataset.labels)
    if dataset.regions:
        named = {"background": 0, **{name: list(values) for name, values in dataset.regions.items()}}
    if dataset.ignore_label is not None:
        named["ignore"] = dataset.ignore_label
    painted = Outputs.of(dataset.labels, dataset.regions, dataset.ignore_label)
    ours = {
        "regions_class_order": list(painted.values) if painted.overlap else [],
        "licence": dataset.licence,
        "groups": {case.id: case.group for case in dataset.cases if case.group is not None},
        "sites": {case.id: case.site for case in dataset.cases if case.site is not None},
        "left_out": dataset.left_out,
    }
    return {
        "name": dataset.name,
        "channel_names": {str(i): name for i, name in enumerate(dataset.channels)},
        "labels": named,
        "numTraining": len(dataset.cases),
        "file_ending": ending,
        "imported_from": dataset.kind,
        **{key: value for key, value in ours.items() if value},
    }
