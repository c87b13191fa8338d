"""Grids, and voxels with their grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from pydantic import model_validator

from autoseg.core.records.base import Record

SIDES = ("LR", "PA", "SI")  # of the head, where the world's x, y and z grow and shrink: left, posterior, superior


class Grid(Record):
    """Position of voxels in the scanner's world (LPS, mm).

    ``world(index) = origin + direction @ (index * spacing)`` with the index in array order (Z,Y,X).

    Attributes:
        shape: voxels along (Z,Y,X).
        spacing: mm along (z,y,x).
        origin: world (x,y,z) in mm of the centre of voxel (0,0,0).
        direction: 3x3, one row per world axis (x,y,z), one column per array axis (z,y,x).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]] = (
        (0.0, 0.0, 1.0),
        (0.0, 1.0, 0.0),
        (1.0, 0.0, 0.0),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.shape) < 1 or min(self.spacing) <= 0:
            raise ValueError(f"shape {self.shape} and spacing {self.spacing} must be positive")
        return self

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return math.prod(self.spacing) / 1000

    def matches(self, grid: Grid, *, tolerance_mm: float = 1e-2) -> bool:
        """True when every voxel of both grids lies at the same place to within the tolerance."""
        return self.shape == grid.shape and self.distance_mm(grid) <= tolerance_mm

    def distance_mm(self, grid: Grid) -> float:
        """Largest distance along one axis between a corner of this grid and the same corner of the given one."""
        sides = np.array(list(product((0, 1), repeat=3)))
        corners, others = (g.to_world(sides * (np.array(g.shape) - 1)) for g in (self, grid))
        return float(np.abs(corners - others).max())

    def turned_degrees(self, grid: Grid) -> float | None:
        """Angle of the rotation between the axes of both grids; None where one is a mirror image of the other."""
        rotation = np.asarray(self.direction).T @ np.asarray(grid.direction)
        if np.linalg.det(rotation) < 0:
            return None
        return math.degrees(math.acos(float(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))

    def to_world(self, index: np.ndarray) -> np.ndarray:
        """(..., 3) float, voxel indices (z,y,x) -> (..., 3) float64, world (x,y,z) mm."""
        return np.asarray(self.origin) + (np.asarray(index) * np.asarray(self.spacing)) @ np.asarray(self.direction).T

    def describe(self) -> str:
        """Shape, spacing, origin and the directions of the axes in one readable clause."""
        shape = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{o:.4g}" for o in self.origin)
        return f"{shape} voxels (z,y,x) at {spacing} mm, origin ({origin}), axes to {self._describe_axes()}"

    def describe_difference(self, grid: Grid) -> str:
        """Clause on how far apart two grids are: ``axes turned by 25 degrees, corners up to 8 mm apart``."""
        degrees = self.turned_degrees(grid)
        turned = "axes mirrored" if degrees is None else f"axes turned by {degrees:.3g} degrees"
        clauses = [turned] * (degrees is None or degrees >= 0.01)
        return ", ".join([*clauses, f"corners up to {self.distance_mm(grid):.3g} mm apart"])

    def _describe_axes(self) -> str:
        """The side of the head that each axis runs to, and by how much it misses: ``S, P, L (25 degrees off)``."""
        direction = np.asarray(self.direction)
        worlds = np.abs(direction).argmax(axis=0)
        sides = [SIDES[world][int(direction[world, axis] < 0)] for axis, world in enumerate(worlds)]
        off = math.degrees(math.acos(float(np.clip(np.abs(direction).max(axis=0).min(), 0, 1))))
        return ", ".join(sides) + (f" ({off:.3g} degrees off)" if off >= 0.01 else "")


@dataclass(frozen=True, kw_only=True)
class Image:
    """Scan voxels on a grid.

    Attributes:
        voxels: (C,Z,Y,X) float32, scanner units.
        grid: their geometry.
    """

    voxels: np.ndarray
    grid: Grid


@dataclass(frozen=True, kw_only=True)
class Label:
    """Reference or predicted label on a grid.

    Attributes:
        voxels: (Z,Y,X) integer, one value per class; 0 is background.
        grid: their geometry.
    """

    voxels: np.ndarray
    grid: Grid


class Placement(Record):
    """Placement of preprocessed voxels in the scan: the steps and their inverse, in forward order.

    Attributes:
        grid: the scan's own grid.
        transpose: array axis of the scan that each preprocessed axis came from.
        flips: for each preprocessed axis, whether it runs against the scan's axis.
        crop: (start, stop) per axis of the reoriented scan; outside lies only background.
        cropped_spacing: mm per axis of the reoriented scan.
        shape: preprocessed voxels per axis, after resampling.
    """

    grid: Grid
    transpose: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    crop: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    cropped_spacing: tuple[float, float, float]
    shape: tuple[int, int, int]

    @property
    def cropped_shape(self) -> tuple[int, int, int]:
        """Voxels per axis after the crop, before resampling."""
        (a, b), (c, d), (e, f) = self.crop
        return b - a, d - c, f - e
