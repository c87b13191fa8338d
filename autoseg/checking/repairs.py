"""Repairs that are safe: they change no voxel's meaning. Everything else is for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.checking.measures import CaseSigns
from autoseg.core.parallel import Progress
from autoseg.core.records import Dataset
from autoseg.core.text import join_names
from autoseg.datasets.writing import lay_out
from autoseg.fingerprint import find_identical_scans
from autoseg.options import ImportOptions


def repair_dataset(
    dataset: Dataset,
    signs: Mapping[str, CaseSigns],
    target: Path,
    options: ImportOptions,
    *,
    workers: int | None,
    progress: Progress,
) -> tuple[str, ...]:
    """Write a dataset with masks as autoseg reads them, and identical scans as one patient's; cases that cannot be
    read are left out.

    Args:
        dataset: the checked one; only read.
        signs: case -> its signs.
        target: the folder to make.
        options: source and name of the new dataset.
        workers: processes.
        progress: called after each case.

    Returns:
        One sentence for each change.

    Raises:
        CasesError: no case can be read.
        StorageError: the disk refused a write.
    """
    patients = [case.facts for case in signs.values() if case.facts is not None]
    merged: list[str] = []
    for cases in find_identical_scans(patients):
        dataset = _merge_patients(dataset, cases)
        merged.append(f"{join_names(cases)} are one patient in groups, because their scans are identical")
    source = f"{options.source}/"
    bad = {
        case: found.problem.removeprefix(f"case {case}: ").replace(source, "")
        for case, found in signs.items()
        if found.problem
    }
    readable = tuple(case for case in dataset.cases if case.id not in bad)
    changed = dataset.model_copy(update={"cases": readable, "left_out": {**dataset.left_out, **bad}})
    lay_out(changed, target, options, workers=workers, progress=progress)
    rewritten = [_describe_values(dataset, signs[case.id]) for case in changed.cases]
    left_out = [f"{case} is left out: {problem}" for case, problem in bad.items()]
    return (*merged, *(sentence for sentence in rewritten if sentence), *left_out)


def _merge_patients(dataset: Dataset, cases: Sequence[str]) -> Dataset:
    """The dataset with the patients of these cases as one."""
    patient_of = {case.id: case.group or case.id for case in dataset.cases}
    patients = {patient_of[case] for case in cases}
    name = patient_of[cases[0]]
    together = tuple(
        case.model_copy(update={"group": name}) if patient_of[case.id] in patients else case for case in dataset.cases
    )
    return dataset.model_copy(update={"cases": together})


def _describe_values(dataset: Dataset, found: CaseSigns) -> str:
    """The values that a mask was written with instead of those on disk; empty where they are the same."""
    labels = set(dataset.labels.values()) | {dataset.ignore_label}
    if set(found.values) <= labels:
        return ""
    written = [] if found.facts is None else [n for n, voxels in found.facts.label_voxels.items() if voxels]
    values = join_names(f"{dataset.labels[name]}" for name in written)
    return f"{found.case}: the mask holds {values} instead of {join_names(f'{value:.9g}' for value in found.values)}"
