"""Lesions of a known volume, each one connected, none touching another."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from autoseg.datasets.synthetic.brain import Brain, grid_spacing, smooth_field

NEIGHBOURS = tuple(step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1)
SIZES_ML = ((0.15, 0.5), (0.5, 2.0), (2.0, 10.0), (10.0, 60.0))
OUTLINE_MM = 2.0  # of smoothing: an outline crosses the sulci within a lesion


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion.

    Attributes:
        voxels: (N,3) int, voxel indices (z,y,x).
    """

    voxels: np.ndarray


def draw_lesions(rng: np.random.Generator, brain: Brain, number: int) -> tuple[Lesion, ...]:
    """The lesions of the case with this number: every fourth case has many small ones, the others one to three.

    The first lesion's size goes round with the number, so that a handful of cases holds all sizes.
    """
    many = number % 4 == 2
    sizes = [] if many else [SIZES_ML[{1: 3, 3: 2, 0: 0}[number % 4]]]
    sizes += [SIZES_ML[int(rng.integers(0, 2))] for _ in range(rng.integers(5, 13) if many else rng.integers(0, 3))]
    volumes = [float(np.exp(rng.uniform(*np.log(size)))) for size in sizes]
    sigmas = [OUTLINE_MM / step for step in grid_spacing(brain.mask.shape)]
    free = brain.mask & (gaussian_filter(brain.tissues[1:].sum(0), sigmas) > 0.6)
    lesions = []
    for volume_ml in volumes:
        lesion = _grow(rng, free, volume_ml)
        if lesion is None:
            continue
        lesions.append(lesion)
        occupied = np.zeros_like(free)
        occupied[tuple(lesion.voxels.T)] = True
        free &= ~binary_dilation(occupied, np.ones((3, 3, 3), bool), iterations=2)
    return tuple(lesions)


def _grow(rng: np.random.Generator, free: np.ndarray, volume_ml: float) -> Lesion | None:
    """Grow from a random free voxel to the nearest ones first, "near" being an ellipsoid's distance with noise."""
    candidates = np.argwhere(free)
    if not len(candidates):
        return None
    spacing = np.array(grid_spacing(free.shape))
    count = max(1, round(volume_ml * 1000 / spacing.prod()))
    seed = candidates[rng.integers(len(candidates))]
    middle = free.shape[2] / 2
    half = (np.arange(free.shape[2]) < middle) == (seed[2] < middle)  # an artery supplies one side of the brain
    free = free & half
    radius = (volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    stretch = np.exp(rng.uniform(-0.35, 0.35, 3))
    steps = (np.indices(free.shape).transpose(1, 2, 3, 0) - seed) * spacing * stretch
    cost = np.sqrt((steps**2).sum(-1)) + 0.25 * radius * smooth_field(rng, free.shape, max(5.0, radius / 2))
    start = tuple(int(i) for i in seed)
    queue, seen = [(float(cost[start]), start)], {start}
    taken: list[tuple[int, ...]] = []
    while queue and len(taken) < count:
        _, voxel = heapq.heappop(queue)
        taken.append(voxel)
        for step in NEIGHBOURS:
            near = (voxel[0] + step[0], voxel[1] + step[1], voxel[2] + step[2])
            if near not in seen and all(0 <= i < n for i, n in zip(near, free.shape, strict=True)) and free[near]:
                seen.add(near)
                heapq.heappush(queue, (float(cost[near]), near))
    return Lesion(voxels=np.array(taken))
