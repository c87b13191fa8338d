"""Rule 6: halvings and kernels of each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.core.records import NetworkSettings
from autoseg.planning.presets import Preset

MIN_SIZE = 4  # voxels that an axis keeps at the coarsest stage
NEAR = 2.0  # axes whose spacings differ by less are treated alike
NO_LIMIT = 99


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The shape of a U-Net.

    Attributes:
        kernels, strides: per stage and axis, finest stage first.
        patch: the input size, padded to what the strides divide.
    """

    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]

    @property
    def divisors(self) -> tuple[int, ...]:
        """Numbers that the axes of the input must be multiples of."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    @property
    def pooling_steps(self) -> tuple[int, ...]:
        """Number of halvings per axis."""
        return tuple(int(math.log2(divisor)) for divisor in self.divisors)


def plan_topology(spacing: Sequence[float], size: Sequence[float], limits: Sequence[int] | None = None) -> Topology:
    """The stages for an input of a given size: each halves the axes that are fine enough and long enough.

    Args:
        spacing: mm per axis.
        size: voxels per axis of the requested input, which the topology pads.
        limits: the most halvings per axis.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on network topology.
    """
    axes = range(len(spacing))
    allowed = limits or [NO_LIMIT] * len(spacing)
    now, left = list(spacing), [float(n) for n in size]
    kernel, pooling_steps = [1] * len(spacing), [0] * len(spacing)
    kernels, strides = [], [(1,) * len(spacing)]
    while halved := _axes_to_halve(now, left, pooling_steps, allowed):
        # 6a. Kernel 1 along an axis until its spacing is within a factor of 2 of the finest, then 3 for good.
        kernel = [3 if kernel[a] == 3 or now[a] / min(now) < NEAR else 1 for a in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if a in halved else 1 for a in axes))
        for axis in halved:
            pooling_steps[axis] += 1
            now[axis] *= 2
            left[axis] = math.ceil(left[axis] / 2)
    kernels.append((3,) * len(spacing))  # 6b. the coarsest stage sees all axes
    divisors = [2**n for n in pooling_steps]
    # A requested size below MIN_SIZE is padded: the coarsest stage needs several voxels for its norm.
    least = [MIN_SIZE if n else 1 for n in pooling_steps]
    patch = tuple(max(least[a], math.ceil(size[a] / divisors[a]) * divisors[a]) for a in axes)
    return Topology(kernels=tuple(kernels), strides=tuple(strides), patch=patch)


def _axes_to_halve(
    spacing: Sequence[float], size: Sequence[float], pooling_steps: Sequence[int], limits: Sequence[int]
) -> list[int]:
    """The axes that the next stage halves; an empty list ends the network, but every network halves once."""
    large = [a for a in range(len(size)) if size[a] >= 2 * MIN_SIZE]
    if not large and not any(pooling_steps):  # a tiny image, padded to MIN_SIZE
        return [a for a in range(len(size)) if spacing[a] / min(spacing) < NEAR]
    # 6c. Only axes within a factor of 2 of the finest that can still be halved, so that voxels become cubes.
    near = [a for a in large if spacing[a] / min(spacing[b] for b in large) < NEAR and pooling_steps[a] < limits[a]]
    # 6d. A lone axis must be longer: halving it alone makes voxels less cubic.
    if len(near) == 1 and size[near[0]] < 3 * MIN_SIZE and any(pooling_steps):
        return []
    return near


def describe_network(preset: Preset, topology: Topology, base_features: int) -> NetworkSettings:
    """6e. The network settings of a topology: features double per stage up to a limit."""
    stages, dimensions = len(topology.kernels), len(topology.patch)
    limit = preset.max_features[dimensions - 2] * base_features // preset.base_features
    return NetworkSettings(
        name=preset.network,
        features=tuple(min(limit, base_features * 2**i) for i in range(stages)),
        kernels=topology.kernels,
        strides=topology.strides,
        encoder_blocks=_extend(preset.encoder_blocks, stages),
        decoder_blocks=_extend(preset.decoder_blocks, stages - 1),
    )


def _extend(blocks: tuple[int, ...], stages: int) -> tuple[int, ...]:
    return (*blocks, *(blocks[-1:] * stages))[:stages]
