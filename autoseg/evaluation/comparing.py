"""Comparison of folders of scores, case by case: paired differences with their tests, and a ranking.

Source of the ranking: ISLES'22, arXiv:2206.06694, and Maier-Hein et al., doi:10.1038/s41467-018-07619-7 (rank, then
aggregate).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import CaseScores, PairedScores, Rank, Scores
from autoseg.core.text import join_names
from autoseg.evaluation.statistics import bootstrap_interval, holm, signed_rank_p
from autoseg.evaluation.summary import MEAN, mean_over_labels
from autoseg.metrics import METRICS

SAME = 9  # decimals to which two mean ranks are compared: they are sums of the same numbers in another order


@dataclass(frozen=True, kw_only=True)
class ComparableScores:
    """Folders of scores that may be compared; made by ``align_scores``.

    Attributes:
        folders: name -> case -> its scores, the same cases in all.
        labels: that all of them score.
        conventions: metric name -> what all of them follow.
        left_out: cases that not all of them hold.
    """

    folders: dict[str, dict[str, CaseScores]]
    labels: tuple[str, ...]
    conventions: dict[str, str]
    left_out: tuple[str, ...]

    @property
    def cases(self) -> tuple[str, ...]:
        """Ids of the cases of all folders, sorted."""
        return tuple(sorted(next(iter(self.folders.values()))))

    @property
    def patients(self) -> list[str]:
        """Patient of each case, in the order of ``cases``, from any folder that states it."""
        patients = {
            case: scores.group for scored in self.folders.values() for case, scores in scored.items() if scores.group
        }
        return [patients.get(case, case) for case in self.cases]

    def values(self, name: str, label: str, metric: str) -> list[float | None]:
        """One folder's scores, one per case in the order of ``cases``; label ``mean``: over the labels of each."""
        cases = (self.folders[name][case] for case in self.cases)
        if label == MEAN and MEAN not in self.labels:
            return [mean_over_labels(case, self.labels, metric) for case in cases]
        return [case.scores.get(label, {}).get(metric) for case in cases]


def align_scores(
    folders: Mapping[str, Scores], *, metrics: Sequence[str] | None = None, common_cases: bool = False
) -> ComparableScores:
    """Align scores by case, and refuse to compare scores with different meanings.

    Args:
        folders: name -> scores, at least two.
        metrics: the only ones to compare; None: all.
        common_cases: compare the cases that all folders hold instead of refusing other sets of cases.

    Raises:
        UsageError: a metric that a folder does not hold.
        DataError: other labels, metrics, conventions or cases.
    """
    for (first, scores_first), (second, scores_second) in pairwise(folders.items()):
        _check_meaning(first, scores_first, second, scores_second, metrics)
    reference = next(iter(folders.values()))
    scores_by_case = {name: {case.case: case for case in scores.cases} for name, scores in folders.items()}
    shared = set.intersection(*(set(cases) for cases in scores_by_case.values()))
    left_out = tuple(sorted({case for cases in scores_by_case.values() for case in cases} - shared))
    if left_out and not common_cases:
        lacking = next(name for name, cases in scores_by_case.items() if set(left_out) - set(cases))
        absent = [case for case in left_out if case not in scores_by_case[lacking]]
        raise DataError(
            f"{lacking} does not hold {len(absent)} of the cases that another folder holds "
            f"({join_names(absent, limit=5)}); score these too, or compare the {len(shared)} cases "
            f"that all hold (--common-cases)"
        )
    if not shared:
        raise DataError(f"no case is held by all of {', '.join(folders)}; compare folders of the same cases")
    _check_references(scores_by_case, sorted(shared))
    return ComparableScores(
        folders={name: {case: cases[case] for case in shared} for name, cases in scores_by_case.items()},
        labels=_list_labels(reference),
        conventions={name: reference.conventions[name] for name in metrics or reference.conventions},
        left_out=left_out,
    )


def _check_references(scores_by_case: Mapping[str, Mapping[str, CaseScores]], cases: Sequence[str]) -> None:
    """Refuse scores against different references, known by the volume of each label and by a hash of their voxels.

    Raises:
        DataError: a case has two references.
    """
    for (first, scores_first), (second, scores_second) in pairwise(scores_by_case.items()):
        for case in cases:
            volumes, others = scores_first[case].reference_volume_ml, scores_second[case].reference_volume_ml
            different = [name for name in volumes.keys() & others.keys() if not np.isclose(volumes[name], others[name])]
            if different:
                label = min(different)
                raise DataError(
                    f"{first} and {second} were scored against different references: {label} of case {case} has "
                    f"{volumes[label]:.4g} and {others[label]:.4g} ml; score both against the same labels"
                )
            hashes = {scores_first[case].reference, scores_second[case].reference} - {None}
            if len(hashes) > 1:
                raise DataError(
                    f"{first} and {second} were scored against different references: that of case {case} has the same "
                    f"volumes in other places; score both against the same labels"
                )


def compare_pairs(comparable: ComparableScores) -> tuple[PairedScores, ...]:
    """Every two folders, label and metric; Holm's correction runs over all of them.

    Raises:
        UsageError: a metric that is not installed, so its direction is unknown.
    """
    labels = [*comparable.labels, *([MEAN] if len(comparable.labels) > 1 else [])]
    pairs = [
        _compare(comparable, first, second, label, metric)
        for first, second in combinations(comparable.folders, 2)
        for label in labels
        for metric in comparable.conventions
    ]
    tested = [number for number, pair in enumerate(pairs) if pair.p_value is not None]
    corrected = holm([p for pair in pairs if (p := pair.p_value) is not None])
    for number, p_holm in zip(tested, corrected, strict=True):
        pairs[number] = pairs[number].model_copy(update={"p_holm": p_holm})
    return tuple(pairs)


def _compare(comparable: ComparableScores, first: str, second: str, label: str, metric: str) -> PairedScores:
    values_first, values_second = (comparable.values(name, label, metric) for name in (first, second))
    both = [
        (value_first, value_second, patient)
        for value_first, value_second, patient in zip(values_first, values_second, comparable.patients, strict=True)
        if value_first is not None and value_second is not None
    ]
    table = np.array([row[:2] for row in both], float).reshape(-1, 2)
    patients = [row[2] for row in both]
    differences = table[:, 1] - table[:, 0]
    # Equal scores that were added up in another order differ in the last digit.
    differences[np.isclose(table[:, 1], table[:, 0], rtol=1e-12, atol=1e-12)] = 0.0
    better = differences if METRICS[metric].higher_is_better else -differences
    some = len(table) > 0
    return PairedScores(
        first=first,
        second=second,
        label=label,
        metric=metric,
        count=len(table),
        undefined=len(values_first) - len(table),
        mean_first=float(table[:, 0].mean()) if some else None,
        mean_second=float(table[:, 1].mean()) if some else None,
        difference=float(differences.mean()) if some else None,
        interval=bootstrap_interval(differences, patients),
        p_value=signed_rank_p(differences, patients) if some else None,
        p_holm=None,
        wins=int(np.count_nonzero(better > 0)),
        ties=int(np.count_nonzero(better == 0)),
        losses=int(np.count_nonzero(better < 0)),
    )


def rank_folders(comparable: ComparableScores) -> tuple[Rank, ...]:
    """Rank the folders in each case, label and metric, and take the mean over all; the best first.

    Equal scores share the mean of their ranks. An undefined score, and every score of a case without a prediction,
    shares the last ranks. Where no folder's score is defined there is nothing to rank; the tuple is empty if that is
    so everywhere.
    """
    names, metrics = list(comparable.folders), list(comparable.conventions)
    ranks = np.full((len(comparable.cases), len(comparable.labels), len(metrics), len(names)), np.nan)
    for column, label in enumerate(comparable.labels):
        for row, metric in enumerate(metrics):
            ranks[:, column, row] = _rank_cases(comparable, label, metric)
    flat = ranks.reshape(len(ranks), -1, len(names))
    defined = ~np.isnan(flat).all(axis=(1, 2))
    if not defined.any():
        return ()
    flat = flat[defined]
    patients = [patient for patient, is_defined in zip(comparable.patients, defined, strict=True) if is_defined]
    by_case = np.nanmean(flat, axis=1)
    means = by_case.mean(axis=0)
    places = _rank(np.round(means, SAME), method="min")
    ranked = [row for row in range(len(metrics)) if not np.isnan(ranks[:, :, row]).all()]
    ranking = [
        Rank(
            name=name,
            place=int(places[number]),
            mean_rank=float(means[number]),
            interval=bootstrap_interval(by_case[:, number], patients),
            ranks={metrics[row]: float(np.nanmean(ranks[:, :, row, number])) for row in ranked},
        )
        for number, name in enumerate(names)
    ]
    return tuple(sorted(ranking, key=lambda rank: rank.place))


def _rank_cases(comparable: ComparableScores, label: str, metric: str) -> np.ndarray:
    """(cases, folders) float64, rank of each folder in each case; NaN in a case that none defines."""
    sign = -1.0 if METRICS[metric].higher_is_better else 1.0
    cost = []
    for name, scored in comparable.folders.items():
        missing = [scored[case].missing for case in comparable.cases]
        values = [np.nan if value is None else sign * value for value in comparable.values(name, label, metric)]
        cost.append(np.where(missing | np.isnan(values), np.inf, values))
    table = np.stack(cost, axis=1)
    ranks = _rank(np.round(table, 12), axis=1).astype(float)
    ranks[np.isinf(table).all(axis=1)] = np.nan
    return ranks


def _rank(values: np.ndarray, axis: int | None = None, method: str = "average") -> np.ndarray:
    from scipy.stats import rankdata  # half a second that no training need wait for

    return rankdata(values, axis=axis, method=method)


def _check_meaning(first: str, ours: Scores, second: str, theirs: Scores, metrics: Sequence[str] | None) -> None:
    labels = _list_labels(ours), _list_labels(theirs)
    if set(labels[0]) != set(labels[1]):
        raise DataError(
            f"{first} scores the labels {', '.join(labels[0])} and {second} {', '.join(labels[1])}; "
            f"compare folders of the same dataset"
        )
    for metric in metrics or [*ours.conventions, *theirs.conventions]:
        lacking = [name for name, scores in ((first, ours), (second, theirs)) if metric not in scores.conventions]
        if lacking:
            shared = [name for name in ours.conventions if name in theirs.conventions]
            raise UsageError(
                f"{lacking[0]} holds no {metric}; score it again with that metric, or compare those that both hold: "
                f"--metrics {' '.join(shared)}"
            )
        if ours.conventions[metric] != theirs.conventions[metric]:
            raise DataError(
                f"{first} and {second} do not mean the same by {metric} ('{ours.conventions[metric]}' and "
                f"'{theirs.conventions[metric]}'); score both again with the same options"
            )
    if ours.rules != theirs.rules:
        raise DataError(
            f"{first} and {second} were scored by other rules ('{'; '.join(ours.rules) or 'none'}' and "
            f"'{'; '.join(theirs.rules) or 'none'}'); score both again with the same options"
        )


def _list_labels(scores: Scores) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for case in scores.cases for label in case.scores))
