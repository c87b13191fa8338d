"""Adapt the weights of one network to another: loaded as they are, changed to fit, or left random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.core.errors import ModelError
from autoseg.core.records import TransferReport
from autoseg.core.text import join_names
from autoseg.networks import NetworkParts
from autoseg.transfer.kernels import MEAN, adapt_channels, fit_kernel, match_channels

STATISTICS = "running_mean"  # a buffer that batch norm has, and no other norm
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


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
