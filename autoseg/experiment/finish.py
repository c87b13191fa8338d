"""Conclude an experiment: choose, calibrate, search post-processing, and write the outcome and the best model."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import autoseg
from autoseg.core.errors import StorageError
from autoseg.core.records import BestModel, Calibration, CaseScores, Doubt, Experiment, PostProcessing, Scores
from autoseg.core.store import explain_write_error, hash_settings, hidden_beside, read_record, write_record
from autoseg.evaluation import summarize
from autoseg.evaluation.calibration import calibrate, is_reliable
from autoseg.evaluation.postprocessing import MIN_PATIENTS, choose_settings, describe_setting, group_patients
from autoseg.evaluation.review import rank_doubts, without_expectation
from autoseg.evaluation.scoring import write_scores
from autoseg.evaluation.selection import EMPTY_SCORE, list_candidates
from autoseg.experiment.compare import ComparisonContext, compare
from autoseg.experiment.held_out import (
    FinishingSettings,
    HeldOutCase,
    Members,
    finish_case,
    sample_case,
    search_case,
)
from autoseg.experiment.records import ExperimentPaths
from autoseg.experiment.train_all import ExperimentProgress
from autoseg.metrics import METRICS
from autoseg.model import WEIGHTS, copy_model, fold_folder, load_plan
from autoseg.prediction.ensembles import BEST_RECORD

log = logging.getLogger(__name__)

VOXELS = 500_000  # to which a temperature is fitted, over all cases
VOXELS_PER_CASE = 20_000

Settings = dict[str, PostProcessing]


@dataclass(frozen=True, kw_only=True)
class FinishedWinner:
    """The winner with its calibration and post-processing.

    Attributes:
        calibration: of its probabilities.
        postprocessing: label or region -> its post-processing; empty where nothing improved held-out cases.
        target_before, target_after: the target metric without and with it, as in the record ``Experiment``.
        doubts: cases for review.
    """

    calibration: Calibration
    postprocessing: Settings
    target_before: float | None
    target_after: float | None
    doubts: tuple[Doubt, ...]


def conclude(context: ComparisonContext, experiment: ExperimentProgress) -> Experiment:
    """Compare, choose and finish; write the best model and the outcome. Skipped where nothing has changed.

    Raises:
        CasesError: some cases cannot be read or scored.
        Stopped: asked to stop between two cases.
    """
    paths, folds = experiment.paths, experiment.fold_names
    key = _outcome_key(context, experiment)
    if experiment.state.concluded == key and (paths.best / BEST_RECORD).exists() and paths.outcome.exists():
        log.info("the experiment is complete; %s holds its outcome", paths.outcome)
        return read_record(Experiment, paths.outcome, advice="delete it and run the same command again")
    candidates, choice, scores = compare(context, list_candidates(context.configurations))
    log.info("%s", choice.reason)
    members = candidates[choice.winner].members
    finished = finish(context, members, scores[choice.winner])
    write_best(
        paths,
        context.plan.dataset,
        members,
        folds,
        postprocessing=finished.postprocessing,
        temperature=finished.calibration.temperature,
        reliable=is_reliable(finished.calibration.temperature, finished.calibration.error_after),
    )
    outcome = Experiment(
        dataset=context.plan.dataset,
        target_metric=context.target,
        empty_score=EMPTY_SCORE,
        folds=folds,
        candidates=candidates,
        winner=choice.winner,
        reason=choice.reason,
        postprocessing=finished.postprocessing,
        target_before=finished.target_before,
        target_after=finished.target_after,
        calibration=finished.calibration,
        doubts=finished.doubts,
        elapsed_s=round(experiment.elapsed_s(), 1),
        versions={"autoseg": autoseg.__version__, "torch": importlib.metadata.version("torch")},
    )
    write_record(paths.outcome, outcome)
    experiment.save(experiment.state.model_copy(update={"concluded": key}))
    log.info("wrote %s, and %s for autoseg_predict", paths.outcome, paths.best)
    return outcome


def _outcome_key(context: ComparisonContext, experiment: ExperimentProgress) -> str:
    """A hash of the weights, the cases and the settings of the comparison."""
    stats = []
    for name in context.configurations:
        for fold in experiment.fold_names:
            weights = (fold_folder(context.paths.results / name, fold) / WEIGHTS).stat()
            stats.append((name, fold, weights.st_size, weights.st_mtime_ns))
    return hash_settings(context.plan, experiment.folds, stats, context.target, EMPTY_SCORE, autoseg.__version__)


def finish(context: ComparisonContext, members: Members, before: Scores) -> FinishedWinner:
    """Calibrate the winner, search its post-processing, and write and score its masks of the held-out cases.

    Args:
        context: of the comparison.
        members: of the winner.
        before: its scores without post-processing.

    Raises:
        CasesError: some cases cannot be read.
        Stopped: asked to stop between two cases.
    """
    calibration = _calibrate(context, members)
    log.info(
        "temperature %.3g: expected calibration error %.2g before and %.2g after (%s)",
        calibration.temperature,
        calibration.error_before,
        calibration.error_after,
        "out of fold" if calibration.fold_temperatures else "on the voxels that it was fitted to",
    )
    reliable = is_reliable(calibration.temperature, calibration.error_after)
    if not reliable:
        log.warning("calibration failed, so no Dice is expected from the probabilities; do not use them as they are")
    final, of_case = _search(context, members, calibration)
    scores, doubts = _finish_masks(context, members, calibration, of_case)
    target_before, target_after = _mean_target(context, before), _mean_target(context, scores)
    if final and not _is_better(context, target_before, target_after):
        log.info("post-processing improves each label alone, but not all labels together")
        final = {}
        scores, doubts = _finish_masks(context, members, calibration, {})
        target_after = _mean_target(context, scores)
    write_scores(context.paths.held_out, scores)
    for label, setting in final.items():
        log.info("post-processing of %s: %s", label, describe_setting(setting))
    if final:
        log.info(
            "mean %s %.4f without and %.4f with post-processing, each case with settings chosen on other cases",
            context.target,
            target_before,
            target_after,
        )
    else:
        log.info("post-processing: no setting improved held-out cases; masks are unchanged")
    return FinishedWinner(
        calibration=calibration,
        postprocessing=final,
        target_before=target_before,
        target_after=target_after,
        doubts=rank_doubts(doubts if reliable else without_expectation(doubts)),
    )


def _calibrate(context: ComparisonContext, members: Members) -> Calibration:
    count = max(1, min(VOXELS_PER_CASE, VOXELS // len(context.cases)))
    seeds = {held_out.case.id: context.plan.seed + number for number, held_out in enumerate(context.cases)}
    samples = context.map_cases(
        sample_case,
        lambda held_out: (held_out, members, count, seeds[held_out.case.id]),
        doing="sampling voxels for calibration",
    )
    ordered = [samples[held_out.case.id] for held_out in context.cases]
    return calibrate(
        np.concatenate([probabilities for probabilities, _ in ordered]),
        np.concatenate([truth for _, truth in ordered]),
        np.repeat([held_out.fold for held_out in context.cases], [len(truth) for _, truth in ordered]),
        overlap=context.plan.outputs.overlap,
    )


def _temperature(calibration: Calibration, held_out: HeldOutCase) -> float:
    """Fitted without the case's fold, if there are others."""
    return calibration.fold_temperatures.get(held_out.fold, calibration.temperature)


def _search(
    context: ComparisonContext, members: Members, calibration: Calibration
) -> tuple[Settings, dict[str, Settings]]:
    """The settings chosen on all cases, and case -> those chosen on the other folds or, of one fold, other patients."""
    groups = [held_out.fold for held_out in context.cases]
    patients = [held_out.case.group or held_out.case.id for held_out in context.cases]
    if len(set(groups)) < 2:
        groups = group_patients(patients)
        if len(set(patients)) < MIN_PATIENTS:
            log.info("post-processing is not searched: with one fold, it needs %d patients", MIN_PATIENTS)
            return {}, {}
    tables = context.map_cases(
        search_case,
        lambda held_out: (held_out, members, _temperature(calibration, held_out), context.target, EMPTY_SCORE),
        doing="searching post-processing",
    )
    stacked = {
        label: np.stack([tables[held_out.case.id][label] for held_out in context.cases]) for label in context.labels
    }
    higher_is_better = METRICS[context.target].higher_is_better
    final, of_group = choose_settings(stacked, groups, patients, higher_is_better=higher_is_better)
    of_case = {held_out.case.id: of_group[group] for held_out, group in zip(context.cases, groups, strict=True)}
    return final, of_case


def _finish_masks(
    context: ComparisonContext, members: Members, calibration: Calibration, of_case: Mapping[str, Settings]
) -> tuple[Scores, list[Doubt]]:
    """Write the masks; their scores and doubts, each case with the settings that were chosen without it."""
    shutil.rmtree(context.paths.held_out, ignore_errors=True)

    def task_of(held_out: HeldOutCase) -> tuple[HeldOutCase, FinishingSettings]:
        settings = FinishingSettings(
            members=members,
            configurations=context.configurations,
            temperature=_temperature(calibration, held_out),
            settings=of_case.get(held_out.case.id, {}),
            convention=context.convention,
            target=context.target,
            output=context.paths.held_out / f"{held_out.case.id}.nii.gz",
        )
        return held_out, settings

    finished: dict[str, tuple[CaseScores, Doubt]] = context.map_cases(
        finish_case, task_of, doing="post-processing masks"
    )
    ordered = [finished[held_out.case.id] for held_out in context.cases]
    scores = summarize([scores for scores, _ in ordered], context.convention.metrics, empty_score=EMPTY_SCORE)
    return scores, [doubt for _, doubt in ordered]


def _mean_target(context: ComparisonContext, scores: Scores) -> float | None:
    values = [value for case in scores.cases if (value := context.target_value(case)) is not None]
    return math.fsum(values) / len(values) if values else None


def _is_better(context: ComparisonContext, before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return False
    return after > before if METRICS[context.target].higher_is_better else after < before


def write_best(
    paths: ExperimentPaths,
    dataset_name: str,
    members: tuple[str, ...],
    folds: tuple[str, ...],
    *,
    postprocessing: Mapping[str, PostProcessing],
    temperature: float,
    reliable: bool = True,
) -> None:
    """Replace the best model, whole or not at all.

    Args:
        paths: of the experiment.
        dataset_name: of the experiment.
        members: configurations whose probabilities are averaged.
        folds: the folds of each that were compared.
        postprocessing, temperature, reliable: as in the record ``BestModel``.

    Raises:
        StorageError: the folder cannot be written.
    """
    best = BestModel(
        dataset=dataset_name,
        members=members,
        postprocessing=dict(postprocessing),
        temperature=temperature,
        reliable=reliable,
    )
    new, previous = (hidden_beside(paths.best.with_name(kind)) for kind in ("new", "previous"))
    try:
        for member in members:
            _copy_with_source(paths.results / member, new / member, folds)
        write_record(new / BEST_RECORD, best)
        if paths.best.exists():
            paths.best.replace(previous)
        new.replace(paths.best)
    except OSError as error:
        raise StorageError(explain_write_error(paths.best, error)) from error
    finally:
        if not paths.best.exists() and previous.exists():
            previous.replace(paths.best)
        for folder in (new, previous):
            shutil.rmtree(folder, ignore_errors=True)


def _copy_with_source(source: Path, target: Path, folds: tuple[str, ...]) -> None:
    """Copy a model folder, and the source of its cascade inside it."""
    copy_model(source, target, folds)
    cascade_source = load_plan(source).configurations[source.name].cascade_from
    if cascade_source is not None:
        copy_model(source / cascade_source, target / cascade_source)
