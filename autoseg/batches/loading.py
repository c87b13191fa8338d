"""Threads that make the next batches while the network works on this one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from autoseg.batches.augmentation import Change, change_intensity, change_masks, cut_label, cut_patch, draw_change
from autoseg.batches.sampling import Seed, draw_case, draw_start, sample_generator
from autoseg.core.errors import DataError, TrainingError
from autoseg.core.masks import split_mask
from autoseg.core.records import Configuration, PreparedCase


@dataclass(frozen=True, kw_only=True)
class _Batch:
    image: Tensor
    target: Tensor
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

    Raises:
        TrainingError: there is no case.
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
    ) -> None:
        _check_cases(cases, configuration, prior=bool(mask_values))
        self.cases = cases
        self.configuration = configuration
        self.seed = seed
        self.mask_values = mask_values
        # Regions overlap by nature; of classes, a voxel has one.
        self.exclusive = all(len(values) == 1 for values in mask_values)
        self.ignore_label = ignore_label
        self.pin_memory = pin_memory
        self.own = range(configuration.batch_size)[share[0] :: share[1]]
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="batches") if workers else None
        self.ahead = max(2, -(-workers // max(1, len(self.own))) + 1) if workers else 0
        self.pending: dict[int, _Batch] = {}
        self.patch = (1, *configuration.patch_size) if configuration.dimensions == 2 else configuration.patch_size

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
        """
        wanted = range(step, step + self.ahead + 1)
        for old in [known for known in self.pending if known not in wanted]:
            for sample in self.pending.pop(old).samples:
                sample.cancel()
        for coming in wanted:
            if coming not in self.pending:
                self.pending[coming] = self._begin(coming)
        batch = self.pending.pop(step)
        for future in batch.samples:
            future.result()
        return batch.image, batch.target

    def _begin(self, step: int) -> _Batch:
        configuration = self.configuration
        size = len(self.own)
        channels = len(configuration.preprocessing.channels) + len(self.mask_values)
        image = torch.empty((size, channels, *configuration.patch_size), pin_memory=self.pin_memory)
        target = torch.empty((size, *configuration.patch_size), dtype=torch.int16, pin_memory=self.pin_memory)
        images = image.numpy().reshape(size, channels, *self.patch)  # views: samples are made in place
        targets = target.numpy().reshape(size, *self.patch)
        tasks = [(step, sample, images[place], targets[place]) for place, sample in enumerate(self.own)]
        if self.pool is None:
            for task in tasks:
                self._make(*task)
            return _Batch(image=image, target=target, samples=[])
        return _Batch(image=image, target=target, samples=[self.pool.submit(self._make, *task) for task in tasks])

    def _make(self, step: int, sample: int, image: np.ndarray, target: np.ndarray) -> None:
        """Fill one sample: (C+M,Z,Y,X) float32 image and (Z,Y,X) int16 target, in place."""
        configuration, size = self.configuration, self.configuration.batch_size
        position = step * size + sample
        case = self.cases[draw_case(len(self.cases), self.seed, position)]
        assert case.label is not None  # checked when the batches were opened
        rng = sample_generator(self.seed, step, sample)
        try:
            start = draw_start(
                rng,
                case.image.shape[1:],
                self.patch,
                case.lesions,
                configuration.sampling,
                sample=sample,
                batch_size=size,
                ignore_label=self.ignore_label,
            )
            channels = configuration.preprocessing.channels
            scan, masks = image[: len(channels)], image[len(channels) :]
            change = draw_change(
                rng,
                configuration.augmentation,
                channels=len(scan),
                shape=self.patch,
                flat=configuration.dimensions == 2,
                masks=len(masks),
            )
            cut_patch(case.image, case.label, start, change, scan, target)
            change_intensity(scan, change, masked=[i for i, c in enumerate(channels) if c.inside_mask])
            if case.prior is not None and len(masks):
                self._fill_masks(case.prior, start, change, masks)
        except Exception as error:
            raise TrainingError(
                f"case {case.id}: no patch could be made of it at step {step} ({type(error).__name__}: {error}); "
                f"delete its preprocessed arrays and plan again"
            ) from error

    def _fill_masks(self, prior: np.ndarray, start: Sequence[int], change: Change, masks: np.ndarray) -> None:
        """The prior moved as the label was, split into (M,Z,Y,X) float32 channels, and made imperfect."""
        moved = np.empty(masks.shape[1:], np.int16)
        cut_label(prior, start, change, moved)
        split_mask(moved, self.mask_values, masks)
        change_masks(masks, change.shaped, change.removed, exclusive=self.exclusive)


def _check_cases(cases: Sequence[PreparedCase], configuration: Configuration, *, prior: bool) -> None:
    if not cases:
        raise TrainingError("there is no case to train on; check the fold's training cases in folds.json")
    channels = len(configuration.preprocessing.channels)
    for case in cases:
        if case.label is None:
            raise DataError(f"case {case.id} has no label, so it cannot be trained on; take it out of folds.json")
        if case.image.shape[0] != channels or case.image.shape[1:] != case.label.shape:
            raise DataError(
                f"case {case.id} has an image of shape {case.image.shape} and a label of shape {case.label.shape}, "
                f"but the plan has {channels} channels; plan again to rebuild its arrays"
            )
        if prior and (case.prior is None or case.prior.shape != case.label.shape):
            found = "none" if case.prior is None else f"one of shape {case.prior.shape}"
            raise DataError(
                f"case {case.id} needs a mask of {configuration.cascade_from} of its label's shape {case.label.shape} "
                f"and has {found}; delete its preprocessed arrays and plan again"
            )
