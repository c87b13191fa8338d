"""Selection of the best candidate on out-of-fold cases, with intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autoseg.core.errors import DataError
from autoseg.evaluation.statistics import bootstrap_interval, holm, signed_rank_p
from autoseg.metrics import EmptyScore

Members = tuple[str, ...]

EMPTY_SCORE: EmptyScore = "one"  # else a candidate with false positives in healthy cases would not be penalised


@dataclass(frozen=True, kw_only=True)
class CandidateScore:
    """Target metric of one candidate; the attributes are those of the record ``Candidate``."""

    target: float
    lower: float | None
    upper: float | None
    difference: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The candidate that was chosen.

    Attributes:
        winner: its name.
        reason: one sentence.
        scores: candidate -> its score.
        cases: that all candidates were compared on.
    """

    winner: str
    reason: str
    scores: dict[str, CandidateScore]
    cases: int


def list_candidates(configurations: Sequence[str]) -> dict[str, Members]:
    """Each configuration, the mean of each two, and of all where there are three or more: name -> members."""
    members: list[Members] = [(name,) for name in configurations]
    members += combinations(configurations, 2)
    if len(configurations) > 2:
        members.append(tuple(configurations))
    return {"+".join(names): names for names in members}


def choose_candidate(
    values: Mapping[str, Sequence[float | None]],
    members: Mapping[str, Members],
    *,
    metric: str,
    higher_is_better: bool,
    patients: Sequence[str],
) -> Choice:
    """Choose the candidate with the best mean over the cases in which every candidate has a score.

    An ensemble so chosen is better than each of its members, which are candidates, too; of equal means the one
    with fewer members is taken, then the first. Intervals and tests are by patient.

    Args:
        values: candidate -> the target metric of each case, in the same order for all.
        members: candidate -> its configurations.
        metric: its name, for the reason.
        higher_is_better: its direction.
        patients: of each case.

    Raises:
        DataError: no case has a score for every candidate.
    """
    names = list(values)
    table = np.array([[np.nan if value is None else value for value in values[name]] for name in names], float)
    common = ~np.isnan(table).any(axis=0)
    if not common.any():
        raise DataError(f"no held-out case has a {metric} for every candidate; choose another target metric")
    table = table[:, common]
    patients = [patient for patient, is_common in zip(patients, common, strict=True) if is_common]
    means = table.mean(axis=1)
    sign = 1.0 if higher_is_better else -1.0
    best = min(range(len(names)), key=lambda i: (-sign * means[i], len(members[names[i]]), i))
    rivals = [i for i in range(len(names)) if i != best]
    corrected = holm([signed_rank_p(table[i] - table[best], patients) for i in rivals])
    p_values = dict(zip(rivals, corrected, strict=True))
    intervals = [bootstrap_interval(row, patients) or (None, None) for row in table]
    scores = {
        name: CandidateScore(
            target=float(means[i]),
            lower=intervals[i][0],
            upper=intervals[i][1],
            difference=None if i == best else float(means[i] - means[best]),
            p_value=p_values.get(i),
        )
        for i, name in enumerate(names)
    }
    winner = names[best]
    reason = _explain_choice(winner, scores, metric, table.shape[1], sign)
    return Choice(winner=winner, reason=reason, scores=scores, cases=table.shape[1])


def _explain_choice(winner: str, scores: Mapping[str, CandidateScore], metric: str, cases: int, sign: float) -> str:
    best = scores[winner]
    interval = "" if best.lower is None else f" (95 % interval {best.lower:.4f} to {best.upper:.4f})"
    sentence = (
        f"{winner} has the {'highest' if sign > 0 else 'lowest'} mean {metric}, {best.target:.4f}{interval}, "
        f"over {cases} held-out cases"
    )
    rivals = [name for name in scores if name != winner]
    if not rivals:
        return f"{sentence}; it is the only candidate."
    runner_up = max(rivals, key=lambda name: sign * scores[name].target)
    second = scores[runner_up]
    assert second.difference is not None and second.p_value is not None  # only the winner has none
    verdict = "significant" if second.p_value < 0.05 else "not significant"
    return (
        f"{sentence}; the next is {runner_up}, {abs(second.difference):.4f} {'lower' if sign > 0 else 'higher'} "
        f"(Wilcoxon signed-rank p = {second.p_value:.2g} after Holm's correction, {verdict} at 5 %)."
    )
