"""``autoseg_check``: every case of a raw dataset on one page, and what looks wrong, ranked."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import autoseg
from autoseg.checking import CaseSigns, find_suspicions, open_case
from autoseg.checking.compare import LEAST_CASES
from autoseg.checking.repairs import repair_dataset
from autoseg.core.errors import UsageError
from autoseg.core.parallel import Progress, count_workers, no_progress, run_cases
from autoseg.core.records import Case, Check, CheckedCase, Dataset, PlaneView
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, check_name, check_ours, write_record, write_text
from autoseg.options import CheckOptions, ImportOptions, command_line
from autoseg.preparation.measuring import bytes_per_case
from autoseg.preparation.raw import list_all_files, open_raw, without_cases
from autoseg.reporting import CheckContent, render_check_page, view_planes

log = logging.getLogger(__name__)
PAGE = "check.html"


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """One case: its signs without voxels, and its slices."""

    signs: CaseSigns
    planes: tuple[PlaneView, ...]


def check(store: Store, options: CheckOptions, *, progress: Progress = no_progress) -> Check:
    """Measure every case, compare it with the others, and write the page and, beside it, the same as JSON.

    Raises:
        UsageError: the dataset does not exist, or the one that ``--fix`` makes does.
        CasesError: a case failed for another reason than its files.
    """
    page = place_page(store, options)
    record_path = page.with_suffix(".json")
    check_ours(page, "Content-Security-Policy")
    check_ours(record_path, '"suspicions"')
    target = None if options.fix is None else store.raw(options.fix)
    if target is not None and (target.exists() or target.is_symlink()):
        raise UsageError(f"{target} already exists; remove it, or choose another name with --fix")
    dataset = open_raw(store, check_name(options.dataset, "dataset"), retry_skipped=True)
    with recorded(store, page.with_suffix(f".{RUN}"), ("autoseg_check", *command_line(options))) as run:
        result, planes = _check(store, options, dataset, target, progress)
        run.begin()
        run.add_files(dataset.name, list_all_files(dataset))
        write_record(record_path, result)
        write_text(page, render_check_page(_fill_page(result, dataset, planes)))
        log.info("wrote %s (%.1f MB) and %s", page, page.stat().st_size / 1e6, record_path.name)
    return result


def _check(
    store: Store, options: CheckOptions, dataset: Dataset, target: Path | None, progress: Progress
) -> tuple[Check, dict[str, tuple[PlaneView, ...]]]:
    """The record, and the slices of each case that can be read."""
    checked = _check_cases(dataset, options, progress)
    signs = {case.id: checked[case.id].signs for case in dataset.cases}
    result = Check(
        dataset=dataset.name,
        version=autoseg.__version__,
        compared=sum(found.facts is not None for found in signs.values()) >= LEAST_CASES,
        suspicions=find_suspicions(dataset, list(signs.values())),
        cases=tuple(_describe(found) for found in signs.values()),
    )
    if target is not None and options.fix is not None:
        copying = ImportOptions(source=store.raw(dataset.name), dataset=options.fix, accept_spacing=True)
        changes = repair_dataset(dataset, signs, target, copying, workers=options.workers, progress=progress)
        result = result.model_copy(update={"fixed": options.fix, "changes": changes})
    planes = {case: found.planes for case, found in checked.items() if found.planes}
    return _without_folder(result, store.root), planes


def place_page(store: Store, options: CheckOptions) -> Path:
    """File of the page."""
    return options.output or store.preprocessed(options.dataset) / PAGE


def _check_cases(dataset: Dataset, options: CheckOptions, progress: Progress) -> dict[str, _Checked]:
    bare = without_cases(dataset)
    tasks = [(case.id, (bare, case, options.pictures)) for case in dataset.cases]
    workers = options.workers or count_workers(len(tasks), bytes_per_case(dataset))
    log.info("checking %d cases with %d workers", len(tasks), workers)
    checked: dict[str, _Checked] = {}
    run_cases(_check_case, tasks, workers, checked.__setitem__, "checking", progress)
    return checked


def _check_case(task: tuple[Dataset, Case, bool]) -> _Checked:
    dataset, case, pictures = task
    opened = open_case(dataset, case)
    planes: tuple[PlaneView, ...] = ()
    if pictures and opened.scan is not None:
        planes = view_planes(opened.scan, opened.mask, opened.spacing, _label_values(dataset))
    return _Checked(signs=opened.signs, planes=planes)


def _label_values(dataset: Dataset) -> list[int]:
    return [value for value in dataset.labels.values() if value != 0]


def _describe(signs: CaseSigns) -> CheckedCase:
    facts = signs.facts
    return CheckedCase(
        case=signs.case,
        problem=signs.problem,
        spacing=None if facts is None else facts.spacing,
        shape=None if facts is None else facts.shape,
        head_ml=signs.head_ml,
        head_mm=signs.head_mm,
        mask_voxels={} if facts is None else facts.label_voxels,
        outside_share=signs.outside_share,
        cut_share=signs.cut_share,
    )


def _without_folder(result: Check, root: Path) -> Check:
    """The same with paths below the root: a page that is mailed names no folder of this machine."""
    text = result.model_dump_json(by_alias=True)
    for folder in {f"{root}/", f"{root.absolute()}/", f"{root.resolve()}/"} - {"./", "/"}:
        text = text.replace(folder, "")
    return Check.model_validate_json(text)


def _fill_page(result: Check, dataset: Dataset, planes: dict[str, tuple[PlaneView, ...]]) -> CheckContent:
    notes: dict[str, tuple[str, ...]] = {}
    if not result.compared:
        notes["suspicions"] = (
            f"Fewer than {LEAST_CASES} cases can be read, so they were not compared with each other.",
        )
    if not planes:
        notes["cases"] = ("This page was made without pictures, or no scan can be read.",)
    return CheckContent(
        made_at=time.strftime("%Y-%m-%d %H:%M"),
        check=result,
        channels=dataset.channels,
        labels=tuple(name for name, value in dataset.labels.items() if value != 0),
        planes=planes,
        notes=notes,
    )
