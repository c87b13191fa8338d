"""``autoseg_report``: plan, trainings, scores and pictures of a dataset's models in one HTML file."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

import autoseg
from autoseg.core.errors import AutosegError, DataError, PlanError, UsageError
from autoseg.core.geometry import nearest_axes, turn
from autoseg.core.images import read_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import (
    Case,
    CaseScores,
    Dataset,
    Experiment,
    Fingerprint,
    Folds,
    ModelPostProcessing,
    Plan,
    Record,
    Scores,
)
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, check_ours, hash_settings, read_record, subfolders, write_text
from autoseg.datasets import open_dataset, read_case
from autoseg.evaluation import summarize
from autoseg.evaluation.summary import mean_over_labels
from autoseg.experiment.records import ExperimentPaths
from autoseg.folds.files import FACTS, mask_path, read_facts, read_history
from autoseg.metrics import METRICS
from autoseg.model import POSTPROCESSING, fold_folder, load_plan
from autoseg.options import ReportOptions, command_line
from autoseg.reporting import Picture, ReportContent, ShownScores, Training, cut_stack, render_report

log = logging.getLogger(__name__)

REPORT = "report.html"
SCORES = "scores.json"
MOST_SLICES = 40
TARGET = "dice"
Notes = dict[str, tuple[str, ...]]
R = TypeVar("R", bound=Record)


def report(store: Store, options: ReportOptions, *, progress: Progress = no_progress) -> Path:
    """Write one HTML file on a dataset's models; it names what is missing.

    Returns:
        The file.

    Raises:
        UsageError: nothing was trained, or not the requested configuration.
        PlanError: a record is wrong.
    """
    dataset, configuration = options.dataset, options.configuration
    if options.output is not None:
        check_ours(options.output, "Content-Security-Policy")  # whose hashes only our pages have
    places = ExperimentPaths.of(store, dataset)
    home = places.results
    trainings = _read_trainings(home, dataset)
    names = list(dict.fromkeys(training.configuration for training in trainings))
    if configuration is not None and configuration not in names:
        raise UsageError(f"no fold of '{configuration}' is trained in {home}; choose from: {', '.join(names)}")
    notes: Notes = {}
    experiment = _read_optional(Experiment, places.outcome)
    summaries = {name: joined for name in names if (joined := _join_scores(trainings, name, notes)) is not None}
    target = TARGET if experiment is None else experiment.target_metric
    shown, masks = None, places.held_out
    if experiment is not None and configuration is None:
        shown = _show_winner(places, experiment, trainings)
        if shown is not None:
            summaries = {shown.name: shown.scores, **_read_candidates(places, experiment)}
    if shown is None:
        shown = _choose_shown(trainings, summaries, target, configuration, notes)
        masks = home / (shown.name if shown is not None else "")
    main = configuration or (shown.name if shown is not None and shown.name in names else names[0])
    if experiment is not None and configuration is None and experiment.winner in experiment.candidates:
        main = next((m for m in experiment.candidates[experiment.winner].members if m in names), main)
    plan = _read_plan(home, main, names, notes)
    cache = store.preprocessed(dataset)
    folds = _read_optional(Folds, cache / "folds.json")
    _compare_folds(trainings, folds, notes)
    content = ReportContent(
        made_at=time.strftime("%Y-%m-%d %H:%M"),
        version=autoseg.__version__,
        plan=plan,
        fingerprint=_read_optional(Fingerprint, cache / "fingerprint.json"),
        folds=folds,
        trainings=tuple(trainings),
        summaries=summaries,
        shown=shown,
        experiment=experiment,
        postprocessing=_read_postprocessing(home, names),
        pictures=_take_pictures(store, dataset, masks, shown, notes, progress) if options.pictures else (),
        notes=notes if options.pictures else {**notes, "pictures": ("This report was made without pictures.",)},
    )
    path = options.output or home / REPORT
    with recorded(store, path.with_suffix(f".{RUN}"), ("autoseg_report", *command_line(options))) as run:
        write_text(path, render_report(content))
        run.begin()
        run.add_model(home / main)
        log.info("wrote %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return path


def _read_trainings(home: Path, dataset: str) -> list[Training]:
    """Every started fold.

    Raises:
        UsageError: there is none.
    """
    trainings = []
    for name in subfolders(home):
        for fold in subfolders(home / name):
            folder = home / name / fold
            if fold.startswith("fold_") and (folder / FACTS).exists():
                facts = read_facts(
                    folder, advice=f"train the fold again: autoseg_train -d {dataset} -c {name} --restart"
                )
                scores = _read_optional(Scores, folder / SCORES)
                trainings.append(
                    Training(configuration=name, facts=facts, history=tuple(_read_rows(folder)), scores=scores)
                )
    if not trainings:
        raise UsageError(
            f"nothing to report: {home} holds no training (no {FACTS} in any fold's folder); train a fold "
            f"with: autoseg_train -d {dataset} -c 3d -f 0"
        )
    return trainings


def _read_rows(folder: Path) -> list[Mapping[str, float | None]]:
    try:
        return list(read_history(folder))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PlanError(
            f"{folder / 'history.jsonl'} is damaged ({error}); delete it, or train the fold again"
        ) from error


def _read_optional(kind: type[R], path: Path) -> R | None:
    """A record, or None where there is none.

    Raises:
        PlanError: it is there, but wrong.
    """
    return read_record(kind, path, advice="delete it or make it again, then report again") if path.exists() else None


def _read_plan(home: Path, main: str, names: Sequence[str], notes: Notes) -> Plan:
    """The plan of the configuration that is shown; a note names those with another plan."""
    plan = load_plan(home / main)
    differing = [n for n in names if n != main and hash_settings(load_plan(home / n)) != hash_settings(plan)]
    if differing:
        notes["plan"] = (f"This is the plan of {main}; {', '.join(differing)} was trained with another plan.",)
    return plan


def _read_postprocessing(home: Path, names: Sequence[str]) -> dict[str, ModelPostProcessing]:
    """Configuration -> what its held-out cases chose, as far as it was searched."""
    found = {name: _read_optional(ModelPostProcessing, home / name / POSTPROCESSING) for name in names}
    return {name: record for name, record in found.items() if record is not None}


def _compare_folds(trainings: Sequence[Training], folds: Folds | None, notes: Notes) -> None:
    """Add a note if folds.json is missing or has changed since training."""
    if folds is None:
        notes["settings"] = ("folds.json is missing; fold.json beside each fold's weights lists its cases.",)
        return
    moved = [
        f"{t.configuration} fold {t.facts.fold}"
        for t in trainings
        if t.facts.fold.isdigit()
        and (int(t.facts.fold) >= len(folds.folds) or folds.folds[int(t.facts.fold)].train != t.facts.train)
    ]
    if moved:
        notes["settings"] = (f"folds.json has changed since {', '.join(moved)} was trained.",)


def _join_scores(trainings: Sequence[Training], name: str, notes: Notes) -> Scores | None:
    """Scores of all cases that some fold of a configuration held out, summarised together."""
    scored = [(t.facts.fold, t.scores) for t in trainings if t.configuration == name and t.scores is not None]
    if not scored:
        return None
    first_fold, first = scored[0]
    same = [scores for _, scores in scored if scores.conventions == first.conventions]
    excluded = [fold for fold, scores in scored if scores.conventions != first.conventions]
    if excluded:
        notes["scores"] = (
            *notes.get("scores", ()),
            f"{name}: fold {', '.join(excluded)} was scored with other conventions than fold {first_fold} and is "
            f"excluded; run its training again with this version of autoseg to score it again.",
        )
    if len(same) == 1:
        return first
    cases = sorted((case for scores in same for case in scores.cases), key=lambda case: case.case)
    joined = summarize(cases, list(first.conventions))
    return joined.model_copy(update={"conventions": first.conventions})


def _read_candidates(places: ExperimentPaths, experiment: Experiment | None) -> dict[str, Scores]:
    """Scores of every candidate on held-out cases."""
    names = () if experiment is None else tuple(experiment.candidates)
    paths = {name: places.candidate(name) / SCORES for name in names}
    return {name: scores for name, path in paths.items() if (scores := _read_optional(Scores, path)) is not None}


def _choose_shown(
    trainings: Sequence[Training], summaries: Mapping[str, Scores], target: str, configuration: str | None, notes: Notes
) -> ShownScores | None:
    """The configuration to show case by case: the requested one, or the one with the best mean."""
    if not summaries:
        return None
    if configuration is not None and configuration not in summaries:
        notes["cases"] = (f"No fold of {configuration} has scores of held-out cases.",)
        return None
    sign = 1.0 if METRICS[target].higher_is_better else -1.0
    name = configuration or max(summaries, key=lambda name: (_mean(summaries[name], target) or 0.0) * sign)
    folds = {
        case.case: t.facts.fold
        for t in trainings
        if t.configuration == name and t.scores is not None
        for case in t.scores.cases
    }
    return ShownScores(name=name, scores=summaries[name], folds=folds, target=_fit_target(target, summaries[name]))


def _show_winner(places: ExperimentPaths, experiment: Experiment, trainings: Sequence[Training]) -> ShownScores | None:
    """The post-processed masks of the winner, each case with settings chosen on other cases."""
    scores = _read_optional(Scores, places.held_out / SCORES)
    if scores is None:
        return None
    folds = {case: t.facts.fold for t in trainings for case in t.facts.validation}
    name = f"{experiment.winner} (post-processed)"
    return ShownScores(name=name, scores=scores, folds=folds, target=_fit_target(experiment.target_metric, scores))


def _fit_target(target: str, scores: Scores) -> str:
    return target if target in scores.conventions else next(iter(scores.conventions))


def _mean(scores: Scores, metric: str) -> float | None:
    label = "mean" if "mean" in scores.summary else next(iter(scores.summary))
    statistics = scores.summary[label].get(metric)
    return None if statistics is None else statistics.mean


def _take_pictures(
    store: Store, name: str, masks: Path, shown: ShownScores | None, notes: Notes, progress: Progress
) -> tuple[Picture, ...]:
    """The worst, the median and the best case; a note gives the reason for a case that is not shown."""
    if shown is None:
        return ()
    chosen = choose_cases(shown)
    if not chosen:
        notes["pictures"] = (f"No case defines {shown.target}, so none is the worst, the median or the best.",)
        return ()
    try:
        dataset = open_dataset(store.raw(name), name)
    except AutosegError as error:
        notes["pictures"] = (f"No pictures, because the scans cannot be read: {error}.",)
        return ()
    pictures = []
    for number, (role, scores) in enumerate(chosen):
        progress(number, len(chosen), "drawing cases")
        try:
            pictures.append(_take_picture(dataset, masks, shown, role, scores))
        except AutosegError as error:
            log.warning("%s", error)
            notes["pictures"] = (*notes.get("pictures", ()), f"The {role.lower()} case is not shown: {error}.")
    progress(len(chosen), len(chosen), "drawing cases")
    return tuple(pictures)


def choose_cases(shown: ShownScores) -> list[tuple[str, CaseScores]]:
    """The worst, the median and the best case by the target metric, as many as there are."""
    sign = 1.0 if METRICS[shown.target].higher_is_better else -1.0
    ranked = sorted(
        ((sign * value, case.case, case) for case in shown.scores.cases if (value := _target(shown, case)) is not None),
        key=lambda row: row[:2],
    )
    if not ranked:
        return []
    last = len(ranked) - 1
    roles = {len(ranked) // 2: "Median", last: "Best", 0: "Worst"} if last else {0: "Only"}
    return [(roles[place], ranked[place][2]) for place in sorted(roles)]


def _target(shown: ShownScores, case: CaseScores) -> float | None:
    return mean_over_labels(case, list(case.scores), shown.target)


def _take_picture(dataset: Dataset, folder: Path, shown: ShownScores, role: str, scores: CaseScores) -> Picture:
    case = _find_case(dataset, scores.case)
    image, label = read_case(dataset, case)
    path = folder / f"{case.id}.nii.gz"  # of the experiment
    if not path.exists():
        path = mask_path(fold_folder(folder, shown.folds[case.id]), case.id)
    mask, grid = read_voxels(path)
    if label is None or not grid.matches(image.grid):
        raise DataError(f"case {case.id}: {path} is on another grid than its scan, or its label is missing")
    transpose, flips = nearest_axes(image.grid.direction)  # the head is upright in the picture
    stack = cut_stack(
        turn(image.voxels, transpose, flips),
        turn(label.voxels, transpose, flips),
        turn(mask.astype(np.int32), transpose, flips),
        [image.grid.spacing[axis] for axis in transpose],
        limit=MOST_SLICES,
    )
    return Picture(role=role, scores=scores, stack=stack, channels=dataset.channels)


def _find_case(dataset: Dataset, name: str) -> Case:
    for case in dataset.cases:
        if case.id == name:
            return case
    raise DataError(f"case {name} is no longer in the dataset")
