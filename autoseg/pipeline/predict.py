"""``autoseg_predict``: predict the scans of a folder; an interrupted command resumes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from autoseg.core.devices import choose_device, choose_devices, name_device, use_cores
from autoseg.core.errors import CasesError, DataError, UsageError
from autoseg.core.image_files import real_path
from autoseg.core.images import write_voxels
from autoseg.core.parallel import Outcome, Progress, map_cases, no_progress
from autoseg.core.probabilities import ClassProbabilities, write_probabilities
from autoseg.core.records import Case, CaseDoubt, CaseRun, Image, Label, Plan
from autoseg.core.runs import RUN, Run, recorded
from autoseg.core.store import Store, check_ours, check_writable, write_record
from autoseg.core.text import join_names
from autoseg.datasets import check_extent, find_scans, read_image, warn_unoriented
from autoseg.dicom import Converted
from autoseg.evaluation.postprocessing import describe_setting
from autoseg.options import PredictOptions, command_line
from autoseg.pipeline.predict_report import check_report, write_case_report, write_report
from autoseg.prediction.adapting import adapt_ensemble
from autoseg.prediction.derivatives import (
    check_description,
    is_derivative,
    write_description,
    write_probsegs,
    write_sidecars,
)
from autoseg.prediction.dicom_scans import convert_scans, write_dicom_mask
from autoseg.prediction.engines import check_engine, tune_model
from autoseg.prediction.ensembles import Ensemble, load_ensemble
from autoseg.prediction.model_choice import choose_model
from autoseg.prediction.overlapping import PreparedScan, predict_cases
from autoseg.prediction.parts import select_part
from autoseg.prediction.records import CaseFiles, MaskRecord, ensemble_key, read_case_records
from autoseg.prediction.review import REVIEW_LIST, measure_doubt, write_review_list
from autoseg.preparation import source_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Work of one process; it can be sent to another.

    Attributes:
        folder: of the model.
        device: name of its device.
        parts: (number, count) as for ``select_part``; the last one counts the processes side by side.
        converted: cases that were DICOM; None where the folder holds scans as they are.
    """

    folder: Path
    options: PredictOptions
    device: str
    parts: tuple[tuple[int, int], ...]
    converted: Converted | None = None


@dataclass(kw_only=True)
class _Result:
    """Finished masks, failed cases with a sentence each, and what the record of the run holds of them."""

    masks: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    cases: dict[str, CaseRun] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


def predict(store: Store, options: PredictOptions, *, progress: Progress = no_progress) -> list[Path]:
    """Predict every scan of a folder; existing masks stay if this model made them of the same files and options.

    Returns:
        All masks, also the existing ones.

    Raises:
        UsageError: no scan, no model, or several to choose from.
        CasesError: some scans failed; the others are done.
    """
    output = options.output
    if real_path(output) == real_path(options.scans):
        raise UsageError(f"{output} is the folder of the scans; choose another folder for the masks")
    folder = choose_model(store, options.dataset, options.configuration)
    if options.report:
        check_report(output)
    if options.doubt:
        check_ours(output / REVIEW_LIST, '"doubts"')
    if is_derivative(output, options.scans):
        check_description(output)
    devices = choose_devices(options.device)
    for name in devices:
        check_engine(options.engine, choose_device(name))
    converted = convert_scans(folder, options, progress=progress)
    parts = [
        _Part(
            folder=folder,
            options=options,
            device=name,
            parts=(options.part, (number, len(devices))),
            converted=converted,
        )
        for number, name in enumerate(devices, start=1)
    ]
    number, count = options.part
    path = output / (RUN if count == 1 else f"part_{number}_of_{count}.{RUN}")
    with recorded(store, path, ("autoseg_predict", *command_line(options))) as run:
        run.device = ", ".join(dict.fromkeys(name_device(choose_device(name)) for name in devices))
        result = (
            _predict_part(parts[0], progress, run) if len(parts) == 1 else _predict_side_by_side(parts, run, progress)
        )
        run.add_model(folder, options.folds)
        if options.report and result.masks:
            write_report(output, folder, result.masks, {case: run.hide(text) for case, text in result.failures.items()})
        if options.doubt and result.masks:
            write_review_list(output, read_case_records(CaseDoubt, output, result.masks, result.failures))
        if result.failures:
            raise CasesError(result.failures, of=len(result.masks) + len(result.failures), doing="predicting")
    return sorted(result.masks)


def _predict_side_by_side(parts: Sequence[_Part], run: Run, progress: Progress) -> _Result:
    """One process per device, each with its part of the cases."""
    run.begin()
    log.info("one process on each of %s", ", ".join(part.device for part in parts))
    result = _Result()
    tasks = [(f"the part on {part.device}", part) for part in parts]
    progress(0, len(parts), "predicting parts")
    for number, outcome in enumerate(map_cases(_predict_part, tasks, workers=len(parts)), start=1):
        progress(number, len(parts), "predicting parts")
        if outcome.is_bug:
            log.error("%s:\n%s", outcome.name, outcome.trace)
        if outcome.value is None:
            result.failures[outcome.name] = outcome.failure or ""
            continue
        result.masks += outcome.value.masks
        result.failures |= outcome.value.failures
        run.cases |= outcome.value.cases
        run.inputs |= outcome.value.inputs
    return result


def _predict_part(part: _Part, progress: Progress = no_progress, run: Run | None = None) -> _Result:
    run = run or Run(None, (), str)  # of this process; the one that started it keeps the record
    options, device = part.options, choose_device(part.device)
    use_cores(share=part.parts[-1][1])
    ensemble = load_ensemble(part.folder, options.folds, device, postprocessing=options.postprocessing)
    ensemble = adapt_ensemble(ensemble, device, step=options.step, mirror=options.mirror)
    channels = ensemble.plan.channels
    cases, failures = _find_cases(part, channels)
    result = _Result(failures=dict(failures))
    key = ensemble_key(ensemble, part.folder)
    records = _select_unfinished(options, ensemble, key, cases, result)
    todo = [case for case in cases if case.id in records]
    if todo:
        check_writable(options.output)
    if is_derivative(options.output, options.scans):
        write_description(options.output, ensemble.plan, ensemble.name)
    run.begin()
    for case in cases:
        if case.id not in records and case.id not in result.failures:
            run.keep_case(case.id)
    warn_unoriented(todo)
    _log_start(options, ensemble, device, result, len(cases) + len(failures))

    def read(case: Case) -> Image:
        image = _read_scan(case, channels, options)
        for file in case.channels:
            run.add_content(file.path, case=case.id)
        return image

    def tune(ensemble: Ensemble, prepared: PreparedScan) -> Ensemble:
        pairs = zip(ensemble.members, prepared, strict=True)
        tuned = [tune_model(member, scan, options.engine, device, cases=len(todo)) for member, scan in pairs]
        return replace(ensemble, members=tuple(tuned))

    def review(case: Case, mask: Label, probabilities: np.ndarray, network_masks: list[np.ndarray]) -> None:
        files = _place_files(options, case, ensemble.plan)
        files.begin(records[case.id])
        doubt = measure_doubt(case.id, mask, probabilities, network_masks, ensemble)
        write_record(files.review, CaseDoubt(model=records[case.id].model, networks=len(network_masks), doubt=doubt))

    def write(case: Case, mask: Label, probabilities: np.ndarray | None) -> None:
        files = _place_files(options, case, ensemble.plan)
        if not options.doubt:
            files.begin(records[case.id])
        _write_mask(files, case, mask, probabilities, ensemble, options, records[case.id])
        if options.dicom_seg and part.converted is not None:
            reference = part.converted.references[case.id]
            write_dicom_mask(files, mask, reference, ensemble, keep_patient=options.dicom_patient)
        if probabilities is not None and options.report:
            write_case_report(files, case, read(case), mask, probabilities, ensemble, key)
        files.write_record(records[case.id])

    progress(0, len(todo), "predicting")
    outcomes = predict_cases(
        ensemble,
        todo,
        device,
        read=read,
        write=write,
        tune=tune,
        review=review if options.doubt else None,
        keep_probabilities=options.probabilities or options.report,
    )
    with closing(outcomes):
        masks = {case.id: _place_files(options, case, ensemble.plan).mask for case in todo}
        _collect(outcomes, todo, masks, run, result, progress)
    result.cases, result.inputs = run.cases, run.inputs
    return result


def _find_cases(part: _Part, channels: Sequence[str]) -> tuple[list[Case], dict[str, str]]:
    """Cases, and failed cases, of one part.

    Raises:
        UsageError: the folder holds no scans.
    """
    options, converted = part.options, part.converted
    cases, failures = (
        find_scans(options.scans, channels, without=options.output)
        if converted is None
        else (converted.cases, converted.failures)
    )
    if not cases and not failures:
        raise UsageError(f"{options.scans} contains no scans; {_describe_expected(channels)}")
    return select_part(cases, failures, part.parts)


def _collect(
    outcomes: Iterable[Outcome[None]],
    todo: Sequence[Case],
    masks: Mapping[str, Path],
    run: Run,
    result: _Result,
    progress: Progress,
) -> None:
    """Add each case to the result and to the record of the run as it is done."""
    began = time.perf_counter()
    for number, (case, outcome) in enumerate(zip(todo, outcomes, strict=True), start=1):
        began, previous = time.perf_counter(), began
        run.note_case(case.id, outcome.failure, began - previous)
        progress(number, len(todo), f"predicting, {case.id} done")
        if outcome.failure is None:
            result.masks.append(masks[case.id])
        else:
            log.warning("%s", outcome.failure)
            result.failures[case.id] = outcome.failure


def _place_files(options: PredictOptions, case: Case, plan: Plan) -> CaseFiles:
    """Files of a case; those of a BIDS dataset may be its derivatives."""
    if is_derivative(options.output, options.scans):
        return CaseFiles.of_derivative(options.output, case, plan)
    return CaseFiles.of(options.output, case)


def _write_mask(
    files: CaseFiles,
    case: Case,
    mask: Label,
    probabilities: np.ndarray | None,
    ensemble: Ensemble,
    options: PredictOptions,
    record: MaskRecord,
) -> None:
    """Write a mask, its probabilities if requested, and the sidecars of derivatives.

    Args:
        mask: (Z,Y,X) on the scan's grid.
        probabilities: (K,Z,Y,X) float16 on the same grid, if anything needs them.
    """
    scan, derivative = case.channels[0].path, is_derivative(options.output, options.scans)
    images = [files.mask]
    if probabilities is not None and options.probabilities:
        if derivative:
            write_probsegs(files.probabilities, probabilities, ensemble.plan, mask, scan)
            images += files.probabilities
        else:
            stored = ClassProbabilities.whole(probabilities, ensemble.plan.outputs)
            write_probabilities(files.probabilities[0], stored)
    write_voxels(files.mask, mask.voxels, mask.grid, like=scan)
    if derivative:
        write_sidecars(images, case, options.scans, model=ensemble.name, key=record.model)


def _read_scan(case: Case, channels: Sequence[str], options: PredictOptions) -> Image:
    """(C,Z,Y,X) of a case, of a size that a head has."""
    image = read_image(
        case.id,
        case.channels,
        channels,
        resample_channels=options.resample_channels,
        orientation=options.orientation,
    )
    if not options.accept_spacing:
        check_extent(case.id, case.channels[0].path, image.grid)
    return image


def _describe_expected(channels: Sequence[str]) -> str:
    if len(channels) == 1:
        return f"expected <case>.nii.gz or <case>_0000.nii.gz files ({channels[0]})"
    numbered = ", ".join(f"_{number:04d} = {name}" for number, name in enumerate(channels))
    return (
        f"expected <case>_0000.nii.gz files ({numbered}), or a folder per case with {', '.join(channels)} in file names"
    )


def _select_unfinished(
    options: PredictOptions, ensemble: Ensemble, key: str, cases: Sequence[Case], result: _Result
) -> dict[str, MaskRecord]:
    """Case -> record to be written, for the cases to predict; the others are added to the result."""
    records: dict[str, MaskRecord] = {}
    outdated = 0
    foreign: list[Path] = []
    scans = {real_path(file.path) for case in cases for file in case.channels}
    requested = {"probabilities": options.probabilities, "report": options.report, "review": options.doubt}
    requested["segmentation"] = options.dicom_seg
    for case in cases:
        files = _place_files(options, case, ensemble.plan)
        try:
            record = MaskRecord(
                model=key,
                name=ensemble.name,
                scan=source_key(case),
                postprocessing=dict(ensemble.postprocessing),
            )
            if files.are_complete(record, **requested):
                result.masks.append(files.mask)
                continue
            if real_path(files.mask) in scans:
                raise UsageError(f"the mask {files.mask} would replace a scan; choose another folder with -o")
            foreign += [path for path in [files.find_foreign()] if path is not None]
            previous = files.read_record()
            outdated += previous is not None and previous.model != key
        except DataError as error:
            result.failures[case.id] = str(error)
            continue
        records[case.id] = record
    if foreign and not options.replace:
        raise UsageError(
            f"{options.output} holds files that autoseg did not make, or that were changed since "
            f"({join_names((path.name for path in foreign), limit=3)}); choose another folder with -o, or replace them "
            f"with --replace"
        )
    if outdated:
        log.info(
            "%s holds %d masks of another model or of other options; they are predicted again", options.output, outdated
        )
    return records


def _log_start(options: PredictOptions, ensemble: Ensemble, device: torch.device, result: _Result, total: int) -> None:
    log.info("predicting %d scans with %s on %s", total, ensemble.name, name_device(device))
    for member in ensemble.members:
        mean = "mean of " if len(ensemble.members) > 1 else ""
        log.info("%s%s, folds %s", mean, member.name, ", ".join(member.folds))
        if member.source is not None:
            log.info("first stage of the cascade: %s, folds %s", member.source.name, ", ".join(member.source.folds))
    if ensemble.postprocessing:
        settings = (f"{label}: {describe_setting(setting)}" for label, setting in ensemble.postprocessing.items())
        log.info("post-processing of %s (--no-postprocessing leaves it out)", "; of ".join(settings))
    if result.masks:
        log.info("%d of the masks exist already", len(result.masks))
