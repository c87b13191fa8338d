"""The command itself: which model, which scans, and what becomes of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from autoseg.core.devices import choose_device, choose_devices, name_device, use_cores
from autoseg.core.errors import AutosegError, CasesError, UsageError
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Progress, map_cases, no_progress
from autoseg.core.records import Case, Image, Label
from autoseg.core.store import Store, replacing
from autoseg.datasets import find_scans, read_image
from autoseg.evaluation.postprocessing import describe_setting
from autoseg.options import PredictOptions
from autoseg.pipeline.prediction_report import report_case, write_tables
from autoseg.prediction.adapting import adapt_ensemble
from autoseg.prediction.engines import check_engine, tune_model
from autoseg.prediction.ensembles import Ensemble, load_ensemble
from autoseg.prediction.model_choice import choose_model, choose_part, describe_expected
from autoseg.prediction.overlapping import PreparedScan, predict_cases
from autoseg.prediction.records import CaseFiles, MaskRecord, ensemble_key
from autoseg.prediction.review import write_case_review, write_review_list
from autoseg.preparation import source_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Work of one process; it can be sent to another.

    Attributes:
        folder: of the model.
        device: that torch knows.
        parts: (number, count) as ``choose_part`` takes them; the last is this process among those side by side.
    """

    folder: Path
    folds: tuple[str, ...] | None
    scans: Path
    output: Path
    device: str
    options: PredictOptions
    parts: tuple[tuple[int, int], ...]


@dataclass(kw_only=True)
class _Done:
    """Masks that are there, and scans that failed with a sentence each."""

    masks: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def predict(store: Store, options: PredictOptions, *, progress: Progress = no_progress) -> list[Path]:
    """Predict every scan of a folder; masks that this model already made of the same files in the same way stay.

    Returns:
        The masks, those made before included.

    Raises:
        UsageError: no scan, no model, or several to choose from.
        CasesError: some scans failed; the others are done.
    """
    scans, output, folds = options.scans, options.output, options.folds
    if output.resolve() == scans.resolve():
        raise UsageError(f"{output} is the folder of the scans; choose another one for the masks")
    folder = choose_model(store, options.dataset, options.configuration)
    devices = choose_devices(options.device)
    for name in devices:
        check_engine(options.engine, choose_device(name))
    works = [
        _Work(
            folder=folder,
            folds=folds,
            scans=scans,
            output=output,
            device=name,
            options=options,
            parts=(options.part, (number, len(devices))),
        )
        for number, name in enumerate(devices, start=1)
    ]
    done = _predict_part(works[0], progress) if len(works) == 1 else _predict_side_by_side(works, progress)
    if options.report and done.masks:
        write_tables(output, done.masks, set(done.failures))
    if options.doubt and done.masks:
        write_review_list(output, done.masks, set(done.failures))
    if done.failures:
        failures = dict(sorted(done.failures.items()))
        raise CasesError(failures, of=len(done.masks) + len(failures), doing="predicting")
    return sorted(done.masks)


def _predict_side_by_side(works: Sequence[_Work], progress: Progress) -> _Done:
    """One process per device, each with its part of the cases."""
    names = ", ".join(work.device for work in works)
    log.info("one process on each of %s, each with its part of the scans", names)
    done = _Done()
    tasks = [(f"the part on {work.device}", work) for work in works]
    progress(0, len(works), "predicting parts")
    for number, outcome in enumerate(map_cases(_predict_part, tasks, workers=len(works)), start=1):
        progress(number, len(works), "predicting parts")
        if outcome.is_bug:
            log.error("%s:\n%s", outcome.name, outcome.trace)
        if outcome.value is None:
            done.failures[outcome.name] = outcome.failure or ""
            continue
        done.masks += outcome.value.masks
        done.failures |= outcome.value.failures
    return done


def _predict_part(work: _Work, progress: Progress = no_progress) -> _Done:
    options, target = work.options, choose_device(work.device)
    use_cores(share=work.parts[-1][1])
    loaded = load_ensemble(work.folder, work.folds, target)
    ensemble = adapt_ensemble(loaded, target, step=options.step, mirror=options.mirror)
    channels = ensemble.plan.channels
    found, failed = find_scans(work.scans, channels)
    if not found and not failed:
        raise UsageError(f"{work.scans} contains no scans; {describe_expected(channels)}")
    cases, failures = choose_part(found, failed, work.parts)
    done = _Done(failures=dict(failures))
    key = ensemble_key(ensemble, work.folder)
    todo, records, others = _choose_todo(work, ensemble, key, cases, done)
    _say_what_is_done(work, ensemble, target, done, len(cases) + len(failures), others)

    def read(case: Case) -> Image:
        return read_image(case.id, case.channels, channels, resample_channels=options.resample_channels)

    def review(case: Case, mask: Label, probabilities: np.ndarray, network_masks: list[np.ndarray]) -> None:
        files = CaseFiles.of(work.output, case)
        files.remove_all_but_mask()
        outputs, record = ensemble.plan.outputs, records[case.id]
        write_case_review(files, case.id, mask, probabilities, network_masks, outputs, record)

    def write(case: Case, mask: Label, probabilities: np.ndarray | None) -> None:
        files = CaseFiles.of(work.output, case)
        if not options.doubt:
            files.remove_all_but_mask()
        if probabilities is not None and options.probabilities:
            _write_probabilities(files.probabilities, probabilities, ensemble)
        write_voxels(files.mask, mask.voxels, mask.grid, like=case.channels[0].path)
        if probabilities is not None and options.report:
            report_case(files, case.id, read(case), mask, probabilities, ensemble.plan, records[case.id])
        files.write_record(records[case.id])

    progress(0, len(todo), "predicting")

    def tune(ensemble: Ensemble, prepared: PreparedScan) -> Ensemble:
        pairs = zip(ensemble.members, prepared, strict=True)
        tuned = [tune_model(member, scan, options.engine, target, cases=len(todo)) for member, scan in pairs]
        return replace(ensemble, members=tuple(tuned))

    outcomes = predict_cases(
        ensemble,
        todo,
        target,
        read=read,
        write=write,
        tune=tune,
        review=review if options.doubt else None,
        keep_probabilities=options.probabilities or options.report,
    )
    with closing(outcomes):
        for number, (case, outcome) in enumerate(zip(todo, outcomes, strict=True), start=1):
            progress(number, len(todo), f"predicting, {case.id} done")
            if outcome.failure is None:
                done.masks.append(CaseFiles.of(work.output, case).mask)
            else:
                log.warning("%s", outcome.failure)
                done.failures[case.id] = outcome.failure
    return done


def _choose_todo(
    work: _Work, ensemble: Ensemble, key: str, cases: Sequence[Case], done: _Done
) -> tuple[list[Case], dict[str, MaskRecord], int]:
    """Cases that still need a mask, what will be recorded of each, and how many have one that was made otherwise."""
    todo: list[Case] = []
    records: dict[str, MaskRecord] = {}
    others = 0
    for case in cases:
        files = CaseFiles.of(work.output, case)
        try:
            record = MaskRecord(model=key, name=ensemble.name, scan=source_key(case))
            if files.are_complete(
                record, probabilities=work.options.probabilities, report=work.options.report, review=work.options.doubt
            ):
                done.masks.append(files.mask)
                continue
            previous = files.read_record()
            others += previous is not None and previous.model != key
        except AutosegError as error:
            done.failures[case.id] = str(error)
            continue
        todo.append(case)
        records[case.id] = record
    return todo, records, others


def _say_what_is_done(
    work: _Work, ensemble: Ensemble, target: torch.device, done: _Done, total: int, others: int
) -> None:
    log.info("predicting %d scans with %s on %s", total, ensemble.name, name_device(target))
    for member in ensemble.members:
        mean = "mean of " if len(ensemble.members) > 1 else ""
        log.info("%s%s, folds %s", mean, member.name, ", ".join(member.folds))
        if member.source is not None:
            log.info("each scan first with its source %s, folds %s", member.source.name, ", ".join(member.source.folds))
    for label, setting in ensemble.postprocessing.items():
        log.info("post-processing of %s: %s", label, describe_setting(setting))
    if others:
        log.info(
            "%s holds %d masks of another model, or made with other options; they are predicted again",
            work.output,
            others,
        )
    if done.masks:
        log.info("%d of the masks are there already", len(done.masks))


def _write_probabilities(path: Path, probabilities: np.ndarray, ensemble: Ensemble) -> None:
    """One compressed ``.npz``, whole or not at all: (K,Z,Y,X) float16, and the name and label value of each of K."""
    outputs = ensemble.plan.outputs
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, probabilities=probabilities, names=np.array(outputs.names), values=np.array(outputs.values)
        )
