"""Which candidate is best on cases that none of its networks was trained on, and how sure that is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autoseg.core.errors import DataError

RESAMPLES = 2000
Members = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one candidate stands; the attributes are those of the record ``Candidate``."""

    target: float
    lower: float
    upper: float
    difference: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The candidate that was chosen.

    Attributes:
        winner: its name.
        reason: one sentence.
        standings: name -> where it stands.
        cases: that all candidates were compared on.
    """

    winner: str
    reason: str
    standings: dict[str, Standing]
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
    groups: Sequence[str],
    generator: np.random.Generator,
) -> Choice:
    """The candidate with the best mean over the cases in which every candidate has a score.

    An ensemble so chosen is better than each of its members, which are candidates, too; of equal means the one
    with fewer members is taken, then the first. Intervals resample patients, not cases.

    Args:
        values: candidate -> the target metric of each case, in the same order for all.
        members: candidate -> its configurations.
        metric: its name, for the reason.
        higher_is_better: its direction.
        groups: the patient of each case.
        generator: of the bootstrap.

    Raises:
        DataError: there is no case in which every candidate has a score.
    """
    names = list(values)
    table = np.array([[np.nan if value is None else value for value in values[name]] for name in names], float)
    common = ~np.isnan(table).any(axis=0)
    if not common.any():
        raise DataError(
            f"there is no held-out case in which every candidate has a {metric}; choose another target metric"
        )
    table = table[:, common]
    patients = [group for group, kept in zip(groups, common, strict=True) if kept]
    means = table.mean(axis=1)
    sign = 1.0 if higher_is_better else -1.0
    best = min(range(len(names)), key=lambda i: (-sign * means[i], len(members[names[i]]), i))
    others = [i for i in range(len(names)) if i != best]
    corrected = holm([signed_rank_p(table[i] - table[best]) for i in others])
    p_values = dict(zip(others, corrected, strict=True))
    bounds = bootstrap_bounds(table, patients, generator)
    standings = {
        name: Standing(
            target=float(means[i]),
            lower=float(bounds[0][i]),
            upper=float(bounds[1][i]),
            difference=None if i == best else float(means[i] - means[best]),
            p_value=p_values.get(i),
        )
        for i, name in enumerate(names)
    }
    winner = names[best]
    reason = _say_why(winner, standings, metric, table.shape[1], sign)
    return Choice(winner=winner, reason=reason, standings=standings, cases=table.shape[1])


def _say_why(winner: str, standings: Mapping[str, Standing], metric: str, cases: int, sign: float) -> str:
    own = standings[winner]
    word = "highest" if sign > 0 else "lowest"
    told = (
        f"{winner} has the {word} mean {metric}, {own.target:.4f} (95 % interval {own.lower:.4f} to {own.upper:.4f}), "
        f"over {cases} held-out cases"
    )
    others = [name for name in standings if name != winner]
    if not others:
        return f"{told}; it is the only candidate."
    second = max(others, key=lambda name: sign * standings[name].target)
    next_best = standings[second]
    assert next_best.difference is not None and next_best.p_value is not None  # of all but the winner
    apart = "unlikely to be chance" if next_best.p_value < 0.05 else "within chance"
    return (
        f"{told}; the next is {second}, {abs(next_best.difference):.4f} {'lower' if sign > 0 else 'higher'} "
        f"(Wilcoxon signed-rank p = {next_best.p_value:.2g} after Holm, a difference {apart})."
    )


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of the Wilcoxon signed-rank test; 1 where no case differs.

    Source: Wilcoxon, doi:10.2307/3001968.

    Args:
        differences: (N,) float, case by case.
    """
    if not np.any(differences):
        return 1.0
    from scipy.stats import wilcoxon  # half a second that no training need wait for

    return float(wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number, step by step down from the smallest.

    Source: Holm, Scandinavian Journal of Statistics 6:65-70 (1979).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = highest
    return corrected


def bootstrap_bounds(
    table: np.ndarray, groups: Sequence[str], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval of each row's mean, from resampled groups.

    Source: Efron, doi:10.1214/aos/1176344552.

    Args:
        table: (R,N) float, no NaN.
        groups: of each of the N columns; those of one group are drawn together.
        generator: draws the groups.

    Returns:
        (R,) lower and (R,) upper bounds.
    """
    columns: dict[str, list[int]] = defaultdict(list)
    for column, group in enumerate(groups):
        columns[group].append(column)
    sums = np.stack([table[:, found].sum(axis=1) for found in columns.values()], axis=1)
    counts = np.array([len(found) for found in columns.values()])
    means = np.empty((RESAMPLES, len(table)))
    for number in range(RESAMPLES):
        drawn = generator.integers(len(counts), size=len(counts))
        means[number] = sums[:, drawn].sum(axis=1) / counts[drawn].sum()
    lower, upper = np.percentile(means, (2.5, 97.5), axis=0)
    return lower, upper
