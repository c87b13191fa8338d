"""Comparison of each case with the others: heads at one size, distances to the most similar cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from autoseg.checking.measures import MIRRORS, CaseSigns

LEAST_CASES = 5  # to compare one with the others
LEAST_DIRECTION = 8  # cases that show in which direction a measure usually differs
CLEAR = 1.25  # spreads of a difference, from which its direction is clear


@dataclass(frozen=True, kw_only=True)
class HeadFit:
    """Similarity of one head to the mean of the others.

    Attributes:
        upright: correlation as it is.
        mirrored: correlation of its mirror images (``MIRRORS`` without the first).
        channels: (C,C) correlation of each of its channels with the mean of each channel.
    """

    upright: float
    mirrored: tuple[float, ...]
    channels: np.ndarray


def fit_heads(cases: Sequence[CaseSigns]) -> list[HeadFit]:
    """Each head against the mean of all other heads.

    Args:
        cases: each with thumbnails of the same channels; at least ``LEAST_CASES``.
    """
    heads = np.stack([_thumbnails(case) for case in cases])
    total = heads.sum(axis=0)
    fits = []
    for head in heads:
        mean = (total - head) / (len(heads) - 1)
        turned = [mirror(head, flips) for flips in MIRRORS]
        alike = [float(np.mean([correlate(a, b) for a, b in zip(one, mean, strict=True)])) for one in turned]
        channels = np.array([[correlate(a, b) for b in mean] for a in head])
        fits.append(HeadFit(upright=alike[0], mirrored=tuple(alike[1:]), channels=channels))
    return fits


def fit_positions(cases: Sequence[CaseSigns]) -> np.ndarray:
    """(N,8) correlation of each mask's place in the head, and of its mirror images, with the mean of the other masks.

    Args:
        cases: each with a mask; at least ``LEAST_CASES``.
    """
    places = np.stack([case.positions for case in cases if case.positions is not None])
    total = places.sum(axis=0)
    means = [(total - place) / (len(places) - 1) for place in places]
    return np.array(
        [
            [correlate(mirror(place, flips), mean) for flips in MIRRORS]
            for place, mean in zip(places, means, strict=True)
        ]
    )


def mirror(voxels: np.ndarray, flips: Sequence[bool]) -> np.ndarray:
    """The last three axes reversed where ``flips`` says so; a view."""
    axes = tuple(axis for axis, flipped in zip((-3, -2, -1), flips, strict=True) if flipped)
    return np.flip(voxels, axes)


def find_exchanged(cases: Sequence[CaseSigns], fits: Sequence[HeadFit]) -> dict[tuple[int, int], np.ndarray]:
    """Pair of channels -> (N,) strength with which each case seems to have them exchanged.

    Compared are quantiles of the head, the intensity below the mask, and the likeness to the mean channels.
    """
    levels = np.stack([case.levels for case in cases if case.levels is not None])
    below = np.stack([np.zeros(levels.shape[1]) if c.contrasts is None else c.contrasts[0] for c in cases])
    alike = np.stack([fit.channels for fit in fits])
    exchanged = {}
    for i, j in combinations(range(levels.shape[1]), 2):
        fitting = alike[:, i, i] + alike[:, j, j] - alike[:, i, j] - alike[:, j, i]
        identical = (levels[:, i] == levels[:, j]).all(axis=1)
        differences = np.column_stack([levels[:, i] - levels[:, j], below[:, i] - below[:, j], fitting])
        exchanged[i, j] = find_reversed(np.where(identical[:, None], 0, differences))
    return exchanged


def find_reversed(differences: np.ndarray) -> np.ndarray:
    """Strength with which each difference points the other way than those of the other cases.

    Fisher's linear discriminant between the differences and their negatives: if a fault exchanges the two measures, its
    difference changes sign. Each case is judged by the others alone. A strength of 1 is halfway from the border to the
    median of the exchanged.

    Args:
        differences: (N,F) float, measures of a thing less those of its counterpart (another channel, a mirror image).

    Returns:
        (N,) float, 0 where nothing is reversed; all 0 where the cases do not agree on a direction.
    """
    strengths = np.zeros(len(differences))
    differing = np.flatnonzero(np.abs(differences).max(axis=1) > 0)
    if len(differing) <= LEAST_DIRECTION:
        return strengths
    for case in differing:
        others = differences[differing[differing != case]]
        direction = _find_direction(others)
        typical = float(np.median(others @ direction))
        spread = 1.4826 * float(np.median(np.abs(others @ direction - typical)))
        if typical > CLEAR * spread:
            strengths[case] = max(-float(differences[case] @ direction) / (0.5 * typical), 0.0)
    return strengths


def _find_direction(differences: np.ndarray) -> np.ndarray:
    """(F,) median over the shrunk covariance; the fewer cases, the less the measures' correlations count."""
    count, measures = differences.shape
    middle = np.median(differences, axis=0)
    covariance = np.cov(differences.T).reshape(measures, measures)
    variances = np.diag(np.diag(covariance) + 1e-6 * max(np.trace(covariance), 1e-6))
    shrinkage = measures / (measures + count)
    return np.linalg.solve((1 - shrinkage) * covariance + shrinkage * variances, middle)


def correlate(one: np.ndarray, mean: np.ndarray) -> float:
    """Pearson's correlation of all voxels; 0 where one of them is constant."""
    a, b = one.ravel() - one.mean(), mean.ravel() - mean.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def pair_heads(cases: Sequence[CaseSigns]) -> np.ndarray:
    """(N,N) mean correlation over channels of each head with each other; 0 on the diagonal and below it."""
    heads = np.stack([_thumbnails(case) for case in cases])
    flat = heads.reshape(*heads.shape[:2], -1).astype(np.float64)
    flat -= flat.mean(axis=2, keepdims=True)
    norms = np.linalg.norm(flat, axis=2, keepdims=True)
    flat = np.divide(flat, norms, out=flat, where=norms > 0)
    alike = sum(flat[:, channel] @ flat[:, channel].T for channel in range(flat.shape[1])) / flat.shape[1]
    return np.triu(alike, 1)


def isolate(values: np.ndarray) -> np.ndarray:
    """Distance of each value to its second nearest other, so that three alike are not far from the rest; of 50 more
    cases the third counts, and so on.

    Args:
        values: (N,) or (N,F) float; the largest difference of the F counts.

    Returns:
        (N,) float.
    """
    rows = values.reshape(len(values), -1)
    near = 2 + len(rows) // 50
    distances = np.abs(rows[:, None] - rows[None]).max(axis=2)
    return np.sort(distances, axis=1)[:, min(near, len(rows) - 1)]


def _thumbnails(case: CaseSigns) -> np.ndarray:
    assert case.thumbnails is not None  # of a case that can be read
    return case.thumbnails
