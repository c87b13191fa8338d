"""Score every candidate on every held-out case, and choose the best."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from autoseg.core.errors import DataError, PlanError
from autoseg.core.images import read_grid
from autoseg.core.parallel import WORKER_BYTES, Progress, count_workers
from autoseg.core.records import Candidate, CaseScores, Dataset, Folds, Plan, Scores
from autoseg.core.store import hash_settings, read_record, write_record
from autoseg.evaluation import DEFAULT_METRICS, Convention, summarize
from autoseg.evaluation.cases import name_targets
from autoseg.evaluation.scoring import write_scores
from autoseg.evaluation.selection import EMPTY_SCORE, Choice, choose_candidate
from autoseg.evaluation.summary import mean_over_labels
from autoseg.experiment.held_out import HeldOutCase, Members, compare_candidates
from autoseg.experiment.records import CaseStudy, ExperimentPaths, RunCases, Stopped
from autoseg.folds.files import mask_path, probabilities_path
from autoseg.metrics import METRICS
from autoseg.model import fold_folder
from autoseg.preparation import case_key
from autoseg.preparation.raw import without_cases

log = logging.getLogger(__name__)
T = TypeVar("T")

CASES_PER_WORKER = 8  # a process takes about a second to start, which pays for several cases


@dataclass(frozen=True, kw_only=True)
class ComparisonContext:
    """Cases, target and executor that all candidates share.

    Attributes:
        plan, dataset, paths: of the experiment.
        configurations: that are trained and predicted.
        cases: every held-out case.
        target: the metric that decides.
        should_stop: polled after every case.
        run_cases: of the executor.
        progress: of each pass over the cases.
    """

    plan: Plan
    dataset: Dataset
    paths: ExperimentPaths
    configurations: Members
    cases: tuple[HeldOutCase, ...]
    target: str
    should_stop: Callable[[], bool]
    run_cases: RunCases
    progress: Progress

    @property
    def convention(self) -> Convention:
        """The default metrics and the target; the best overlap where both masks are empty."""
        metrics = tuple(dict.fromkeys((*DEFAULT_METRICS, self.target)))
        return Convention(metrics=metrics, empty_score=EMPTY_SCORE)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels or regions that are scored."""
        return tuple(name_targets(self.dataset))

    def target_value(self, scores: CaseScores) -> float | None:
        """The target metric of a case: its mean over labels."""
        return mean_over_labels(scores, self.labels, self.target)

    def map_cases(
        self,
        function: Callable[..., T],
        task_of: Callable[[HeldOutCase], object],
        *,
        doing: str,
        cases: Sequence[HeldOutCase] | None = None,
        store: Callable[[str, T], None] = lambda case, value: None,
    ) -> dict[str, T]:
        """Case -> the function's value.

        Args:
            function: of one task, importable by worker processes.
            task_of: held-out case -> its task.
            doing: for progress and messages.
            cases: only these; None for all.
            store: called with each value as it comes.

        Raises:
            CasesError: some cases failed.
            Stopped: asked to stop between two cases.
        """
        values: dict[str, T] = {}

        def keep(case: str, value: T) -> None:
            values[case] = value
            store(case, value)
            if self.should_stop():
                raise Stopped

        tasks = [(held_out.case.id, task_of(held_out)) for held_out in (self.cases if cases is None else cases)]
        if tasks:
            self.run_cases(function, tasks, self._count_workers(len(tasks)), keep, doing, self.progress)
        return values

    def _count_workers(self, tasks: int) -> int:
        """Processes that cores, memory and the number of cases allow."""
        largest = 0
        for held_out in self.cases:
            try:
                largest = max(largest, math.prod(read_grid(held_out.case.labels[0])[0].shape))
            except DataError:
                continue  # reported when the case is read
        channels = len(self.plan.outputs.values) * (len(self.configurations) + 3) * 4 + 16
        return count_workers(math.ceil(tasks / CASES_PER_WORKER), WORKER_BYTES + largest * channels)


def list_held_out(
    plan: Plan, dataset: Dataset, folds: Folds, fold_names: Sequence[str], configurations: Members, results: Path
) -> tuple[HeldOutCase, ...]:
    """Every case that one of the folds holds out, with each configuration's out-of-fold predictions."""
    cases = {case.id: case for case in dataset.cases}
    without = without_cases(dataset)
    listed = []
    for fold in fold_names:
        folders = {name: fold_folder(results / name, fold) for name in configurations}
        for case in folds.folds[int(fold)].validation:
            held_out = HeldOutCase(
                dataset=without,
                case=cases[case],
                fold=fold,
                outputs=plan.outputs,
                masks={name: mask_path(folder, case) for name, folder in folders.items()},
                probabilities={name: probabilities_path(folder, case) for name, folder in folders.items()},
                advice="delete it and run the same command again to rebuild it",
            )
            listed.append(held_out)
    return tuple(listed)


def compare(
    context: ComparisonContext, candidates: Mapping[str, Members]
) -> tuple[dict[str, Candidate], Choice, dict[str, Scores]]:
    """Score every candidate on every case, except cases that were scored before, and choose.

    Returns:
        Candidate -> its record; the choice; candidate -> all its scores, which are also written.

    Raises:
        CasesError: some cases cannot be scored; the scores of the others are stored.
        Stopped: asked to stop between two cases.
    """
    studies = _score_candidates(context, candidates)
    ordered = [held_out.case for held_out in context.cases]
    scores = {
        name: summarize(
            [studies[case.id].scores[name].model_copy(update={"group": case.group}) for case in ordered],
            context.convention.metrics,
            empty_score=EMPTY_SCORE,
        )
        for name in candidates
    }
    choice = choose_candidate(
        {name: [context.target_value(case) for case in summary.cases] for name, summary in scores.items()},
        candidates,
        metric=context.target,
        higher_is_better=METRICS[context.target].higher_is_better,
        patients=[case.group or case.id for case in ordered],
    )
    for name, summary in scores.items():
        write_scores(context.paths.candidate(name), summary)
    records = {
        name: Candidate(
            members=members,
            target=choice.scores[name].target,
            lower=choice.scores[name].lower,
            upper=choice.scores[name].upper,
            difference=choice.scores[name].difference,
            p_value=choice.scores[name].p_value,
            summary=scores[name].summary,
        )
        for name, members in candidates.items()
    }
    return records, choice, scores


def _score_candidates(context: ComparisonContext, candidates: Mapping[str, Members]) -> dict[str, CaseStudy]:
    """Case -> scores of every candidate, from disk where nothing has changed."""
    keys = {held_out.case.id: _study_key(context, held_out, candidates) for held_out in context.cases}
    studies = {
        case: study for case, key in keys.items() if (study := _read_study(context.paths.study(case), key)) is not None
    }
    todo = [held_out for held_out in context.cases if held_out.case.id not in studies]
    if studies and todo:
        log.info("%d of %d cases are already scored", len(studies), len(context.cases))

    def store(case: str, scores: dict[str, CaseScores]) -> None:
        studies[case] = CaseStudy(key=keys[case], scores=scores)
        write_record(context.paths.study(case), studies[case])

    context.map_cases(
        compare_candidates,
        lambda held_out: (held_out, candidates, context.convention),
        doing=f"scoring {len(candidates)} candidates",
        cases=todo,
        store=store,
    )
    return studies


def _study_key(context: ComparisonContext, held_out: HeldOutCase, candidates: Mapping[str, Members]) -> str:
    """A hash of everything that the scores of a case depend on."""
    files = [*held_out.masks.values(), *held_out.probabilities.values()]
    stats = [(path.name, (s := path.stat()).st_size, s.st_mtime_ns) for path in files]
    settings = (sorted(candidates.items()), context.convention.metrics, EMPTY_SCORE)
    return hash_settings(case_key(context.dataset, held_out.case), stats, *settings)


def _read_study(path: Path, key: str) -> CaseStudy | None:
    if not path.exists():
        return None
    try:
        study = read_record(CaseStudy, path, advice="")
    except PlanError:
        return None  # of another version, or damaged: the case is scored again
    return study if study.key == key else None
