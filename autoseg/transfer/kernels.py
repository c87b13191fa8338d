"""One tensor of a trained network made to fit another: channels by name, kernels by what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Names that mean exactly the same, in lower case and without blanks, hyphens and underscores.
SAME = (
    ("t1", "t1w"),
    ("t2", "t2w"),
    ("flair", "t2flair", "fluidattenuatedinversionrecovery"),
    ("pd", "pdw"),
    ("t1c", "t1ce", "t1gd", "t1contrast", "t1wgd"),
)
_MEANING = {name: names[0] for names in SAME for name in names}
MEAN = "mean"


def match_channels(source: Sequence[str], target: Sequence[str]) -> dict[str, int | None]:
    """Channel of the target -> the number of the source's channel of the same name, or None.

    Case, blanks, hyphens and underscores do not count, and a few names mean the same (T1 and T1w).
    """
    numbers = {_mean(name): number for number, name in reversed(list(enumerate(source)))}
    return {name: numbers.get(_mean(name)) for name in target}


def _mean(name: str) -> str:
    bare = name.casefold().replace(" ", "").replace("-", "").replace("_", "")
    return _MEANING.get(bare, bare)


def adapt_channels(kernel: Tensor, matched: Mapping[str, int | None], axis: int) -> Tensor:
    """A kernel over the channels of another dataset.

    A channel without a partner takes the mean of all the source's kernels, scaled by the source's channels over ours,
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
    """A convolution's kernel on other axes or of another size; None where there is no sensible way.

    A missing first axis is added (2D to 3D) or taken away. Along an axis, an input that does not change keeps its
    answer: a kernel of one voxel is repeated and divided, and one that shall have one voxel is summed up; other sizes
    are cut or padded with zeros around the centre. A transposed convolution gives each output voxel its own weight, so
    there a voxel is repeated without dividing, and the mean is taken.

    Args:
        kernel: (out,in,*size) float, or (in,out,*size) of a transposed convolution.
        size: wanted, per spatial axis.
        transposed: of a transposed convolution whose stride is its size.

    Source: Carreira & Zisserman 2017, arXiv:1705.07750 (inflation).
    """
    axes, wanted = kernel.ndim - 2, list(size)
    if axes + 1 == len(wanted):
        kernel = kernel.unsqueeze(2)
    elif axes == len(wanted) + 1:
        wanted = [1, *wanted]
    elif axes != len(wanted):
        return None
    for axis, n in enumerate(wanted, start=2):
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
