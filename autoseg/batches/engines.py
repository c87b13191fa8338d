"""Batch engines: compiled loops in CPU threads, or torch on the training device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autoseg.batches.augmentation import (
    Change,
    change_intensity,
    change_masks,
    change_tensors,
    cut_label,
    cut_patch,
    cut_tensors,
    find_box,
)
from autoseg.core.masks import split_mask
from autoseg.core.records import Configuration, PreparedCase


@dataclass(frozen=True, kw_only=True)
class PatchDraw:
    """Case, position and augmentation of one patch, drawn.

    Attributes:
        number: of its case, among those that are drawn from.
        start: first voxel (z,y,x) of the patch in the case; may be negative.
        change: its augmentation.
    """

    number: int
    start: tuple[int, ...]
    change: Change


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A whole case on the device that trains.

    Attributes:
        image: (C,Z,Y,X) float32 or float16, as it is stored.
        label: (Z,Y,X) integer.
    """

    image: Tensor
    label: Tensor


@dataclass(frozen=True, kw_only=True)
class PatchSource:
    """Voxels that one patch is cut from.

    Attributes:
        image: (C,*box) float32 or float16.
        label: (*box) integer.
        low: first voxel of the box in the volume.
        sample: as drawn.
    """

    image: Tensor
    label: Tensor
    low: tuple[int, ...]
    sample: PatchDraw


@dataclass(frozen=True, kw_only=True)
class PendingBatch:
    """A batch whose samples are being made by threads that share nothing but these tensors.

    Attributes:
        image: (B,C,*patch) float32; only the masks of a cascade in batches of sources.
        target: (B,*patch) int16; empty in batches of sources.
        sources: place in the batch -> source of its patch.
    """

    image: Tensor
    target: Tensor
    sources: dict[int, PatchSource]


class Engine(Protocol):
    """Makes batches of drawn samples."""

    def begin(self, size: int) -> PendingBatch:
        """Room for a batch of that many samples."""

    def make(self, case: PreparedCase, sample: PatchDraw, batch: PendingBatch, place: int) -> None:
        """Make as much of one sample as a thread can."""

    def finish(self, batch: PendingBatch) -> tuple[Tensor, Tensor]:
        """(B,C+M,*patch) float32 image and (B,*patch) int16 target, once every sample is made."""


class KernelEngine:
    """Compiled loops on the CPU: the threads do everything, in place.

    Args:
        configuration: patch, channels.
        mask_values: label values of each mask channel of a cascade.
        pin_memory: put batches where a GPU can fetch them without waiting.
    """

    def __init__(self, configuration: Configuration, mask_values: Sequence[Sequence[int]], *, pin_memory: bool) -> None:
        self.channels = configuration.image_inputs
        self.masked = masked_channels(configuration)
        self.patch, self.context = configuration.patch_size, configuration.context_slices
        self.mask_values = mask_values
        self.pin_memory = pin_memory

    def begin(self, size: int) -> PendingBatch:
        """Tensors that the samples are made in."""
        channels = self.channels + len(self.mask_values)
        image = torch.empty((size, channels, *self.patch), pin_memory=self.pin_memory)
        target = torch.empty((size, *self.patch), dtype=torch.int16, pin_memory=self.pin_memory)
        return PendingBatch(image=image, target=target, sources={})

    def make(self, case: PreparedCase, sample: PatchDraw, batch: PendingBatch, place: int) -> None:
        """Fill one sample of the batch."""
        assert case.label is not None  # checked when the batches were opened
        image, target = batch.image[place].numpy(), as_volume(batch.target[place].numpy()[None])[0]
        start, size = with_context(sample.start, target.shape, self.context)
        scan, masks = image[: self.channels].reshape(-1, *size), image[self.channels :]
        label = np.empty(size, np.int16) if self.context else target
        cut_patch(case.image, case.label, start, sample.change, scan, label)
        if self.context:
            target[0] = label[self.context]
        change_intensity(scan, sample.change, masked=self.masked)
        if case.prior is not None and len(masks):
            fill_masks(case.prior, sample, self.mask_values, as_volume(masks))

    def finish(self, batch: PendingBatch) -> tuple[Tensor, Tensor]:
        """The tensors, which are filled."""
        return batch.image, batch.target


class TensorEngine:
    """Torch on the device that trains: threads read what a patch needs, and the device changes the whole batch.

    The masks of a cascade are made by the threads even so: a GPU is slow at finding connected components,
    and they are cut with the same rule as the label.

    Args:
        configuration: patch, channels.
        mask_values: label values of each mask channel of a cascade.
        device: where batches are changed, and come out.
        volumes: the cases on that device, in the order of their numbers; None reads the machine's own memory or disk.
    """

    def __init__(
        self,
        configuration: Configuration,
        mask_values: Sequence[Sequence[int]],
        *,
        device: torch.device,
        volumes: Sequence[Volume] | None = None,
    ) -> None:
        self.channels = len(configuration.preprocessing.channels)
        self.masked = masked_channels(configuration)
        self.patch, self.context = configuration.patch_size, configuration.context_slices
        self.mask_values = mask_values
        self.device, self.volumes = device, volumes
        self.pin_memory = device.type == "cuda"

    def begin(self, size: int) -> PendingBatch:
        """Room for masks; sources come as they are read."""
        masks = torch.empty((size, len(self.mask_values), *self.patch), pin_memory=self.pin_memory)
        return PendingBatch(image=masks, target=torch.empty(0, dtype=torch.int16), sources={})

    def make(self, case: PreparedCase, sample: PatchDraw, batch: PendingBatch, place: int) -> None:
        """Read the source of the patch, or take it from the device."""
        assert case.label is not None  # checked when the batches were opened
        change = sample.change
        start, size = with_context(sample.start, as_shape(self.patch), self.context)
        # A spline never leaves the range of its control points.
        margin = None if change.elastic is None else np.abs(change.elastic).max(axis=(1, 2, 3))
        box = find_box(start, change, size, case.label.shape, margin=margin)
        if self.volumes is not None:
            volume = self.volumes[sample.number]
            image, label = volume.image[(slice(None), *box)], volume.label[box]
        else:
            image, label = self._read(case.image[(slice(None), *box)]), self._read(case.label[box])
        low = tuple(part.start for part in box)
        batch.sources[place] = PatchSource(image=image, label=label, low=low, sample=sample)
        if case.prior is not None and self.mask_values:
            fill_masks(case.prior, sample, self.mask_values, as_volume(batch.image[place].numpy()))

    def finish(self, batch: PendingBatch) -> tuple[Tensor, Tensor]:
        """Cut every patch, then change the batch."""
        sources = [batch.sources[place] for place in range(len(batch.sources))]
        starts = [source.sample.start for source in sources]
        _, shape = with_context(starts[0], as_shape(self.patch), self.context)
        image = torch.empty((len(sources), self.channels, *shape), device=self.device)
        target = torch.empty((len(sources), *shape), dtype=torch.int16, device=self.device)
        for source, patch, label in zip(sources, image, target, strict=True):
            box = source.image.to(self.device, non_blocking=True), source.label.to(self.device, non_blocking=True)
            start, _ = with_context(source.sample.start, shape, self.context)
            cut_tensors(*box, source.low, start, source.sample.change, patch, label)
        change_tensors(image, [source.sample.change for source in sources], masked=self.masked)
        image = image.view(len(sources), -1, *self.patch)
        if self.mask_values:
            image = torch.cat([image, batch.image.to(self.device, non_blocking=True)], dim=1)
        if self.context:
            target = target[:, self.context]
        return image, target.reshape(len(sources), *self.patch)

    def _read(self, box: np.ndarray) -> Tensor:
        """A copy of a box, where a GPU can fetch it without waiting."""
        copy = torch.empty(box.shape, dtype=torch.from_numpy(np.empty(0, box.dtype)).dtype, pin_memory=self.pin_memory)
        copy.numpy()[...] = box
        return copy


def masked_channels(configuration: Configuration) -> list[int]:
    """Channels that are 0 outside the mask, and stay so."""
    return [i for i, channel in enumerate(configuration.preprocessing.channels) if channel.inside_mask]


def as_shape(patch: Sequence[int]) -> tuple[int, ...]:
    """Voxels per axis (z,y,x) of a patch; one slice is one voxel thick."""
    return (1, *patch) if len(patch) == 2 else tuple(patch)


def with_context(
    start: Sequence[int], size: Sequence[int], context_slices: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First voxel and voxels per axis (z,y,x) of a patch with its neighbouring slices; unchanged without any."""
    return (start[0] - context_slices, *start[1:]), (size[0] + 2 * context_slices, *size[1:])


def as_volume(array: np.ndarray) -> np.ndarray:
    """(C,*patch) as a view of shape (C,Z,Y,X)."""
    return array.reshape(len(array), *as_shape(array.shape[1:]))


def fill_masks(prior: np.ndarray, sample: PatchDraw, mask_values: Sequence[Sequence[int]], masks: np.ndarray) -> None:
    """The prior cut as the label is, split into channels, and augmented.

    Args:
        prior: (Z,Y,X) integer, may be a memory map.
        sample: as drawn.
        mask_values: label values of each channel.
        masks: (M,*patch) float32 of three axes, filled.
    """
    moved = np.empty(masks.shape[1:], np.int16)
    cut_label(prior, sample.start, sample.change, moved)
    split_mask(moved, mask_values, masks)
    # Regions overlap by nature; of classes, a voxel has one.
    exclusive = all(len(values) == 1 for values in mask_values)
    change_masks(masks, sample.change.mask_morphology, sample.change.component_draws, exclusive=exclusive)
