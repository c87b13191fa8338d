"""Adapt the weights of one network to another: loaded as they are, changed to fit, or left random.

Image channels are matched by name; kernels are adapted so that their response stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.core.errors import ModelError
from autoseg.core.records import TransferReport
from autoseg.core.text import join_names
from autoseg.networks import NetworkParts

STATISTICS = "running_mean"  # a buffer that batch norm has, and no other norm
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
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


@dataclass(frozen=True, kw_only=True)
class SourceModel:
    """Weights of a trained model and their meaning.

    Attributes:
        name: as given by the user.
        weights: parameter name -> tensor.
        channels: names of its image channels, in order.
        outputs: logits per voxel, or None where it does not predict labels.
        overlap: its outputs are regions.
    """

    name: str
    weights: Mapping[str, Tensor]
    channels: tuple[str, ...]
    outputs: int | None
    overlap: bool


@dataclass(frozen=True, kw_only=True)
class AdaptedWeights:
    """Initial weights of a network.

    Attributes:
        weights: name -> tensor, of all that is not random.
        report: shares loaded, adapted and random.
    """

    weights: dict[str, Tensor]
    report: TransferReport


def adapt_weights(
    source: SourceModel,
    network: nn.Module,
    parts: NetworkParts,
    *,
    configuration: str,
    channels: Sequence[str],
    outputs: int,
    overlap: bool,
) -> AdaptedWeights:
    """Adapt the weights of a model to a planned network.

    Image channels are matched by name, kernels are fitted to the network's sizes and axes, and the head is taken when
    both predict as many classes, or as many regions.

    Args:
        source: model with the weights.
        network: planned; only its names, shapes and kinds of layers are used.
        parts: of it.
        configuration: its name.
        channels: names of its image channels, in order.
        outputs, overlap: of its logits.

    Raises:
        ModelError: the weights have other norms than the network, or are not finite.
    """
    matched = match_channels(source.channels, channels)
    head = _head_mismatch(source, outputs, overlap)
    current = network.state_dict()
    _check_norms(source, current)
    fitted: dict[str, Tensor] = {}
    adapted: dict[str, str] = {}
    for name, tensor in current.items():
        if parts.of[name] == "head" and head is not None:
            continue
        values, changes = _fit_tensor(name, tensor, network, parts, matched, source)
        if values is None:
            continue
        if not bool(torch.isfinite(values).all()):
            raise ModelError(f"{source.name} has values in {name} that are NaN or infinite; use another model")
        fitted[name] = values.to(tensor.dtype).contiguous()
        if changes:
            adapted[name] = changes
    sizes = {name: weight.numel() for name, weight in network.named_parameters()}
    total = sum(sizes.values())
    changed = sum(n for name, n in sizes.items() if name in adapted)
    loaded = sum(n for name, n in sizes.items() if name in fitted)
    report = TransferReport(
        source=source.name,
        configuration=configuration,
        parameters=total,
        loaded=(loaded - changed) / total,
        adapted=changed / total,
        random=(total - loaded) / total,
        channels={channel: MEAN if n is None else source.channels[n] for channel, n in matched.items()},
        head=head or "loaded",
        adapted_tensors=adapted,
        random_tensors=tuple(name for name in sizes if name not in fitted),
        unused_tensors=tuple(sorted(set(source.weights) - set(current))),
    )
    return AdaptedWeights(weights=fitted, report=report)


def describe_report(report: TransferReport) -> str:
    """The report as a sentence for the log."""
    channels = ", ".join(f"{to} from {'the mean of all' if of == MEAN else of}" for to, of in report.channels.items())
    return (
        f"{report.configuration}: weights of {report.source}: {report.loaded:.1%} of {report.parameters} parameters "
        f"loaded, {report.adapted:.1%} adapted, {report.random:.1%} random; channels: {channels}; head: {report.head}"
    )


def check_share(report: TransferReport, least_share: float) -> None:
    """Refuse initial weights that are mostly random.

    Raises:
        ModelError: too few parameters are loaded or adapted.
    """
    share = report.loaded + report.adapted
    if share < least_share:
        first = join_names(report.random_tensors, limit=3)
        raise ModelError(
            f"{report.source} has weights for only {share:.1%} of the parameters of {report.configuration}, and "
            f"{least_share:.0%} are required (random: {first}); use a model of the same network, or lower --least-share"
        )


def _head_mismatch(source: SourceModel, outputs: int, overlap: bool) -> str | None:
    """Reason for a random head; None where the source's can be loaded."""
    if source.outputs is None:
        return "random: the source predicts no labels"
    if source.overlap != overlap:
        kinds = ("classes", "regions")
        return f"random: the source predicts {kinds[source.overlap]}, the plan {kinds[overlap]}"
    if source.outputs != outputs:
        return f"random: the source has {source.outputs} outputs, the plan {outputs}"
    return None


def _check_norms(source: SourceModel, current: Mapping[str, Tensor]) -> None:
    """Refuse batch norm in one network only: its weights belong to running statistics that other norms do not have."""
    for name in current:
        stem, _, last = name.rpartition(".")
        if last != "weight" or name not in source.weights or source.weights[name].ndim != 1:
            continue
        statistics = f"{stem}.{STATISTICS}"
        in_source, in_plan = statistics in source.weights, statistics in current
        if in_source != in_plan:
            has = ("instance or group norm", "batch norm")
            raise ModelError(
                f"{source.name} has {has[in_source]} at {stem}, but the planned network has {has[in_plan]}, which "
                f"needs other weights; use a model of the same network"
            )


def _fit_tensor(
    name: str,
    current: Tensor,
    network: nn.Module,
    parts: NetworkParts,
    matched: Mapping[str, int | None],
    source: SourceModel,
) -> tuple[Tensor | None, str]:
    """A tensor of the source in the network's shape, and its changes; None where it does not fit."""
    values = source.weights.get(name)
    if values is None:
        return None, ""
    changes = []
    axis = parts.inputs.get(name)
    same_order = list(matched.values()) == list(range(len(source.channels)))
    if axis is not None and not same_order and values.ndim > axis and values.shape[axis] == len(source.channels):
        values = adapt_channels(values, matched, axis)
        changes.append("channels")
    if values.shape != current.shape and current.ndim >= 4 and values.ndim >= 4:
        before = values.shape[2:]
        module = network.get_submodule(name.rpartition(".")[0])
        fitted = fit_kernel(values, current.shape[2:], transposed=isinstance(module, TRANSPOSED))
        if fitted is None:
            return None, ""
        values = fitted
        changes.append(f"kernel {'x'.join(map(str, before))} to {'x'.join(map(str, current.shape[2:]))}")
    return (None, "") if values.shape != current.shape else (values, ", ".join(changes))


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
