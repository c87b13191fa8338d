"""Every candidate on every held-out case, and the one that is best."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import DataError, PlanError
from autoseg.core.images import read_grid
from autoseg.core.parallel import Progress, count_workers
from autoseg.core.records import Candidate, CaseScores, Dataset, Folds, Plan, Scores
from autoseg.core.store import hash_settings, read_record, write_record
from autoseg.evaluation import DEFAULT_METRICS, summarize
from autoseg.evaluation.folders import write_scores
from autoseg.evaluation.selection import Choice, choose_candidate
from autoseg.evaluation.summary import mean_over_labels
from autoseg.experiment.held_out import HeldOutCase, Members, compare_candidates
from autoseg.experiment.records import CaseStudy, ExperimentPaths
from autoseg.experiment.requests import Stopped
from autoseg.folds.files import mask_path, probabilities_path
from autoseg.metrics import METRICS, EmptyScore
from autoseg.model import fold_folder
from autoseg.preparation import case_key
from autoseg.preparation.cases import WORKER_BYTES, run_cases
from autoseg.preparation.raw import without_cases

log = logging.getLogger(__name__)

RunCases = Callable[..., None]  # as ``run_cases``

EMPTY_SCORE: EmptyScore = "one"  # else a candidate that invents lesions in healthy cases would go unpunished
CASES_PER_WORKER = 8  # a process starts in about a second, which is worth it for several cases


@dataclass(frozen=True, kw_only=True)
class Field:
    """What all candidates are compared on.

    Attributes:
        plan, dataset, places: of the experiment.
        configurations: that are trained and predicted.
        cases: every held-out case.
        target: the metric that decides.
        should_stop: asked after every case.
        run_cases: does a function over cases; here, or on a cluster.
    """

    plan: Plan
    dataset: Dataset
    places: ExperimentPaths
    configurations: Members
    cases: tuple[HeldOutCase, ...]
    target: str
    should_stop: Callable[[], bool]
    run_cases: RunCases = run_cases

    @property
    def metrics(self) -> tuple[str, ...]:
        """The default ones, and the target."""
        return tuple(dict.fromkeys((*DEFAULT_METRICS, self.target)))

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels or regions that are scored."""
        return tuple(self.dataset.regions) or tuple(
            name for name, value in self.dataset.labels.items() if value not in (0, self.dataset.ignore_label)
        )

    def value(self, scores: CaseScores) -> float | None:
        """The target metric of a case: its mean over labels."""
        return mean_over_labels(scores, self.labels, self.target)

    def workers(self, tasks: int) -> int:
        """Processes that cores, memory and the number of cases allow."""
        largest = 0
        for held in self.cases:
            try:
                largest = max(largest, math.prod(read_grid(held.case.labels[0])[0].shape))
            except DataError:
                continue  # reading it will say what is wrong
        channels = len(self.plan.outputs.values) * (len(self.configurations) + 3) * 4 + 16
        return count_workers(math.ceil(tasks / CASES_PER_WORKER), WORKER_BYTES + largest * channels)


def list_held_out(
    plan: Plan, dataset: Dataset, folds: Folds, chosen: Sequence[str], configurations: Members, results: Path
) -> tuple[HeldOutCase, ...]:
    """Every case that one of the folds holds out, with what each configuration made of it."""
    cases = {case.id: case for case in dataset.cases}
    bare = without_cases(dataset)
    found = []
    for fold in chosen:
        here = {name: fold_folder(results / name, fold) for name in configurations}
        for case in folds.folds[int(fold)].validation:
            held = HeldOutCase(
                dataset=bare,
                case=cases[case],
                fold=fold,
                outputs=plan.outputs,
                masks={name: mask_path(folder, case) for name, folder in here.items()},
                probabilities={name: probabilities_path(folder, case) for name, folder in here.items()},
                advice="delete it and run the same command again, which makes it anew",
            )
            found.append(held)
    return tuple(found)


def compare(
    field: Field, candidates: Mapping[str, Members], progress: Progress
) -> tuple[dict[str, Candidate], Choice, dict[str, Scores]]:
    """Score every candidate on every case, cases that were scored before left out, and choose.

    Returns:
        Candidate -> what it reached; the choice; candidate -> all its scores, which are also written.

    Raises:
        CasesError: some cases cannot be scored; those that can are kept.
        Stopped: as asked.
    """
    studies = _study(field, candidates, progress)
    ordered = [held.case for held in field.cases]
    scores = {
        name: summarize(
            [studies[case.id].scores[name].model_copy(update={"group": case.group}) for case in ordered],
            field.metrics,
            empty_score=EMPTY_SCORE,
        )
        for name in candidates
    }
    choice = choose_candidate(
        {name: [field.value(case) for case in found.cases] for name, found in scores.items()},
        candidates,
        metric=field.target,
        higher_is_better=METRICS[field.target].higher_is_better,
        patients=[case.group or case.id for case in ordered],
    )
    for name, found in scores.items():
        write_scores(field.places.candidate(name), found)
    reached = {
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
    return reached, choice, scores


def _study(field: Field, candidates: Mapping[str, Members], progress: Progress) -> dict[str, CaseStudy]:
    """Case -> what every candidate scored, from disk where nothing has changed."""
    keys = {held.case.id: _study_key(field, held, candidates) for held in field.cases}
    studies = {case: found for case, key in keys.items() if (found := _read_study(field.places.study(case), key))}
    todo = [held for held in field.cases if held.case.id not in studies]
    if studies and todo:
        log.info("%d of %d cases are scored already", len(studies), len(field.cases))

    def keep(case: str, scores: dict[str, CaseScores]) -> None:
        studies[case] = CaseStudy(key=keys[case], scores=scores)
        write_record(field.places.study(case), studies[case])
        stop_if_asked(field)

    tasks = [(held.case.id, (held, candidates, field.metrics, EMPTY_SCORE)) for held in todo]
    if tasks:
        what = f"scoring {len(candidates)} candidates"
        field.run_cases(compare_candidates, tasks, field.workers(len(tasks)), keep, what, progress)
    return studies


def stop_if_asked(field: Field) -> None:
    """Leave between two cases.

    Raises:
        Stopped: as asked.
    """
    if field.should_stop():
        raise Stopped


def _study_key(field: Field, held: HeldOutCase, candidates: Mapping[str, Members]) -> str:
    """A hash of all that the scores of a case depend on."""
    files = [*held.masks.values(), *held.probabilities.values()]
    stats = [(path.name, (s := path.stat()).st_size, s.st_mtime_ns) for path in files]
    dataset = field.dataset
    return hash_settings(case_key(dataset, held.case), stats, sorted(candidates.items()), field.metrics, EMPTY_SCORE)


def _read_study(path: Path, key: str) -> CaseStudy | None:
    if not path.exists():
        return None
    try:
        found = read_record(CaseStudy, path, advice="")
    except PlanError:
        return None  # of another version, or damaged: it is made anew
    return found if found.key == key else None
