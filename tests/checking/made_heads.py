"""Twelve clean cases of two channels: heads that are not symmetrical, each with one lesion at a place of its own."""

import math

import numpy as np

from autoseg.core.images import write_voxels
from autoseg.core.records import Case, ChannelFile, Dataset, Grid

GRID = Grid(shape=(24, 28, 22), spacing=(2.0, 1.5, 1.5))
DATASET = Dataset(name="Made", kind="nnunet", channels=("FLAIR", "T1"), labels={"background": 0, "lesion": 1})
ANATOMY = (  # centre as a share of the head, radius as a share, FLAIR, T1
    ((0.5, 0.4, 0.4), 0.25, -60, -80),
    ((0.75, 0.6, 0.7), 0.2, 25, -30),
    ((0.3, 0.75, 0.3), 0.2, -20, 45),
    ((0.2, 0.3, 0.75), 0.15, 30, 30),
)


def make_case(seed):
    """(2,Z,Y,X) float32 and (Z,Y,X) uint8."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in GRID.shape), indexing="ij"))
    inside = (((places - 0.5) / (0.42, 0.44, 0.4)[0]) ** 2).sum(axis=0) < 1
    image = np.where(inside, np.array([120.0, 150.0])[:, None, None, None], 0)
    for centre, radius, *changes in ANATOMY:
        shifted = np.array(centre) + rng.normal(0, 0.01, 3)
        blob = (((places - shifted[:, None, None, None]) / radius) ** 2).sum(axis=0) < 1
        image[:, blob & inside] += np.array(changes)[:, None]
    turn = rng.uniform(0, 2 * math.pi)
    centre = 0.5 + 0.22 * np.array([rng.uniform(-1, 1), math.cos(turn), math.sin(turn)])
    lesion = (((places - centre[:, None, None, None]) / 0.1) ** 2).sum(axis=0) < 1
    image[:, lesion] += np.array([90.0, -60.0])[:, None]
    image = image * rng.uniform(0.8, 1.25) + np.where(inside, rng.normal(0, 4, image.shape), 0)
    return image.astype(np.float32), lesion.astype(np.uint8)


def write_case(folder, name, image, label, grid=GRID, **fields):
    """The case, its files written."""
    channels = []
    for number, voxels in enumerate(image):
        path = folder / f"{name}_{number:04d}.nii"
        write_voxels(path, np.ascontiguousarray(voxels, np.float32), grid)
        channels.append(ChannelFile(path=path))
    write_voxels(folder / f"{name}.nii", np.ascontiguousarray(label), grid)
    return Case(id=name, channels=tuple(channels), labels=(folder / f"{name}.nii",), **fields)
