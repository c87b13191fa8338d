"""A brain drawn from a random stream: how much of each tissue every voxel holds.

Shapes are ellipsoids in mm around the centre; the folded cortex is where a random field of a gyrus's wavelength
changes its sign, which in three dimensions is a set of curved sheets, as sulci are. Nothing here is measured: it only
has to look and behave like a brain to a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

FIELD_OF_VIEW = (144.0, 192.0, 168.0)  # mm along (z,y,x): inferior to superior, anterior to posterior, right to left
TISSUES = ("fluid", "grey", "white", "deep")


@dataclass(frozen=True, kw_only=True)
class Brain:
    """One brain on a grid.

    Attributes:
        tissues: (4,Z,Y,X) float32, share of each of ``TISSUES`` in a voxel; they add up to 1 in the brain, else 0.
        mask: (Z,Y,X) bool, brain.
        ventricle_distance: (Z,Y,X) float32, rough distance from the lateral ventricles in mm.
        height: (Z,Y,X) float32, mm above the centre.
    """

    tissues: np.ndarray
    mask: np.ndarray
    ventricle_distance: np.ndarray
    height: np.ndarray


def grid_spacing(shape: tuple[int, int, int]) -> tuple[float, float, float]:
    """The spacing in mm (z,y,x) at which a shape fills the field of view."""
    z, y, x = (size / n for size, n in zip(FIELD_OF_VIEW, shape, strict=True))
    return z, y, x


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], width: float) -> np.ndarray:
    """A random field with mean 0 and deviation 1, smooth over ``width`` mm.

    Returns:
        (Z,Y,X) float32.
    """
    sigmas = [width / step for step in grid_spacing(shape)]
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigmas, mode="wrap")
    return (field - field.mean()) / field.std()


def draw_brain(rng: np.random.Generator, shape: tuple[int, int, int]) -> Brain:
    """Draw one brain: cerebrum with folded cortex, ventricles and deep nuclei; cerebellum; stem."""
    z, y, x = _coordinates(rng, shape)
    cerebrum, cerebellum, stem = _outlines(z, y, x)
    depth = np.maximum(np.maximum(cerebrum, cerebellum), stem)
    in_cerebellum = (cerebellum > np.maximum(cerebrum, stem)) & (cerebellum > 0)
    in_stem = (stem > np.maximum(cerebrum, cerebellum)) & (stem > 0)

    cortex = np.minimum(cerebrum, _sulci(rng, shape, cerebrum, wavelength=13, reach=17))
    fissure = np.abs(x + 1.5 * smooth_field(rng, shape, 15)) + np.maximum(cerebrum - 30, 0) * 1.5
    cortex = np.minimum(cortex, np.where(z > -30, fissure, 99))
    sylvian = np.hypot(z + 6 - 0.5 * y, np.maximum(40 - np.abs(x), 0) / 1.2) + np.maximum(np.abs(y + 8) - 26, 0)
    cortex = np.minimum(cortex, np.maximum(sylvian - 1, 0))
    folia = _sulci(rng, shape, cerebellum, wavelength=10, reach=14)
    cortex = np.where(in_cerebellum, np.minimum(cerebellum, folia + 0.8), cortex)
    cortex = np.where(in_stem, stem + 3, cortex)

    size = rng.uniform(0.75, 1.5)
    ventricles = _ventricles(z, y, x, size)
    fluid = np.maximum(_step(1.0 - cortex, 0.8), _step(ventricles, 0.8))
    grey = _step(4.6 - cortex, 1.0)
    deep = np.maximum(_step(_nuclei(z, y, x, size), 1.0), 0.6 * in_stem)
    mask = depth > 0
    shares = np.stack(
        [fluid, (1 - fluid) * grey, (1 - fluid) * (1 - grey) * (1 - deep), (1 - fluid) * (1 - grey) * deep]
    )
    return Brain(
        tissues=(shares * mask).astype(np.float32),
        mask=mask,
        ventricle_distance=np.maximum(-ventricles, 0).astype(np.float32),
        height=z.astype(np.float32),
    )


def _coordinates(rng: np.random.Generator, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each voxel's place in mm in an average brain: scaled, turned a little and warped from case to case."""
    axes = [(np.arange(n) + 0.5 - n / 2) * step for n, step in zip(shape, grid_spacing(shape), strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    turn, tilt = np.deg2rad(rng.uniform(-6, 6, 2))
    y, x = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
    z, x = np.cos(tilt) * z - np.sin(tilt) * x, np.sin(tilt) * z + np.cos(tilt) * x
    shift = rng.uniform(-3, 3, 3)
    scale = rng.uniform(0.94, 1.06, 3)
    warped = [
        (values - move) / size + 2.5 * smooth_field(rng, shape, 22)
        for values, move, size in zip((z, y, x), shift, scale, strict=True)
    ]
    return warped[0], warped[1], warped[2]


def _outlines(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cerebrum with temporal lobes, cerebellum, stem: rough distance from the surface in mm, positive inside."""
    floor = z + 24 + 0.16 * y  # the frontal lobes' floor lies higher than the occipital lobes'
    hemispheres = np.minimum(_ellipsoid(z, y, x, (2, 0, 0), (58, 82, 66)), floor)
    temporal = _ellipsoid(z, y, np.abs(x), (-20, -2, 37), (23, 42, 20))
    cerebrum = np.maximum(hemispheres, temporal)
    cerebellum = _ellipsoid(z, y, x, (-40, 44, 0), (22, 29, 46))
    stem = np.minimum(15 - np.hypot(x, y - 12 + 0.25 * (z + 40)), z + 66)
    return cerebrum, cerebellum, np.where(z < -14, stem, -20)


def _ellipsoid(
    z: np.ndarray, y: np.ndarray, x: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]
) -> np.ndarray:
    """Rough distance from the surface in mm, positive inside."""
    parts = ((values - c) / r for values, c, r in zip((z, y, x), centre, radii, strict=True))
    return (1 - np.sqrt(sum(part**2 for part in parts))) * min(radii)


def _sulci(
    rng: np.random.Generator, shape: tuple[int, int, int], depth: np.ndarray, *, wavelength: float, reach: float
) -> np.ndarray:
    """Rough distance in mm from the sheets that fold in from the surface, no deeper than ``reach``."""
    field = smooth_field(rng, shape, wavelength / 3.2)
    slope = np.sqrt(sum(np.gradient(field, step, axis=axis) ** 2 for axis, step in enumerate(grid_spacing(shape))))
    return np.abs(field) / np.maximum(slope, 0.5 * slope.mean()) + np.maximum(depth - reach, 0) * 1.5


def _ventricles(z: np.ndarray, y: np.ndarray, x: np.ndarray, size: float) -> np.ndarray:
    """Lateral ventricles (body and posterior horn) and the third; positive inside, mm."""
    side = np.abs(x)
    body = _ellipsoid(z, y, side - 0.10 * np.abs(y), (12, -2, 8), (7 * size, 34, 5 * size))
    horn = _ellipsoid(z, y, side, (4, 34, 22), (6 * size, 16, 5 * size))
    third = _ellipsoid(z, y, x, (-4, 2, 0), (9, 13, 2.5 * size))
    return np.maximum(np.maximum(body, horn), third)


def _nuclei(z: np.ndarray, y: np.ndarray, x: np.ndarray, size: float) -> np.ndarray:
    """Thalamus, putamen and caudate on both sides; positive inside, mm."""
    side = np.abs(x)
    thalamus = _ellipsoid(z, y, side, (1, 8, 10 + size), (8, 13, 8))
    putamen = _ellipsoid(z, y, side - 0.2 * y, (1, -8, 25), (9, 16, 5))
    caudate = _ellipsoid(z, y, side, (8, -20, 11 + 2 * size), (9, 9, 4.5))
    return np.maximum(np.maximum(thalamus, putamen), caudate)


def _step(distance: np.ndarray, width: float) -> np.ndarray:
    """0 outside to 1 inside over about four widths, as partial volume makes it."""
    return 0.5 * (1 + np.tanh(distance / width))
