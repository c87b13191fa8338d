"""Layers of several networks: one table per kind of layer by number of axes; convolution blocks; residual stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from autoseg.core.records import NetworkSettings
from autoseg.networks.stages import LEAKY_SLOPE

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
BATCH_NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEAR = {2: "bilinear", 3: "trilinear"}


def convolve(
    dimensions: int,
    before: int,
    after: int,
    kernel: Sequence[int],
    *,
    stride: Sequence[int] | int = 1,
    dilation: Sequence[int] | int = 1,
    active: bool = True,
) -> nn.Sequential:
    """A convolution that keeps its input's size but for the stride, with norm and, if active, leaky ReLU.

    Args:
        dimensions: 2 or 3.
        before, after: channels in and out.
        kernel: odd sizes per axis.
    """
    steps = (dilation,) * dimensions if isinstance(dilation, int) else tuple(dilation)
    padding = tuple(n // 2 * d for n, d in zip(kernel, steps, strict=True))
    convolution = CONVOLUTIONS[dimensions](before, after, tuple(kernel), stride, padding, steps, bias=False)
    layers = [convolution, NORMS[dimensions](after, affine=True)]
    return nn.Sequential(*layers, *([nn.LeakyReLU(LEAKY_SLOPE, inplace=True)] * active))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, which is projected where the size or the channels change.

    Args:
        dimensions: 2 or 3.
        before, after: channels in and out.
        kernel, stride, dilation: per axis.
    """

    def __init__(
        self,
        dimensions: int,
        before: int,
        after: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            convolve(dimensions, before, after, kernel, stride=tuple(stride), dilation=dilation),
            convolve(dimensions, after, after, kernel, dilation=dilation, active=False),
        )
        changes = before != after or any(n > 1 for n in stride)
        around = convolve(dimensions, before, after, (1,) * dimensions, stride=tuple(stride), active=False)
        self.around: nn.Module = around if changes else nn.Identity()
        self.active = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,before,*spatial) float -> (B,after,*spatial / stride)."""
        return self.active(self.convolutions(x) + self.around(x))


def make_dilated_stages(settings: NetworkSettings, dimensions: int, input_channels: int) -> nn.ModuleList:
    """The plan's residual encoder; a stage beyond the first with stride 1 doubles the dilation instead.

    Source: Chen et al. 2017, arXiv:1706.05587, section 3.1.
    """
    stages, before, dilation = [], input_channels, 1
    for i, after in enumerate(settings.features):
        stride, kernel = settings.strides[i], settings.kernels[i]
        if i and all(n == 1 for n in stride):
            dilation *= 2
        steps = [dilation if n > 1 else 1 for n in kernel]
        blocks = [ResidualBlock(dimensions, before, after, kernel, stride, steps)]
        for _ in range(settings.encoder_blocks[i] - 1):
            blocks.append(ResidualBlock(dimensions, after, after, kernel, (1,) * dimensions, steps))
        stages.append(nn.Sequential(*blocks))
        before = after
    return nn.ModuleList(stages)


def limit_strides(strides: tuple[tuple[int, ...], ...], limit: int) -> tuple[tuple[int, ...], ...]:
    """Strides whose product per axis stays within a limit; further strides become 1."""
    total = [1] * len(strides[0])
    limited = []
    for stride in strides:
        limited_stride = tuple(n if t * n <= limit else 1 for n, t in zip(stride, total, strict=True))
        total = [t * n for t, n in zip(total, limited_stride, strict=True)]
        limited.append(limited_stride)
    return tuple(limited)
