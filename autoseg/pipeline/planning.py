"""``autoseg_plan``: fingerprint, plan, folds and preprocessed arrays of a dataset."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, cast

from autoseg.core.arrays import is_prepared, write_prepared
from autoseg.core.errors import CasesError, PlanError, UsageError
from autoseg.core.parallel import Progress, count_workers, map_cases, no_progress
from autoseg.core.records import (
    Case,
    CaseFacts,
    Dataset,
    Fingerprint,
    Folds,
    Plan,
    PreprocessingSettings,
    Record,
    render_record,
)
from autoseg.core.store import Store, hash_settings, read_record, write_record, write_text
from autoseg.datasets import open_dataset, read_case
from autoseg.fingerprint import measure_case, summarize
from autoseg.pipeline.presets import Preset
from autoseg.planning import make_folds, make_plan
from autoseg.preprocessing import prepare_case

log = logging.getLogger(__name__)
A = TypeVar("A")
T = TypeVar("T")
R = TypeVar("R", bound=Record)
Edited = Literal["refuse", "keep", "replace"]

# A float32 scan, its mask, its resampled copy and the label, with some air; scaled by each dataset's largest case.
BYTES_PER_VOXEL_AND_CHANNEL = 40


def plan_dataset(
    store: Store,
    name: str,
    *,
    preset: Preset,
    memory_gb: float,
    edited: Edited = "refuse",
    seed: int = 12345,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Plan:
    """Measure a dataset, plan its configurations, split it into folds and preprocess it; what is done is not redone.

    Args:
        preset: ``pocket`` (no GPU), ``standard`` or ``large``.
        memory_gb: GPU memory that patch and batch must fit.
        edited: what to do with a plan or folds changed by hand since autoseg wrote them: stop, keep (also a plan
            that was not changed), or replace, leaving a copy.
        workers: processes; None takes what cores and memory allow.

    Raises:
        CasesError: some cases are bad; facts and arrays of the others are kept for the next run.
        PlanError: the plan was edited by hand and ``edited`` is ``refuse``, or it was edited wrongly.
    """
    dataset = open_raw(store, name)
    folder = store.preprocessed(name)
    keys = {case.id: case_key(dataset, case) for case in dataset.cases}
    workers = workers or _fitting_workers(dataset)
    fingerprint = _fingerprint(dataset, folder, keys, workers, progress)
    path = folder / "plan.json"
    if edited == "keep" and path.exists():
        plan = read_record(Plan, path, remedy=_remedy(name))
        log.info("%s is used as it is", path)
    else:
        # A cascade can be planned, but not trained yet; the low resolution is a configuration like any other.
        fresh = make_plan(fingerprint, preset=preset, memory_gb=memory_gb, seed=seed, cascade=False)
        plan = _settle(path, fresh, edited, name)
    folds = _settle(folder / "folds.json", make_folds(fingerprint, seed=seed), edited, name)
    check_folds(folds, set(keys), folder / "folds.json")
    _prepare_arrays(dataset, folder, plan, keys, workers, progress)
    return plan


def show_plan(store: Store, plan: Plan) -> str:
    """The plan in a few lines, and what to type next."""
    folder = store.preprocessed(plan.dataset)
    count = f"{len(plan.channels)} channel{'s'[: len(plan.channels) != 1]}"
    lines = [f"{plan.dataset}: {count} ({', '.join(plan.channels)}), preset {plan.preset}"]
    for name, configuration in plan.configurations.items():
        patch = "x".join(map(str, configuration.patch_size))
        spacing = " x ".join("own" if s is None else f"{s:.3g}" for s in configuration.preprocessing.spacing)
        star = " (recommended)" if name == plan.recommended else ""
        lines.append(
            f"  {name}: {configuration.network.name}, {len(configuration.network.features)} stages, patch {patch}, "
            f"batch {configuration.batch_size}, spacing {spacing} mm{star}"
        )
    lines.append(f"reasons: {folder / 'plan.json'}")
    lines.append(f"next: autoseg_train -d {plan.dataset} -c {plan.recommended} -f 0")
    return "\n".join(lines) + "\n"


def open_raw(store: Store, name: str) -> Dataset:
    """The raw dataset of that name; says in one line when it was recognised as distributed."""
    dataset = open_dataset(store.raw(name), name)
    if dataset.kind != "nnunet":
        log.info(
            "%s lies there as distributed (%s, %d cases); no import needed", name, dataset.kind, len(dataset.cases)
        )
    for case, reason in dataset.left_out.items():
        log.warning("left out %s: %s", case, reason)
    return dataset


def source_key(case: Case) -> str:
    """A hash of the case's files by name, size and time."""
    files = [channel.path for channel in case.channels] + list(case.labels)
    stats = [path.stat() for path in files if path.exists()]
    return hash_settings(*((path.name, s.st_size, s.st_mtime_ns) for path, s in zip(files, stats, strict=False)))


def case_key(dataset: Dataset, case: Case) -> str:
    """A hash of the case's files and of how the dataset reads them."""
    reading = dataset.model_copy(update={"name": "", "licence": "", "cases": (), "left_out": {}})
    return hash_settings(source_key(case), case.group, case.site, reading)


def arrays_folder(preprocessed: Path, settings: PreprocessingSettings) -> Path:
    """Where arrays with these settings lie; configurations with equal settings share them."""
    return preprocessed / f"arrays_{hash_settings(settings)}"


def read_plan(store: Store, name: str) -> Plan:
    """The plan of a dataset as it stands on disk.

    Raises:
        UsageError: there is no such dataset.
        PlanError: not planned yet, or edited wrongly.
    """
    path = store.preprocessed(name) / "plan.json"
    if not path.exists() and not store.raw(name).exists():
        known = ", ".join(store.datasets()) or "none"
        raise UsageError(f"there is no dataset '{name}' in {store.raw(name).parent}; there are: {known}")
    return read_record(Plan, path, remedy=f"make it with: autoseg_plan -d {name}")


def read_folds(store: Store, name: str) -> Folds:
    """The folds of a dataset as they stand on disk."""
    path = store.preprocessed(name) / "folds.json"
    return read_record(Folds, path, remedy=f"make it with: autoseg_plan -d {name}")


def check_folds(folds: Folds, cases: set[str], path: Path) -> None:
    """Every id in the folds must be a case of the dataset.

    Raises:
        PlanError: an id is unknown.
    """
    used = {case for fold in folds.folds for case in (*fold.train, *fold.validation)}
    unknown = sorted(used - cases)
    if unknown:
        raise PlanError(
            f"{path} names {len(unknown)} cases that the dataset does not have ({', '.join(unknown[:3])}); "
            f"correct it, or delete it and run autoseg_plan again"
        )


def _fitting_workers(dataset: Dataset) -> int:
    sizes = [sum(c.path.stat().st_size for c in case.channels if c.path.exists()) for case in dataset.cases[:50]]
    # Compressed scans grow about fourfold in float32; BYTES_PER_VOXEL_AND_CHANNEL / 4 copies of that are alive at once.
    return count_workers(len(dataset.cases), max(sizes, default=0) * 4 * BYTES_PER_VOXEL_AND_CHANNEL // 4 + 2**28)


def _fingerprint(
    dataset: Dataset, folder: Path, keys: Mapping[str, str], workers: int, progress: Progress
) -> Fingerprint:
    """Measure the cases that are not measured yet; each is on disk as soon as it is done."""
    path = folder / "facts.jsonl"
    known = _read_facts(path, keys)
    todo = [case for case in dataset.cases if case.id not in known]
    if todo:
        log.info("measuring %d of %d cases with %d workers", len(todo), len(dataset.cases), workers)
        lines = [_fact_line(keys[case], facts) for case, facts in known.items()]
        write_text(path, "".join(lines))

        def keep(case: str, facts: CaseFacts) -> None:
            known[case] = facts
            with path.open("a") as file:
                file.write(_fact_line(keys[case], facts))

        tasks = [(case.id, (dataset, case)) for case in todo]
        _run(_measure, tasks, workers, keep, "measuring", progress)
    dataset_key = hash_settings(dataset, *sorted(keys.items()))
    fingerprint = summarize(dataset, dataset_key, [known[case.id] for case in dataset.cases])
    write_record(folder / "fingerprint.json", fingerprint)
    return fingerprint


def _measure(task: tuple[Dataset, Case]) -> CaseFacts:
    dataset, case = task
    image, label = read_case(dataset, case)
    return measure_case(image, label, case=case, labels=dataset.labels, ignore_label=dataset.ignore_label)


def _fact_line(key: str, facts: CaseFacts) -> str:
    return json.dumps({"key": key, "facts": facts.model_dump(mode="json")}) + "\n"


def _read_facts(path: Path, keys: Mapping[str, str]) -> dict[str, CaseFacts]:
    """Facts measured before, of files that have not changed; a line cut off by a kill is measured again."""
    known: dict[str, CaseFacts] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            facts = CaseFacts.model_validate_json(json.dumps(row["facts"]))
        except (ValueError, KeyError):
            continue
        if keys.get(facts.case) == row["key"]:
            known[facts.case] = facts
    return known


def _settle(path: Path, made: R, edited: Edited, name: str) -> R:
    """Write what was made, unless a person has edited the file since autoseg wrote it."""
    seal = path.with_name(f".{path.name}.sha256")
    if path.exists() and path.read_text() != render_record(made) and _is_edited(path, seal):
        if edited == "refuse":
            raise PlanError(f"{path} was edited by hand; {_remedy(name)}")
        if edited == "keep":
            log.info("%s was edited by hand and is used as it is", path)
            return read_record(type(made), path, remedy=_remedy(name))
        copy = path.with_name(f"{path.stem}.before.json")
        path.replace(copy)
        log.info("the edited %s is kept as %s", path.name, copy.name)
    write_record(path, made)
    write_text(seal, _digest(path))
    return made


def _remedy(name: str) -> str:
    return f"autoseg_plan -d {name} --keep uses it as it is, --replace makes it new (and keeps a copy)"


def _is_edited(path: Path, seal: Path) -> bool:
    return not seal.exists() or seal.read_text() != _digest(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _prepare_arrays(
    dataset: Dataset, folder: Path, plan: Plan, keys: Mapping[str, str], workers: int, progress: Progress
) -> None:
    """Preprocess every case once per distinct settings, and drop arrays that no configuration uses any more."""
    wanted = {arrays_folder(folder, c.preprocessing): c.preprocessing for c in plan.configurations.values()}
    for stale in folder.glob("arrays_*"):
        if stale not in wanted:
            shutil.rmtree(stale)
    for target, settings in wanted.items():
        todo = [case for case in dataset.cases if not is_prepared(target, case.id, keys[case.id])]
        if not todo:
            continue
        names = [n for n, c in plan.configurations.items() if c.preprocessing == settings]
        log.info("preprocessing %d of %d cases for %s", len(todo), len(dataset.cases), ", ".join(names))
        tasks = [(case.id, (dataset, case, settings, target, keys[case.id])) for case in todo]
        _run(_prepare, tasks, workers, lambda case, done: None, "preprocessing", progress)


def _prepare(task: tuple[Dataset, Case, PreprocessingSettings, Path, str]) -> None:
    dataset, case, settings, folder, key = task
    image, label = read_case(dataset, case)
    write_prepared(folder, prepare_case(case.id, image, label, settings), key)


def _run(
    function: Callable[[A], T],
    tasks: Sequence[tuple[str, A]],
    workers: int,
    keep: Callable[[str, T], None],
    doing: str,
    progress: Progress,
) -> None:
    """Map over cases, keep what comes, and raise at the end with every failure."""
    failures: dict[str, str] = {}
    progress(0, len(tasks), doing)
    for done, outcome in enumerate(map_cases(function, tasks, workers=min(workers, len(tasks))), start=1):
        if outcome.failure is None:
            keep(outcome.name, cast(T, outcome.value))
        else:
            failures[outcome.name] = outcome.failure
        if outcome.is_bug:
            log.error("case %s:\n%s", outcome.name, outcome.trace)
        progress(done, len(tasks), doing)
    if failures:
        raise CasesError(failures, of=len(tasks), doing=doing)
