"""Which of several folders is the best over many metrics at once: rank in each case, then take the mean.

Source: ISLES'22, arXiv:2206.06694, and Maier-Hein et al., doi:10.1038/s41467-018-07619-7 (rank, then aggregate).
"""

from __future__ import annotations

import numpy as np

from autoseg.core.records import Rank
from autoseg.evaluation.comparing import ComparableScores
from autoseg.evaluation.statistics import bootstrap_interval
from autoseg.metrics import METRICS

SAME = 9  # decimals to which two mean ranks are compared: they are sums of the same numbers in another order


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
    flat = flat[~np.isnan(flat).all(axis=(1, 2))]  # a case that defines nothing says nothing
    if not len(flat):
        return ()
    by_case = np.nanmean(flat, axis=1)
    means = by_case.mean(axis=0)
    places = _rank(np.round(means, SAME), method="min")
    ranked = [row for row in range(len(metrics)) if not np.isnan(ranks[:, :, row]).all()]
    found = [
        Rank(
            name=name,
            place=int(places[number]),
            mean_rank=float(means[number]),
            interval=bootstrap_interval(by_case[:, number]),
            ranks={metrics[row]: float(np.nanmean(ranks[:, :, row, number])) for row in ranked},
        )
        for number, name in enumerate(names)
    ]
    return tuple(sorted(found, key=lambda rank: rank.place))


def _rank_cases(comparable: ComparableScores, label: str, metric: str) -> np.ndarray:
    """(cases, folders) float64, rank of each folder in each case; NaN in a case that none defines."""
    sign = -1.0 if METRICS[metric].higher_is_better else 1.0
    cost = []
    for name, held in comparable.folders.items():
        missing = [held[case].missing for case in comparable.cases]
        values = [np.nan if value is None else sign * value for value in comparable.values(name, label, metric)]
        cost.append(np.where(missing | np.isnan(values), np.inf, values))
    table = np.stack(cost, axis=1)
    ranks = _rank(np.round(table, 12), axis=1).astype(float)
    ranks[np.isinf(table).all(axis=1)] = np.nan
    return ranks


def _rank(values: np.ndarray, axis: int | None = None, method: str = "average") -> np.ndarray:
    from scipy.stats import rankdata  # half a second that no training need wait for

    return rankdata(values, axis=axis, method=method)
