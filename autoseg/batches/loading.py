"""Threads that make the next batches while the network works on this one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from autoseg.batches.augmentation import draw_change
from autoseg.batches.engines import Engine, KernelEngine, PatchDraw, PendingBatch, TensorEngine, Volume, as_shape
from autoseg.batches.sampling import Seed, draw_start, make_case_schedule, sample_generator
from autoseg.core.errors import DataError, MemoryShortageError, TrainingError
from autoseg.core.records import Configuration, PreparedCase


@dataclass(frozen=True, kw_only=True)
class ScheduledBatch:
    """A batch in the making, and the futures of its samples."""

    batch: PendingBatch
    samples: list[Future[None]]


class Batches:
    """Endless augmented batches; a context manager, whose threads end with it.

    Batch k depends on (seed, k) alone: not on the number of workers, nor on the batches asked for before.
    Threads, not processes: every long operation inside releases the interpreter's lock, and nothing is copied.

    Args:
        cases: to draw from; each with a label.
        configuration: patch, batch, sampling, augmentation.
        seed: of all randomness; several numbers, as (plan's seed, fold), keep folds or processes apart.
        workers: threads; 0 makes each batch when it is asked for.
        mask_values: of a cascade: the label values that each mask channel unites. The masks are made of the cases'
            priors and follow the image's channels.
        ignore_label: label value that sampling does not seek.
        pin_memory: put batches where a GPU can fetch them without waiting.
        share: (k, n) makes only samples k, k + n, ... of every batch, as one of n processes that train together.
        device: where torch changes the batches, and they come out; None has the threads do it on the CPU.
        volumes: the cases on that device, in their order; None reads what each patch needs from ``cases``.

    Raises:
        TrainingError: there are no cases.
        DataError: a case has no label, no prior where masks are wanted, or another number of channels than the
            configuration.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        configuration: Configuration,
        *,
        seed: Seed,
        workers: int,
        mask_values: Sequence[Sequence[int]] = (),
        ignore_label: int | None = None,
        pin_memory: bool = False,
        share: tuple[int, int] = (0, 1),
        device: torch.device | None = None,
        volumes: Sequence[Volume] | None = None,
    ) -> None:
        _check_cases(cases, configuration, prior=bool(mask_values))
        self.cases = cases
        self.configuration = configuration
        self.seed = seed
        self.masks = len(mask_values)
        self.ignore_label = ignore_label
        self.schedule = make_case_schedule(
            [case.lesions for case in cases],
            configuration.sampling,
            batch_size=configuration.batch_size,
            ignore_label=ignore_label,
        )
        self.own = range(configuration.batch_size)[share[0] :: share[1]]
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="batches") if workers else None
        self.ahead = max(2, -(-workers // max(1, len(self.own))) + 1) if workers else 0
        self.pending: dict[int, ScheduledBatch] = {}
        self.device = device
        self.engine: Engine
        if device is None:
            self.engine = KernelEngine(configuration, mask_values, pin_memory=pin_memory)
        else:
            self.engine = TensorEngine(configuration, mask_values, device=device, volumes=volumes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of one step.

        Returns:
            (B,C+M,*patch) float32 image with M masks, and (B,*patch) int16 label values, B being the share.

        Raises:
            TrainingError: a sample could not be made; the message names its case.
            MemoryShortageError: the GPU that changes the batch has too little memory.
        """
        scheduled = range(step, step + self.ahead + 1)
        for old in [begun for begun in self.pending if begun not in scheduled]:
            for sample in self.pending.pop(old).samples:
                sample.cancel()
        for number in scheduled:
            if number not in self.pending:
                self.pending[number] = self._begin(number)
        batch = self.pending.pop(step)
        for future in batch.samples:
            future.result()
        try:
            return self.engine.finish(batch.batch)
        except torch.OutOfMemoryError as error:
            raise MemoryShortageError(
                f"the GPU ran out of memory augmenting the batch of step {step + 1}; set augmentation.device to cpu in "
                f"the plan"
            ) from error

    def draw(self, step: int, sample: int) -> PatchDraw:
        """Case, position and augmentation of one sample of a step; reads no voxel."""
        return self._draw(self.schedule.draw(self.seed, step, sample), step, sample)

    def _draw(self, number: int, step: int, sample: int) -> PatchDraw:
        configuration, case = self.configuration, self.cases[number]
        patch = as_shape(configuration.patch_size)
        rng = sample_generator(self.seed, step, sample)
        start = draw_start(
            rng,
            case.image.shape[1:],
            patch,
            case.lesions,
            configuration.sampling,
            sample=sample,
            batch_size=configuration.batch_size,
            ignore_label=self.ignore_label,
        )
        change = draw_change(
            rng,
            configuration.augmentation,
            channels=len(configuration.preprocessing.channels),
            shape=patch,
            flat=configuration.dimensions == 2,
            masks=self.masks,
        )
        return PatchDraw(number=number, start=start, change=change)

    def _begin(self, step: int) -> ScheduledBatch:
        batch = self.engine.begin(len(self.own))
        tasks = [(step, sample, batch, place) for place, sample in enumerate(self.own)]
        if self.pool is None:
            for task in tasks:
                self._make(*task)
            return ScheduledBatch(batch=batch, samples=[])
        return ScheduledBatch(batch=batch, samples=[self.pool.submit(self._make, *task) for task in tasks])

    def _make(self, step: int, sample: int, batch: PendingBatch, place: int) -> None:
        """Draw a sample and make as much of it as a thread can."""
        number = self.schedule.draw(self.seed, step, sample)
        case = self.cases[number]
        try:
            self.engine.make(case, self._draw(number, step, sample), batch, place)
        except Exception as error:
            raise TrainingError(
                f"case {case.id}: no patch could be cut at step {step} ({type(error).__name__}: {error}); "
                f"delete its preprocessed arrays and plan again"
            ) from error


def _check_cases(cases: Sequence[PreparedCase], configuration: Configuration, *, prior: bool) -> None:
    if not cases:
        raise TrainingError("the fold has no training case; check folds.json")
    channels = len(configuration.preprocessing.channels)
    for case in cases:
        if case.label is None:
            raise DataError(f"case {case.id} has no label; remove it from folds.json")
        if case.image.shape[0] != channels or case.image.shape[1:] != case.label.shape:
            raise DataError(
                f"case {case.id} has an image of shape {case.image.shape} and a label of shape {case.label.shape}, "
                f"but the plan has {channels} channels; plan again to rebuild its arrays"
            )
        if prior and (case.prior is None or case.prior.shape != case.label.shape):
            given = "none" if case.prior is None else f"one of shape {case.prior.shape}"
            raise DataError(
                f"case {case.id} needs a mask of {configuration.cascade_from} of its label's shape {case.label.shape} "
                f"and has {given}; delete its preprocessed arrays and plan again"
            )
