"""Raw datasets in nnU-Net's layout: hippocampus scans, and made-up scans that call for every step of preprocessing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

TRAINED = 10
NEW = 6

# One head seen from another side, not along any axis of the scanner.
OBLIQUE = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]]) @ np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.8, -0.6], [0.0, 0.6, 0.8]]
)


def write_hippocampus(source: Path, folder: Path) -> None:
    """The first scans of Task04_Hippocampus: about 1 mm in every direction, cropped by their makers."""
    cases = sorted(path for path in (source / "imagesTr").glob("hippo*.nii.gz"))
    for number, path in enumerate(cases[: TRAINED + NEW]):
        name = path.name.removesuffix(".nii.gz")
        image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
        label = sitk.ReadImage(str(source / "labelsTr" / path.name), sitk.sitkUInt8)
        _write_case(folder, name, [image], label, trained=number < TRAINED)
    _describe(folder, ("MRI",), {"background": 0, "Anterior": 1, "Posterior": 2})


def write_thick(folder: Path, *, small: bool = False) -> None:
    """Two channels, slices of 4.5 to 6 mm that are the last array axis, zeros around the head, oblique."""
    rng = np.random.default_rng(1)
    sizes = ((11, 13), (36, 43), (32, 38)) if small else ((18, 24), (88, 104), (80, 96))
    radii, name = ((4, 7), "small") if small else ((6, 12), "thick")
    for number in range(TRAINED + NEW):
        spacing = (rng.uniform(4.5, 6), rng.uniform(0.9, 1.2), rng.uniform(0.9, 1.2))
        shape = tuple(int(rng.integers(*size)) for size in sizes)
        voxels, label = _make_head(rng, shape, spacing, channels=2, classes=2, radii=radii)
        voxels = np.round(voxels) if small else voxels  # so that its files are small, too
        # Sagittal slices: the file's fastest axis is the coarse one.
        turned = [np.ascontiguousarray(array.transpose(1, 2, 0)) for array in (*voxels, label)]
        grid = (spacing[1], spacing[2], spacing[0])
        images = [_make_image(array, grid) for array in turned]
        _write_case(folder, f"{name}_{number:03d}", images[:-1], images[-1], trained=number < TRAINED)
    _describe(folder, ("FLAIR", "T1"), {"background": 0, "lesion": 1, "core": 2})


def write_regions(folder: Path) -> None:
    """One CT-like and one MRI channel, 1 to 1.4 mm, overlapping regions and a value to ignore."""
    rng = np.random.default_rng(2)
    for number in range(TRAINED + NEW):
        spacing = tuple(rng.uniform(1.0, 1.4, 3))
        shape = tuple(int(n) for n in rng.integers(52, 64, 3))
        voxels, label = _make_head(rng, shape, spacing, channels=2, classes=3)
        label[label > 0] = np.where(rng.random(int((label > 0).sum())) < 0.02, 4, label[label > 0])
        images = [_make_image(array, spacing) for array in (*voxels, label)]
        _write_case(folder, f"regions_{number:03d}", images[:-1], images[-1], trained=number < TRAINED)
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    _describe(folder, ("CT", "T2"), labels, regions_class_order=[1, 2, 3])


def _make_head(
    rng: np.random.Generator,
    shape: Sequence[int],
    spacing: Sequence[float],
    *,
    channels: int,
    classes: int,
    radii: tuple[float, float] = (6, 12),
) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid of smooth noise in zeros, a hole of zeros within, and nested bright lesions."""
    places = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    middle = [n * s / 2 + rng.uniform(-3, 3) for n, s in zip(shape, spacing, strict=True)]
    size = [0.38 * n * s for n, s in zip(shape, spacing, strict=True)]
    inside = sum(((p - m) / r) ** 2 for p, m, r in zip(places, middle, size, strict=True)) < 1
    noise = [ndimage.gaussian_filter(rng.normal(size=shape), [2 / s for s in spacing]) for _ in range(channels)]
    voxels = np.stack([300 + 400 * n + rng.normal(0, 8, shape) for n in noise])
    label = np.zeros(shape, np.uint8)
    for _ in range(int(rng.integers(2, 5))):
        centre = [m + rng.uniform(-0.5, 0.5) * r for m, r in zip(middle, size, strict=True)]
        distance = np.sqrt(sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)))
        radius = rng.uniform(*radii)
        for number in range(classes):
            within = (distance < radius * (1 - number / classes)) & inside
            label[within] = number + 1
            for channel in range(channels):
                voxels[channel][within] += 90 if channel == number % channels else 40
    voxels[:, ~inside] = 0
    voxels[:, np.sqrt(sum((p - m) ** 2 for p, m in zip(places, middle, strict=True))) < radii[0] * 5 / 6] = 0
    label[voxels[0] == 0] = 0
    return voxels.astype(np.float32), label


def _make_image(voxels: np.ndarray, spacing: Sequence[float]) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([float(s) for s in spacing[::-1]])
    image.SetDirection(OBLIQUE.ravel().tolist())
    image.SetOrigin((-40.0, 25.0, 12.5))
    return image


def _write_case(folder: Path, name: str, images: Sequence[sitk.Image], label: sitk.Image, *, trained: bool) -> None:
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for channel, image in enumerate(images):
        sitk.WriteImage(image, str(folder / ("imagesTr" if trained else "imagesTs") / f"{name}_{channel:04d}.nii.gz"))
    if trained:
        sitk.WriteImage(label, str(folder / "labelsTr" / f"{name}.nii.gz"))


def _describe(folder: Path, channels: Sequence[str], labels: dict[str, object], **more: object) -> None:
    described = {
        "channel_names": {str(i): channel for i, channel in enumerate(channels)},
        "labels": labels,
        "numTraining": TRAINED,
        "file_ending": ".nii.gz",
        **more,
    }
    (folder / "dataset.json").write_text(json.dumps(described, indent=2))
