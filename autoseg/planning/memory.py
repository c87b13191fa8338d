"""Rule 7a: cost of a network, counted from its settings alone: convolution outputs and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.planning.presets import Preset


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One convolution of one sample.

    Attributes:
        elements: numbers in its output.
        taps: multiply-adds per output.
    """

    elements: int
    taps: int


def count_conv_elements(network: NetworkSettings, patch: Sequence[int], *, output_channels: int) -> int:
    """Convolution output elements of one sample, finest head only; training memory is proportional to them.

    Args:
        network: the planned network.
        patch: voxels per axis.
        output_channels: logits per voxel.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z; equal to its networks' own estimate.
    """
    return sum(conv.elements for conv in list_convolutions(network, patch, 1, output_channels))


def count_gflop(network: NetworkSettings, patch: Sequence[int], input_channels: int, output_channels: int) -> float:
    """Billions of multiplications and additions of one forward pass of one sample, finest head only."""
    convolutions = list_convolutions(network, patch, input_channels, output_channels)
    return sum(2 * conv.elements * conv.taps for conv in convolutions) / 1e9


def step_gflop(forward_gflop: float, batch: int) -> float:
    """Arithmetic of one training step: the backward pass costs twice the forward one."""
    return 3 * forward_gflop * batch


def budget_elements(preset: Preset, dimensions: int, memory_gb: float) -> float:
    """Convolution outputs of one sample that fit at the reference batch: in proportion to the memory.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z; arXiv 2404.09556 for residual encoders.
    """
    return preset.reference_elements[dimensions - 2] * (memory_gb / preset.reference_gb)


def list_convolutions(
    network: NetworkSettings, patch: Sequence[int], input_channels: int, output_channels: int
) -> Iterator[Convolution]:
    """Every convolution of a U-Net, encoder, decoder and finest head; nnU-Net's reference numbers count no other head.

    Raises:
        PlanError: a network whose convolutions are not listed here.
    """
    encoders = {"unet": _plain_stage, "residual_unet": _residual_stage}
    if network.name not in encoders:
        raise PlanError(f"the cost of network '{network.name}' is unknown; choose from: {', '.join(encoders)}")
    sizes, size = [], list(patch)
    for stride in network.strides:
        size = [n // s for n, s in zip(size, stride, strict=True)]
        sizes.append(math.prod(size))
    before = input_channels
    if network.name == "residual_unet":
        before = network.features[0]
        yield _convolution(sizes[0], network.kernels[0], input_channels, before)
    for stage, after in enumerate(network.features):
        yield from encoders[network.name](network, stage, sizes[stage], before)
        before = after
    for stage in range(len(sizes) - 1):
        yield from _decoder_stage(network, stage, sizes[stage])
    yield _convolution(sizes[0], (1,), network.features[0], output_channels)


def _convolution(voxels: int, kernel: Sequence[int], before: int, after: int) -> Convolution:
    return Convolution(elements=voxels * after, taps=math.prod(kernel) * before)


def _plain_stage(network: NetworkSettings, stage: int, voxels: int, before: int) -> Iterator[Convolution]:
    after = network.features[stage]
    for block in range(network.encoder_blocks[stage]):
        yield _convolution(voxels, network.kernels[stage], after if block else before, after)


def _residual_stage(network: NetworkSettings, stage: int, voxels: int, before: int) -> Iterator[Convolution]:
    after = network.features[stage]
    for block in range(network.encoder_blocks[stage]):
        inputs = after if block else before
        yield _convolution(voxels, network.kernels[stage], inputs, after)
        yield _convolution(voxels, network.kernels[stage], after, after)
        is_strided = block == 0 and math.prod(network.strides[stage]) > 1
        if inputs != after:
            yield _convolution(voxels, (1,), inputs, after)
        elif is_strided:  # only pooled, but its output is kept as well
            yield Convolution(elements=voxels * after, taps=0)


def _decoder_stage(network: NetworkSettings, stage: int, voxels: int) -> Iterator[Convolution]:
    below, features = network.features[stage + 1], network.features[stage]
    yield _convolution(voxels, (1,), below, features)  # transposed, kernel = stride: one tap per output voxel
    for block in range(network.decoder_blocks[stage]):
        yield _convolution(voxels, network.kernels[stage], features if block else 2 * features, features)
