"""Augmentation parameters of one patch, drawn: a pure function of the random numbers and the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from autoseg.core.records import AugmentationSettings

_CONTROL_POINTS = 7  # per axis of the smooth random fields: four spans of a cubic spline
_ELASTIC_SHARE = 0.05  # largest standard deviation of a control point, as a share of the patch

Operation = Literal["dilate", "erode", "open", "close"]
_OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True, kw_only=True)
class MaskChange:
    """A morphological operation on one mask channel of a cascade.

    Attributes:
        channel: its number among the masks.
        operation: dilation, erosion, opening or closing.
        radius: of the ball that does it, voxels.
    """

    channel: int
    operation: Operation
    radius: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """Every parameter of one sample; a neutral value means that nothing is done.

    Attributes:
        matrix: (3,3) float64, from offsets to the patch's centre to offsets in the volume, or None to only copy.
        elastic: (3,k,k,k) float32 control points of a displacement in voxels, or None.
        mirrored: whether each axis is flipped.
        noise_std: of Gaussian noise; 0 is none.
        noise_seed: of that noise.
        blur: (C,3) float64 Gaussian sigma in voxels per channel and axis; 0 is none.
        brightness, contrast, low_resolution, inverted_gamma, gamma: (C,) float64; 1 is none.
        bias: (C,k,k,k) float32 control points of the logarithm of a smooth factor, or None.
        plane_only: low resolution keeps that of the first axis.
        mask_morphology: changes of mask channels, in their order; none outside a cascade.
        component_draws: one number from 0 to below 1 per mask channel, picking the component that it loses; or none.
        sources: the channel that each channel is a copy of; or none, where each is itself.
    """

    matrix: np.ndarray | None
    elastic: np.ndarray | None
    mirrored: tuple[bool, bool, bool]
    noise_std: float
    noise_seed: int
    blur: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    low_resolution: np.ndarray
    bias: np.ndarray | None
    inverted_gamma: np.ndarray
    gamma: np.ndarray
    plane_only: bool
    mask_morphology: tuple[MaskChange, ...] = ()
    component_draws: tuple[float, ...] = ()
    sources: tuple[int, ...] = ()


def draw_change(
    rng: np.random.Generator,
    settings: AugmentationSettings,
    *,
    channels: int,
    shape: Sequence[int],
    flat: bool,
    masks: int = 0,
) -> Change:
    """Draw every parameter of one sample, always in the same order, what concerns masks and copies last.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z. Its "variance" of the noise is in truth used as the standard
    deviation; so it is here.

    Args:
        channels: of the image, masks not counted.
        shape: voxels per axis (Z,Y,X) of the patch.
        flat: the patch is one slice (2D), and mirror axes count within it.
        masks: channels that a cascade's source adds.
    """
    in_plane = flat or settings.in_plane
    axes = [axis + flat for axis in settings.mirror_axes]

    def happens(probability: float) -> bool:
        return bool(rng.random() < probability)

    def per_channel(probability: float, share: float, draw: Callable[[], float]) -> np.ndarray:
        if not happens(probability):
            return np.ones(channels)
        return np.array([draw() if happens(share) else 1.0 for _ in range(channels)])

    matrix = _draw_matrix(rng, settings, in_plane=in_plane)
    elastic = _draw_displacement(rng, shape, in_plane=in_plane) if happens(settings.elastic_probability) else None
    mirrored = [axis in axes and happens(0.5) for axis in range(3)]
    noise_std = rng.uniform(*settings.noise_variance) if happens(settings.noise_probability) else 0.0
    blurred = happens(settings.blur_probability)
    chosen = rng.random((channels, 1)) < (settings.blur_per_channel if blurred else 0.0)
    return Change(
        matrix=np.eye(3) if matrix is None and elastic is not None else matrix,
        elastic=elastic,
        mirrored=(mirrored[0], mirrored[1], mirrored[2]),
        noise_std=float(noise_std),
        noise_seed=int(rng.integers(2**63)),
        blur=chosen * rng.uniform(*settings.blur_sigma, size=(channels, 3)),
        brightness=per_channel(settings.brightness_probability, 1, lambda: _around_one(rng, settings.brightness)),
        contrast=per_channel(settings.contrast_probability, 1, lambda: _around_one(rng, settings.contrast)),
        low_resolution=per_channel(
            settings.low_resolution_probability,
            settings.low_resolution_per_channel,
            lambda: rng.uniform(*settings.low_resolution),
        ),
        bias=_draw_points(rng, channels, settings.bias_field) if happens(settings.bias_field_probability) else None,
        inverted_gamma=per_channel(settings.inverted_gamma_probability, 1, lambda: _around_one(rng, settings.gamma)),
        gamma=per_channel(settings.gamma_probability, 1, lambda: _around_one(rng, settings.gamma)),
        plane_only=in_plane,
        mask_morphology=(
            _draw_morphology(rng, settings, masks) if masks and happens(settings.mask_shape_probability) else ()
        ),
        component_draws=tuple(rng.random(masks)) if masks and happens(settings.mask_removal_probability) else (),
        sources=_draw_sources(rng, settings),
    )


def _draw_sources(rng: np.random.Generator, settings: AugmentationSettings) -> tuple[int, ...]:
    if not settings.substitution_probability or rng.random() >= settings.substitution_probability:
        return ()
    return settings.substitutions[rng.integers(len(settings.substitutions))]


def _draw_morphology(rng: np.random.Generator, settings: AugmentationSettings, masks: int) -> tuple[MaskChange, ...]:
    """One for each channel, in random order: the last to gain a voxel keeps it."""
    low, high = settings.mask_shape_radius
    return tuple(
        MaskChange(
            channel=int(channel),
            operation=_OPERATIONS[rng.integers(len(_OPERATIONS))],
            radius=int(rng.integers(low, high + 1)),
        )
        for channel in rng.permutation(masks)
    )


def _around_one(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Below 1 and above 1 equally often, however lopsided the range is."""
    lower, upper = limits
    below = lower < 1 and rng.random() < 0.5
    return float(rng.uniform(lower, min(upper, 1)) if below else rng.uniform(max(lower, 1), max(upper, 1)))


def _draw_matrix(rng: np.random.Generator, settings: AugmentationSettings, *, in_plane: bool) -> np.ndarray | None:
    """Rotation times scale; a scale above 1 reaches further out, so lesions become smaller."""
    rotates, scales = rng.random(2) < (settings.rotation_probability, settings.scale_probability)
    angles = np.radians(rng.uniform(*settings.rotation_degrees, size=3)) * rotates
    factor = rng.uniform(*settings.scale) if scales else 1.0
    if not rotates and not scales:
        return None
    if in_plane:
        return rotation(0, angles[0]) @ np.diag([1, factor, factor])
    return rotation(0, angles[0]) @ rotation(1, angles[1]) @ rotation(2, angles[2]) * factor


def rotation(axis: int, angle: float) -> np.ndarray:
    """(3,3) rotation by an angle (radians) about one axis."""
    a, b = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def _draw_displacement(rng: np.random.Generator, shape: Sequence[int], *, in_plane: bool) -> np.ndarray:
    points = _draw_points(rng, 3, rng.uniform(0, _ELASTIC_SHARE)) * np.reshape(shape, (3, 1, 1, 1)).astype(np.float32)
    if in_plane:
        points[0] = 0
    return points


def _draw_points(rng: np.random.Generator, fields: int, std: float) -> np.ndarray:
    """(fields,k,k,k) float32 normal control points."""
    return rng.standard_normal((fields, *(_CONTROL_POINTS,) * 3), dtype=np.float32) * np.float32(std)
