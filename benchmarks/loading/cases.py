"""The cases that both loaders draw from: made ones of a usual size, and the hippocampus where its folder is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from autoseg.core.records import (
    ChannelNormalization,
    Configuration,
    Grid,
    Image,
    Label,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    PreparedCase,
    PreprocessingSettings,
    SamplingSettings,
    TilingSettings,
    TrainingSettings,
)
from autoseg.datasets import find_dataset, read_case
from autoseg.planning.mirroring import Mirroring
from autoseg.planning.sampling import plan_augmentation
from autoseg.preprocessing import prepare_case


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is loaded.

    Attributes:
        name: in the table.
        cases: preprocessed.
        configuration: patch, batch, and nnU-Net's own sampling and augmentation.
        labels: values above 0.
    """

    name: str
    cases: list[PreparedCase]
    configuration: Configuration
    labels: tuple[int, ...]


def make_task(*, cases: int) -> Task:
    """Four-channel heads of the size of BraTS's, patch 128x160x112, batch 2."""
    shape, channels = (150, 185, 145), 4
    settings = PreprocessingSettings(
        orientation="stored", spacing=(1.0, 1.0, 1.0), channels=(ChannelNormalization(inside_mask=True),) * channels
    )
    made = []
    for number in range(cases):
        image, label = make_head(np.random.default_rng(number), shape, channels)
        grid = Grid(shape=shape, spacing=(1.0, 1.0, 1.0))
        case = f"made{number}"
        made.append(prepare_case(case, Image(voxels=image, grid=grid), Label(voxels=label, grid=grid), settings))
    return Task(
        name="made heads, 4 channels, patch 128x160x112, batch 2",
        cases=made,
        configuration=configure((128, 160, 112), 2, settings),
        labels=(1, 2, 3),
    )


def read_hippocampus(folder: Path, *, cases: int) -> Task:
    """Real crops of about 35x50x36 voxels, patch 40x56x40, batch 9: what nnU-Net plans for them."""
    dataset = find_dataset(folder, "Hippocampus")
    settings = PreprocessingSettings(orientation="stored", spacing=(1.0, 1.0, 1.0), channels=(ChannelNormalization(),))
    read = []
    for case in dataset.cases[:cases]:
        image, label = read_case(dataset, case)
        read.append(prepare_case(case.id, image, label, settings))
    return Task(
        name=f"hippocampus, {len(read)} cases, patch 40x56x40, batch 9",
        cases=read,
        configuration=configure((40, 56, 40), 9, settings),
        labels=tuple(value for value in dataset.labels.values() if value > 0),
    )


def configure(patch: tuple[int, int, int], batch: int, preprocessing: PreprocessingSettings) -> Configuration:
    """nnU-Net's own sampling and augmentation; the network is never built."""
    ones = ((1, 1, 1),)
    augmentation, _ = plan_augmentation(patch, Mirroring(axes=(0, 1, 2), reason=""))
    return Configuration(
        dimensions=3,
        preprocessing=preprocessing,
        patch_size=patch,
        batch_size=batch,
        network=NetworkSettings(
            name="unet", features=(8,), kernels=ones, strides=ones, encoder_blocks=(1,), decoder_blocks=(),
            deep_supervision=False,
        ),
        loss=LossSettings(),
        optimiser=OptimiserSettings(),
        training=TrainingSettings(),
        sampling=SamplingSettings(foreground_share=0.33, lesion_share=0.0),
        augmentation=augmentation,
        tiling=TilingSettings(tile_size=patch),
    )  # fmt: skip


def make_head(rng: np.random.Generator, shape: tuple[int, ...], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A skull-stripped head of smooth tissue and noise that fills its box, with lesions of three kinds.

    Returns:
        (C,Z,Y,X) float32 and (Z,Y,X) uint8.
    """
    z, y, x = np.ogrid[tuple(slice(-1, 1, complex(0, n)) for n in shape)]
    brain = z**2 + y**2 + x**2 < 1
    image = np.zeros((channels, *shape), np.float32)
    for voxels in image:
        tissue = 400 + 120 * _waves(rng, shape, 12) + rng.normal(0, 12, shape)
        voxels[brain] = np.clip(tissue, 1, 4000)[brain]
    spots = _waves(rng, shape, 14)
    label = np.zeros(shape, np.uint8)
    for value, limit in ((1, 2.0), (2, 2.4), (3, 2.8)):
        label[brain & (spots > limit)] = value
    return image, label


def _waves(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """(Z,Y,X) float32 of mean 0 and deviation 1, with about that many waves across."""
    coarse = rng.normal(size=(cells,) * 3)
    field = ndimage.zoom(coarse, [n / cells for n in shape], order=3).astype(np.float32)
    return (field - field.mean()) / field.std()
