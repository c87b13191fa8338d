"""Measure the cases that are not measured yet, as many at a time as fit into memory; measurements are kept on disk."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.errors import CasesError, DataError
from autoseg.core.images import read_grid
from autoseg.core.parallel import WORKER_BYTES, Progress, count_workers, run_cases
from autoseg.core.records import Case, CaseFacts, Dataset, Fingerprint
from autoseg.core.store import hash_settings, write_record, write_text
from autoseg.core.text import join_names
from autoseg.datasets import check_extent, read_case, warn_unoriented
from autoseg.fingerprint import find_identical_scans, measure_case, summarize
from autoseg.preparation.raw import without_cases

log = logging.getLogger(__name__)
# Measured peak of reading and measuring a case: 18 bytes and 6 a channel, 16 more where files hold float64.
BYTES_PER_VOXEL = 40
BYTES_PER_VOXEL_AND_CHANNEL = 8
UNUSUAL = 10.0
OTHERS = "the others are done (repair these, or leave them out with --skip-bad)"


def measure_dataset(
    dataset: Dataset,
    folder: Path,
    keys: Mapping[str, str],
    workers: int | None,
    progress: Progress,
    *,
    write: bool = True,
    skip_bad: bool = False,
    accept_spacing: bool = False,
) -> tuple[Fingerprint, dict[str, str]]:
    """Measure the cases that are not measured yet; each is on disk as soon as it is done.

    Args:
        folder: where ``facts.jsonl`` and ``fingerprint.json`` lie.
        keys: case id -> hash of what was measured.
        workers: processes; None takes as many as cores and memory allow while each holds the largest case.
        write: False measures without writing anything.
        skip_bad: cases whose files are bad are left out; without it they are an error.
        accept_spacing: take scans of a size that no head has.

    Returns:
        The fingerprint, and why each bad case is not in it.

    Raises:
        CasesError: some cases are bad; the facts of the others are kept.
    """
    path = folder / "facts.jsonl"
    facts_of = _read_facts(path, keys)
    bad: dict[str, str] = {}
    # Measurements of version 0.1 lack the head, and are taken again.
    todo = [case for case in dataset.cases if case.id not in facts_of or facts_of[case.id].head is None]
    if todo:
        workers = workers or count_workers(len(todo), bytes_per_case(dataset))
        log.info("measuring %d of %d cases with %d workers", len(todo), len(dataset.cases), workers)
        if write:
            write_text(path, "".join(_fact_line(keys[case], facts) for case, facts in facts_of.items()))

        def keep(case: str, facts: CaseFacts | str) -> None:
            if isinstance(facts, str):
                bad[case] = facts.removeprefix(f"case {case}: ")
                return
            facts_of[case] = facts
            if write:
                with path.open("a") as file:
                    file.write(_fact_line(keys[case], facts))

        bare = without_cases(dataset)
        measure = _measure_or_explain if skip_bad else _measure
        tasks = [(case.id, (bare, case, accept_spacing)) for case in todo]
        run_cases(measure, tasks, workers, keep, "measuring", progress, others=OTHERS)
        if len(bad) == len(dataset.cases):
            raise CasesError(bad, of=len(bad), doing="measuring")
    measured = {case: key for case, key in keys.items() if case not in bad}
    _warn_unusual([facts_of[case] for case in measured])
    _warn_repeated([facts_of[case] for case in measured])
    warn_unoriented([case for case in todo if case.id not in bad])
    dataset_key = hash_settings(without_cases(dataset), *sorted(measured.items()))
    fingerprint = summarize(dataset, dataset_key, [facts_of[case] for case in measured])
    unseen = [name for name, found in fingerprint.frequencies.items() if not found.cases]
    if unseen:
        log.warning("no label holds %s; dataset.json declares it", join_names(unseen))
    if write:
        write_record(folder / "fingerprint.json", fingerprint)
    return fingerprint, dict(sorted(bad.items()))


def _warn_unusual(facts: Sequence[CaseFacts]) -> None:
    """Name the cases whose voxels or whose size are over ten times larger or smaller than the median's."""
    spacings = np.array([case.spacing for case in facts])
    sizes = spacings * np.array([case.shape for case in facts])
    is_slice = np.array([case.shape for case in facts]) == 1  # its thickness is often not stated
    for what, measured in (("voxels", spacings), ("a size", sizes)):
        ratio = measured / np.median(measured, axis=0)
        unusual = ((ratio > UNUSUAL) | (ratio < 1 / UNUSUAL)) & ~is_slice
        named = [
            f"{case.case} ({' x '.join(f'{mm:.4g}' for mm in row)} mm)"
            for case, row, is_odd in zip(facts, measured, unusual.any(axis=1), strict=True)
            if is_odd
        ]
        if named:
            median = " x ".join(f"{mm:.4g}" for mm in np.median(measured, axis=0))
            log.warning(
                "%d cases have %s over %g times from the median (%s mm): %s; check their headers",
                len(named),
                what,
                UNUSUAL,
                median,
                join_names(named, limit=5),
            )


def _warn_repeated(facts: Sequence[CaseFacts]) -> None:
    """Name the cases that are one scan under two names."""
    repeated = [" and ".join(cases) for cases in find_identical_scans(facts)]
    if repeated:
        log.warning(
            "scans are identical (%s), so one may be trained on and the other held out; remove one of them, or give "
            "them one patient under groups in dataset.json",
            join_names(repeated, limit=3),
        )


def _measure_or_explain(task: tuple[Dataset, Case, bool]) -> CaseFacts | str:
    """The measures of a case, or what is wrong with its files."""
    try:
        return _measure(task)
    except DataError as error:
        return str(error)


def _measure(task: tuple[Dataset, Case, bool]) -> CaseFacts:
    dataset, case, accept_spacing = task
    image, label = read_case(dataset, case)
    if not accept_spacing:
        check_extent(case.id, case.channels[0].path, image.grid)
    return measure_case(image, label, case=case, labels=dataset.labels, ignore_label=dataset.ignore_label)


def _fact_line(key: str, facts: CaseFacts) -> str:
    return json.dumps({"key": key, "facts": facts.model_dump(mode="json")}) + "\n"


def _read_facts(path: Path, keys: Mapping[str, str]) -> dict[str, CaseFacts]:
    """Facts measured before, of files that have not changed; a line cut off by a kill is measured again."""
    facts_of: dict[str, CaseFacts] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            facts = CaseFacts.model_validate_json(json.dumps(row["facts"]))
        except (ValueError, KeyError, TypeError):
            continue
        if keys.get(facts.case) == row["key"]:
            facts_of[facts.case] = facts
    return facts_of


def bytes_per_case(dataset: Dataset) -> int:
    """Memory to measure the largest case, by the grids that the headers state."""
    largest = 0
    for case in dataset.cases:
        try:
            largest = max(largest, math.prod(read_grid(case.channels[0].path)[0].shape))
        except DataError:
            continue  # reading it will report the fault
    return WORKER_BYTES + largest * (BYTES_PER_VOXEL + BYTES_PER_VOXEL_AND_CHANNEL * len(dataset.channels))
