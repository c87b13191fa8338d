"""What is made of the winner: a temperature, post-processing, finished masks, and what is doubtful about them."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoseg.core.parallel import Progress
from autoseg.core.records import Calibration, CaseScores, Doubt, PostProcessing, Scores
from autoseg.evaluation import summarize
from autoseg.evaluation.calibration import calibrate
from autoseg.evaluation.folders import write_scores
from autoseg.evaluation.postprocessing import choose_settings, describe_setting
from autoseg.evaluation.review import rank_doubts
from autoseg.experiment.comparison import EMPTY_SCORE, Field, stop_if_asked
from autoseg.experiment.held_out import FinishingSettings, HeldOutCase, Members, draw_case, finish_case, search_case
from autoseg.metrics import METRICS

log = logging.getLogger(__name__)

VOXELS = 500_000  # that a temperature is fitted to, over all cases
VOXELS_PER_CASE = 20_000

Settings = dict[str, PostProcessing]


@dataclass(frozen=True, kw_only=True)
class FinishedWinner:
    """The winner, finished.

    Attributes:
        calibration: of its probabilities.
        postprocessing: label or region -> what is done to its mask; empty where nothing helped.
        target_before, target_after: the target metric without and with it, each case with what the others spoke for.
        doubts: cases worth a look.
    """

    calibration: Calibration
    postprocessing: Settings
    target_before: float | None
    target_after: float | None
    doubts: tuple[Doubt, ...]


def finish(field: Field, members: Members, before: Scores, progress: Progress) -> FinishedWinner:
    """Calibrate the winner, search its post-processing, write its masks of the held-out cases, and judge these.

    Args:
        field: of the comparison.
        members: of the winner.
        before: its scores, nothing done to its masks.
        progress: of each pass over the cases.

    Raises:
        CasesError: some cases cannot be read.
        Stopped: as asked.
    """
    calibration = _calibrate(field, members, progress)
    log.info(
        "temperature %.3g: expected calibration error %.2g before and %.2g after (%s)",
        calibration.temperature,
        calibration.error_before,
        calibration.error_after,
        "out of fold" if calibration.fold_temperatures else "on the voxels that it was fitted to",
    )
    final, without = _search(field, members, calibration, progress)
    scores, doubts = _finish_all(field, members, calibration, without, progress)
    plain, finished = _mean(field, before), _mean(field, scores)
    if final and not _is_better(field, plain, finished):
        log.info("post-processing of each label alone helps, of all together it does not; the masks stay as they are")
        final = {}
        nothing: dict[str, Settings] = {fold: {} for fold in without}
        scores, doubts = _finish_all(field, members, calibration, nothing, progress)
        finished = _mean(field, scores)
    write_scores(field.places.held_out, scores)
    _say_gain(field, final, plain, finished)
    return FinishedWinner(
        calibration=calibration,
        postprocessing=final,
        target_before=plain,
        target_after=finished,
        doubts=rank_doubts(doubts),
    )


def _calibrate(field: Field, members: Members, progress: Progress) -> Calibration:
    count = max(1, min(VOXELS_PER_CASE, VOXELS // len(field.cases)))
    drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def keep(case: str, voxels: tuple[np.ndarray, np.ndarray]) -> None:
        drawn[case] = voxels
        stop_if_asked(field)

    tasks = [
        (held.case.id, (held, members, count, field.plan.seed + number)) for number, held in enumerate(field.cases)
    ]
    field.run_cases(draw_case, tasks, field.workers(len(tasks)), keep, "drawing voxels to calibrate with", progress)
    ordered = [drawn[held.case.id] for held in field.cases]
    return calibrate(
        np.concatenate([probabilities for probabilities, _ in ordered]),
        np.concatenate([truth for _, truth in ordered]),
        np.repeat([held.fold for held in field.cases], [len(truth) for _, truth in ordered]),
        overlap=field.plan.outputs.overlap,
    )


def _temperature(calibration: Calibration, held: HeldOutCase) -> float:
    """Fitted without the case's fold, as far as there are others."""
    return calibration.fold_temperatures.get(held.fold, calibration.temperature)


def _search(
    field: Field, members: Members, calibration: Calibration, progress: Progress
) -> tuple[Settings, dict[str, Settings]]:
    """As ``choose_settings``."""
    folds = [held.fold for held in field.cases]
    if len(set(folds)) < 2:
        log.info("post-processing is not searched: with one fold nobody could tell whether it helps on other cases")
        return {}, {fold: {} for fold in folds}
    found: dict[str, Mapping[str, np.ndarray]] = {}

    def keep(case: str, tables: dict[str, np.ndarray]) -> None:
        found[case] = tables
        stop_if_asked(field)

    tasks = [
        (held.case.id, (held, members, _temperature(calibration, held), field.target, EMPTY_SCORE))
        for held in field.cases
    ]
    field.run_cases(search_case, tasks, field.workers(len(tasks)), keep, "searching post-processing", progress)
    tables = {label: np.stack([found[held.case.id][label] for held in field.cases]) for label in field.labels}
    return choose_settings(tables, folds, higher_is_better=METRICS[field.target].higher_is_better)


def _finish_all(
    field: Field, members: Members, calibration: Calibration, without: Mapping[str, Settings], progress: Progress
) -> tuple[Scores, list[Doubt]]:
    """Masks, their scores and doubts; each case with the settings that were chosen without its fold."""
    scores: dict[str, CaseScores] = {}
    doubts: list[Doubt] = []

    def keep(case: str, found: tuple[CaseScores, Doubt]) -> None:
        scores[case] = found[0]
        doubts.append(found[1])
        stop_if_asked(field)

    shutil.rmtree(field.places.held_out, ignore_errors=True)
    tasks = [
        (
            held.case.id,
            (
                held,
                FinishingSettings(
                    members=members,
                    configurations=field.configurations,
                    temperature=_temperature(calibration, held),
                    settings=without[held.fold],
                    metrics=field.metrics,
                    empty_score=EMPTY_SCORE,
                    target=field.target,
                    output=field.places.held_out / f"{held.case.id}.nii.gz",
                ),
            ),
        )
        for held in field.cases
    ]
    field.run_cases(finish_case, tasks, field.workers(len(tasks)), keep, "finishing masks", progress)
    ordered = [scores[held.case.id] for held in field.cases]
    return summarize(ordered, field.metrics, empty_score=EMPTY_SCORE), doubts


def _mean(field: Field, scores: Scores) -> float | None:
    values = [value for case in scores.cases if (value := field.value(case)) is not None]
    return math.fsum(values) / len(values) if values else None


def _is_better(field: Field, before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return False
    return after > before if METRICS[field.target].higher_is_better else after < before


def _say_gain(field: Field, final: Settings, before: float | None, after: float | None) -> None:
    if not final:
        log.info("post-processing: nothing that was tried helps on cases it was not chosen on; masks stay as they are")
        return
    for label, setting in final.items():
        log.info("post-processing of %s: %s", label, describe_setting(setting))
    log.info(
        "mean %s %.4f without and %.4f with it, each fold with what the others spoke for", field.target, before, after
    )
