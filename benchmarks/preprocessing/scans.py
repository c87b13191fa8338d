"""The scans that are preprocessed: made ones of usual sizes, and real ones where their folders are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from autoseg.core.images import write_voxels
from autoseg.core.records import Grid


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One case's files, and what it is brought to.

    Attributes:
        name: in the table.
        images, label: files.
        spacing: target mm (z,y,x).
        patch: that the stored chunks are made for.
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]


MADE = {
    "four channels, resampled": ((155, 240, 240), (1.2, 0.94, 0.94), 4, (1.0, 1.0, 1.0), (128, 128, 128)),
    "four channels, own spacing": ((155, 240, 240), (1.0, 1.0, 1.0), 4, (1.0, 1.0, 1.0), (128, 128, 128)),
    "thick slices, resampled": ((24, 256, 256), (5.5, 0.9, 0.9), 2, (5.0, 0.8, 0.8), (20, 224, 192)),
}


def find_scans(folder: Path, open_ms: Path | None, isles22: Path | None) -> Iterator[Scan]:
    """Made scans, written into the folder, then the real ones."""
    for number, (name, (shape, own, channels, spacing, patch)) in enumerate(MADE.items()):
        home = folder / f"made{number}"
        grid = Grid(shape=shape, spacing=own)
        image, label = make_brain(np.random.default_rng(number), shape, channels)
        paths = tuple(home / f"channel{i}.nii.gz" for i in range(channels))
        for path, voxels in zip(paths, image, strict=True):
            write_voxels(path, voxels, grid)
        write_voxels(home / "label.nii.gz", label, grid)
        yield Scan(name=f"made: {name}", images=paths, label=home / "label.nii.gz", spacing=spacing, patch=patch)
    if open_ms is not None:
        ending = "_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"
        yield Scan(
            name=f"real: open MS {open_ms.name}, FLAIR and T1",
            images=tuple(open_ms / f"{channel}{ending}" for channel in ("FLAIR", "T1")),
            label=open_ms / "GOLD_STANDARD_N4_noneck_reduced_winsor_regtoFLAIR_regtoMNI.nii.gz",
            spacing=(1.1, 0.9, 0.9),
            patch=(128, 128, 128),
        )
    if isles22 is not None:
        (label,) = sorted(isles22.glob("derivatives/*/*/*_msk.nii.gz"))[:1]
        (home,) = sorted(isles22.glob(f"rawdata/{label.parts[-3]}/*"))[:1]
        start = label.name.removesuffix("_msk.nii.gz")
        yield Scan(
            name=f"real: ISLES 2022 {start.split('_')[0]}, DWI and ADC",
            images=tuple(home / f"{start}_{channel}.nii.gz" for channel in ("dwi", "adc")),
            label=label,
            spacing=(1.5, 1.5, 1.5),
            patch=(96, 128, 128),
        )


def make_brain(rng: np.random.Generator, shape: tuple[int, ...], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A skull-stripped head of smooth tissue and noise, with lesions of three kinds.

    Returns:
        (C,Z,Y,X) int16 and (Z,Y,X) uint8.
    """
    axes = np.ogrid[tuple(slice(-1, 1, complex(0, n)) for n in shape)]
    z, y, x = axes
    brain = (z / 0.92) ** 2 + (y / 0.85) ** 2 + (x / 0.7) ** 2 < 1
    image = np.zeros((channels, *shape), np.int16)
    for voxels in image:
        tissue = 400 + 120 * _field(rng, shape, 12) + 60 * _field(rng, shape, 40)
        voxels[brain] = np.clip(tissue + rng.normal(0, 12, shape), 1, 4000)[brain].astype(np.int16)
    spots = _field(rng, shape, 14)
    label = np.zeros(shape, np.uint8)
    for value, limit in ((1, 2.0), (2, 2.4), (3, 2.8)):
        label[brain & (spots > limit)] = value
    return image, label


def _field(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """(Z,Y,X) float32 of mean 0 and deviation 1, with about that many waves across."""
    coarse = rng.normal(size=[min(cells, n) for n in shape])
    field = ndimage.zoom(coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=3).astype(np.float32)
    return (field - field.mean()) / field.std()
