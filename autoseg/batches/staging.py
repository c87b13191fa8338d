"""Stages of a training: batches of coarser copies of the cases first, then of the cases themselves."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from autoseg.batches.caching import MEMORY_SHARE
from autoseg.batches.engines import as_shape
from autoseg.batches.loading import Batches
from autoseg.core.errors import MemoryShortageError
from autoseg.core.parallel import free_memory_bytes
from autoseg.core.records import Configuration, Lesions, PreparedCase

log = logging.getLogger(__name__)


class StagedBatches:
    """Batches of every stage, each opened when it is first asked for; a context manager.

    Batch k of a stage depends on the seed, k and the stage alone.

    Args:
        cases: to draw from, on the configuration's own grid.
        configuration: with its stages.
        make: opens the batches of cases with the patch and batch of a configuration.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        configuration: Configuration,
        make: Callable[[Sequence[PreparedCase], Configuration], Batches],
    ) -> None:
        self.cases, self.configuration, self.make = cases, configuration, make
        self.stage: int | None = None
        self.batches: Batches | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.batches is not None:
            self.batches.__exit__(*error)

    def batch(self, step: int, stage: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: (B,C,*patch) float32 and (B,*patch) int16.

        Args:
            step: of the training.
            stage: as ``TrainingSettings.stage_at`` numbers them.

        Raises:
            TrainingError, MemoryShortageError: as ``Batches.batch``, or there is no memory for coarser copies.
        """
        if stage != self.stage or self.batches is None:
            if self.batches is not None:
                self.batches.__exit__()
            self.batches, self.stage = self._open(stage), stage
        return self.batches.batch(step)

    def _open(self, stage: int) -> Batches:
        configuration, cases = self.configuration.of_stage(stage), self.cases
        if stage < len(self.configuration.training.stages):
            patch, factors = configuration.patch_size, self.configuration.training.stages[stage].factors
            log.info(
                "stage %d of %d: patch %s at %s times the spacing, batch %d",
                stage + 1,
                len(self.configuration.training.stages) + 1,
                "x".join(map(str, patch)),
                "x".join(map(str, factors)),
                configuration.batch_size,
            )
            if max(factors) > 1:
                _check_memory(cases, factors)
                with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                    cases = list(pool.map(lambda case: coarsen_case(case, as_shape(factors)), cases))
        elif stage:
            log.info("stage %d of %d: the configuration's own grid and patch", stage + 1, stage + 1)
        return self.make(cases, configuration)


def _check_memory(cases: Sequence[PreparedCase], factors: Sequence[int]) -> None:
    """Refuse coarser copies that do not fit in memory.

    Raises:
        MemoryShortageError: they do not.
    """
    needed = sum(4 * case.image.size // math.prod(factors) for case in cases)
    free = free_memory_bytes()
    if needed > MEMORY_SHARE * free:
        raise MemoryShortageError(
            f"the coarser copies of {len(cases)} cases for training.stages take {needed / 1e9:.1f} GB, more than half "
            f"of the {free / 1e9:.1f} GB of free memory; remove the stages from the plan, or free memory"
        )


def coarsen_case(case: PreparedCase, factors: Sequence[int]) -> PreparedCase:
    """A case on a grid that is several times coarser: means of the image, the most frequent value of the label.

    Voxels that are left over at the end of an axis make up a last, incomplete voxel.

    Args:
        case: labelled.
        factors: per axis (z,y,x).
    """
    assert case.label is not None  # training cases are labelled
    return replace(
        case,
        image=np.stack([_mean_of_blocks(channel, factors) for channel in case.image]),
        label=_vote_in_blocks(case.label, factors),
        lesions=None if case.lesions is None else _coarsen_lesions(case.lesions, factors),
        prior=None if case.prior is None else _vote_in_blocks(case.prior, factors),
    )


def _coarsen_lesions(lesions: Lesions, factors: Sequence[int]) -> Lesions:
    """The same lesions with their points on the coarser grid; sizes count against each other only."""
    return replace(lesions, points=(lesions.points // np.asarray(factors, np.int32)).astype(np.int32))


def _mean_of_blocks(volume: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """(Z,Y,X) of any number type -> (z,y,x) float32; incomplete blocks count their own voxels only."""
    mean: np.ndarray = np.asarray(volume, np.float32)
    for axis, factor in enumerate(factors):
        if factor > 1:
            starts = np.arange(0, mean.shape[axis], factor)
            counts = np.diff(np.append(starts, mean.shape[axis])).astype(np.float32)
            shape = [-1 if k == axis else 1 for k in range(3)]
            mean = np.add.reduceat(mean, starts, axis=axis) / counts.reshape(shape)
    return mean


def _vote_in_blocks(label: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """(Z,Y,X) integer -> (z,y,x) of the same type: the most frequent value, of equal ones the larger."""
    best = None
    for value in np.unique(label):
        share = _mean_of_blocks(label == value, factors)
        if best is None:
            winner, best = np.full(share.shape, value, label.dtype), share
            continue
        wins = share >= best
        winner[wins], best[wins] = value, share[wins]
    return winner
