"""Volumes -> a dataset whose cases are their slices, as used by systems that were split and scored by slice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.core.errors import CasesError, UsageError
from autoseg.core.geometry import nearest_axes
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Outcome, Progress, map_cases
from autoseg.core.records import Case, ChannelFile, Dataset, Grid, Image, Label
from autoseg.core.runs import note_case
from autoseg.core.store import check_name, write_text
from autoseg.datasets.reading import read_case
from autoseg.datasets.writing import describe_dataset, growing_dataset
from autoseg.options import SliceOptions

ENDING = ".nii.gz"


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One volume to cut; sent to a worker."""

    dataset: Dataset
    case: Case
    folder: Path
    options: SliceOptions


def slice_dataset(
    dataset: Dataset,
    target: Path,
    name: str,
    options: SliceOptions,
    *,
    workers: int,
    progress: Progress,
) -> Dataset:
    """Write every selected slice of the labelled cases as a case of its own; whole or not at all.

    Slices run along the axis with the largest spacing, from the foot's end where several have it. Those that are
    constant in a channel cannot be read as a case, and are left out.

    Args:
        dataset: of volumes; only read.
        target: the folder to make, ``autoseg_raw/<name>``.
        name: of the new dataset.
        workers: processes.

    Raises:
        UsageError: the target exists, or no slice is selected.
        CasesError: volumes cannot be read; nothing was written.
    """
    check_name(name, "dataset")
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} already exists; remove it, or choose another name with --into")
    labelled = [case for case in dataset.cases if case.labels]
    without_cases = dataset.model_copy(update={"cases": (), "left_out": {}})
    with growing_dataset(target) as folder:
        tasks = [
            (case.id, _Task(dataset=without_cases, case=case, folder=folder, options=options)) for case in labelled
        ]
        cut = _collect(map_cases(_cut_case, tasks, workers=min(workers, len(tasks) or 1)), len(tasks), progress)
        cases = tuple(
            _describe_slice(dataset, case, slice_id, options) for case in labelled for slice_id in cut[case.id]
        )
        if not cases:
            raise UsageError(f"no slice of {dataset.name} is left; select all slices or a smaller margin")
        kind = f"slices of {dataset.name}, patients {'' if options.keep_patients else 'not '}kept together"
        sliced = dataset.model_copy(update={"name": name, "kind": kind, "cases": cases, "left_out": {}})
        write_text(folder / "dataset.json", json.dumps(describe_dataset(sliced, ENDING), indent=2) + "\n")
    return sliced


def find_slice_axis(grid: Grid) -> int:
    """The array axis with the largest spacing; of equal ones the first from head-foot, front-back, left-right."""
    transpose, _ = nearest_axes(grid.direction)
    return max(transpose, key=lambda axis: grid.spacing[axis])


def choose_slices(image: Image, label: Label, axis: int, options: SliceOptions) -> list[int]:
    """Numbers of the slices that become cases."""
    count = image.grid.shape[axis]
    chosen = []
    for number in range(options.margin[0], count - options.margin[1]):
        pixels = image.voxels.take(number, axis + 1)
        is_blank = any(channel.min() == channel.max() for channel in pixels)
        if not is_blank and (not options.lesion or label.voxels.take(number, axis).any()):
            chosen.append(number)
    return chosen


def _collect(outcomes: Iterable[Outcome[list[str]]], total: int, progress: Progress) -> dict[str, list[str]]:
    slice_ids: dict[str, list[str]] = {}
    failures: dict[str, str] = {}
    for done, outcome in enumerate(outcomes, start=1):
        if outcome.failure is not None:
            failures[outcome.name] = outcome.failure
        else:
            slice_ids[outcome.name] = outcome.value or []
        note_case(outcome.name, outcome.failure, outcome.seconds)
        progress(done, total, f"slicing, {outcome.name} done")
    if failures:
        raise CasesError(failures, of=total, doing="slicing", others="nothing was written")
    return slice_ids


def _cut_case(task: _Task) -> list[str]:
    """Write the selected slices of a volume and return their ids."""
    image, label = read_case(task.dataset, task.case)
    assert label is not None  # only labelled cases are cut
    axis = find_slice_axis(image.grid)
    ids = []
    for number in choose_slices(image, label, axis, task.options):
        slice_id = f"{task.case.id}_s{number:03d}"
        grid = _cut_grid(image.grid, axis, number)
        for channel, voxels in enumerate(image.voxels):
            write_voxels(
                task.folder / "imagesTr" / f"{slice_id}_{channel:04d}{ENDING}", voxels.take([number], axis), grid
            )
        write_voxels(
            task.folder / "labelsTr" / f"{slice_id}{ENDING}", label.voxels.take([number], axis).astype(np.uint8), grid
        )
        ids.append(slice_id)
    return ids


def _cut_grid(grid: Grid, axis: int, number: int) -> Grid:
    index = np.zeros(3)
    index[axis] = number
    shape = tuple(1 if a == axis else n for a, n in enumerate(grid.shape))
    return grid.model_copy(update={"shape": shape, "origin": tuple(float(x) for x in grid.to_world(index))})


def _describe_slice(dataset: Dataset, case: Case, slice_id: str, options: SliceOptions) -> Case:
    files = tuple(ChannelFile(path=Path(f"{slice_id}_{i:04d}{ENDING}")) for i in range(len(dataset.channels)))
    group = (case.group or case.id) if options.keep_patients else None
    return Case(id=slice_id, channels=files, labels=(Path(f"{slice_id}{ENDING}"),), group=group, site=case.site)
