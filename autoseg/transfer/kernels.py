"""Adapt one tensor of a trained network to another: channels by name, kernels by their response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Synonyms, in lower case and without blanks, hyphens and underscores.
SYNONYMS = (
    ("t1", "t1w"),
    ("t2", "t2w"),
    ("flair", "t2flair", "fluidattenuatedinversionrecovery"),
    ("pd", "pdw"),
    ("t1c", "t1ce", "t1gd", "t1contrast", "t1wgd"),
)
_CANONICAL = {name: names[0] for names in SYNONYMS for name in names}
MEAN = "mean"


def match_channels(source: Sequence[str], target: Sequence[str]) -> dict[str, int | None]:
    """Channel of the target -> the number of the source's channel of the same name, or None.

    Case, blanks, hyphens and underscores do not count, and a few names are synonyms (T1 and T1w).
    """
    numbers = {_canonical(name): number for number, name in reversed(list(enumerate(source)))}
    return {name: numbers.get(_canonical(name)) for name in target}


def _canonical(name: str) -> str:
    bare = name.casefold().replace(" ", "").replace("-", "").replace("_", "")
    return _CANONICAL.get(bare, bare)


def adapt_channels(kernel: Tensor, matched: Mapping[str, int | None], axis: int) -> Tensor:
    """Adapt a kernel to the channels of another dataset.

    A channel without a match takes the mean of all the source's kernels, scaled by the source's channels over ours,
    so that the sum over channels of equal images keeps its size.

    Args:
        kernel: any shape, the source's channels along ``axis``.
        matched: per channel of ours the number of the source's, or None.

    Source: Carreira & Zisserman 2017, arXiv:1705.07750, for the mean that keeps the response.
    """
    mean = kernel.mean(axis) * (kernel.shape[axis] / len(matched))
    parts = [mean if number is None else kernel.select(axis, number) for number in matched.values()]
    return torch.stack(parts, axis)


def fit_kernel(kernel: Tensor, size: Sequence[int], *, transposed: bool) -> Tensor | None:
    """Adapt a convolution's kernel to other axes or another size; None where that is not possible.

    A missing first axis is added (2D to 3D) or taken away. Along an axis, the response to a constant input
    stays: a kernel of one voxel is repeated and divided, and one reduced to one voxel is summed up; other sizes
    are cut or padded with zeros around the centre. A transposed convolution gives each output voxel its own weight, so
    there a voxel is repeated without dividing, and the mean is taken.

    Args:
        kernel: (out,in,*size) float, or (in,out,*size) of a transposed convolution.
        size: of the result, per spatial axis.
        transposed: of a transposed convolution whose stride is its size.

    Source: Carreira & Zisserman 2017, arXiv:1705.07750 (inflation).
    """
    axes, target = kernel.ndim - 2, list(size)
    if axes + 1 == len(target):
        kernel = kernel.unsqueeze(2)
    elif axes == len(target) + 1:
        target = [1, *target]
    elif axes != len(target):
        return None
    for axis, n in enumerate(target, start=2):
        fitted = _fit_axis(kernel, axis, n, transposed=transposed)
        if fitted is None:
            return None
        kernel = fitted
    return kernel.squeeze(2) if axes == len(size) + 1 else kernel


def _fit_axis(kernel: Tensor, axis: int, n: int, *, transposed: bool) -> Tensor | None:
    before = kernel.shape[axis]
    if before == n:
        return kernel
    if before == 1:
        repeated = kernel.repeat_interleave(n, axis)
        return repeated if transposed else repeated / n
    if n == 1:
        return kernel.mean(axis, keepdim=True) if transposed else kernel.sum(axis, keepdim=True)
    if transposed or (before - n) % 2:
        return None
    if n < before:
        return kernel.narrow(axis, (before - n) // 2, n)
    shape = list(kernel.shape)
    shape[axis] = (n - before) // 2
    zeros = kernel.new_zeros(shape)
    return torch.cat((zeros, kernel, zeros), axis)
