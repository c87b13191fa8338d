"""The weights of one network put into another: what fits as it is, what is changed to fit, what begins at random."""

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
    """Weights to begin with, and what is known of them.

    Attributes:
        name: as the user named it.
        weights: parameter name -> tensor.
        channels: names of its image channels, in order.
        outputs: logits per voxel, or None where what it predicts are no labels.
        overlap: its outputs are regions.
    """

    name: str
    weights: Mapping[str, Tensor]
    channels: tuple[str, ...]
    outputs: int | None
    overlap: bool


@dataclass(frozen=True, kw_only=True)
class AdaptedWeights:
    """What a network begins with.

    Attributes:
        weights: name -> tensor, of all that does not begin at random.
        report: what became of every parameter.
    """

    weights: dict[str, Tensor]
    report: TransferReport


def adapt_weights(
    giver: SourceModel,
    network: nn.Module,
    parts: NetworkParts,
    *,
    configuration: str,
    channels: Sequence[str],
    outputs: int,
    overlap: bool,
) -> AdaptedWeights:
    """The weights of a model, made to fit a planned network.

    Image channels are matched by name, kernels are fitted to the network's sizes and axes, and the head is taken when
    both predict as many classes, or as many regions.

    Args:
        giver: the model.
        network: planned; only its names, shapes and kinds of layers are looked at.
        parts: of it.
        configuration: its name.
        channels: names of its image channels, in order.
        outputs, overlap: of its logits.

    Raises:
        ModelError: the weights have other norms than the network, or are not finite.
    """
    matched = match_channels(giver.channels, channels)
    head = _judge_head(giver, outputs, overlap)
    wanted = network.state_dict()
    _check_norms(giver, wanted)
    fitted: dict[str, Tensor] = {}
    adapted: dict[str, str] = {}
    for name, tensor in wanted.items():
        if parts.of[name] == "head" and head is not None:
            continue
        found, how = _fit(name, giver.weights.get(name), tensor, network, parts, matched, giver)
        if found is None:
            continue
        if not bool(torch.isfinite(found).all()):
            raise ModelError(f"{giver.name} has values in {name} that are NaN or infinite; use another model")
        fitted[name] = found.to(tensor.dtype).contiguous()
        if how:
            adapted[name] = how
    sizes = {name: weight.numel() for name, weight in network.named_parameters()}
    total = sum(sizes.values())
    changed = sum(n for name, n in sizes.items() if name in adapted)
    begun = sum(n for name, n in sizes.items() if name in fitted)
    report = TransferReport(
        source=giver.name,
        configuration=configuration,
        parameters=total,
        loaded=(begun - changed) / total,
        adapted=changed / total,
        random=(total - begun) / total,
        channels={own: MEAN if n is None else giver.channels[n] for own, n in matched.items()},
        head=head or "loaded",
        adapted_tensors=adapted,
        random_tensors=tuple(name for name in sizes if name not in fitted),
        unused_tensors=tuple(sorted(set(giver.weights) - set(wanted))),
    )
    return AdaptedWeights(weights=fitted, report=report)


def describe_report(report: TransferReport) -> str:
    """The report as a sentence for the log."""
    channels = ", ".join(f"{own} from {'the mean of all' if of == MEAN else of}" for own, of in report.channels.items())
    return (
        f"{report.configuration} begins as {report.source}: {report.loaded:.1%} of {report.parameters} parameters "
        f"loaded, {report.adapted:.1%} adapted, {report.random:.1%} random; channels: {channels}; head: {report.head}"
    )


def check_share(report: TransferReport, least_share: float) -> None:
    """Refuse a start that is mostly random.

    Raises:
        ModelError: too few parameters are loaded or adapted.
    """
    share = report.loaded + report.adapted
    if share < least_share:
        first = join_names(report.random_tensors, limit=3)
        raise ModelError(
            f"only {share:.1%} of the parameters of {report.configuration} can begin as in {report.source}, and at "
            f"least {least_share:.0%} are asked for (random are {first}); it is a model of another network: use "
            f"another one, or ask for less with --least-share"
        )


def _judge_head(giver: SourceModel, outputs: int, overlap: bool) -> str | None:
    """Why the head begins at random; None where it can be taken."""
    if giver.outputs is None:
        return "random: the source predicts no labels"
    if giver.overlap != overlap:
        kinds = ("classes", "regions")
        return f"random: the source predicts {kinds[giver.overlap]}, and {kinds[overlap]} are wanted"
    if giver.outputs != outputs:
        return f"random: the source has {giver.outputs} outputs, and {outputs} are wanted"
    return None


def _check_norms(giver: SourceModel, wanted: Mapping[str, Tensor]) -> None:
    """Batch norm scales by statistics that other norms do not have: its weights mean something else."""
    for name in wanted:
        stem, _, last = name.rpartition(".")
        if last != "weight" or name not in giver.weights or giver.weights[name].ndim != 1:
            continue
        statistics = f"{stem}.{STATISTICS}"
        theirs, ours = statistics in giver.weights, statistics in wanted
        if theirs != ours:
            has = ("instance or group norm", "batch norm")
            raise ModelError(
                f"{giver.name} has {has[theirs]} at {stem}, but the planned network has {has[ours]} there; weights "
                f"learned with one do not fit the other: use a model of the same network"
            )


def _fit(
    name: str,
    found: Tensor | None,
    wanted: Tensor,
    network: nn.Module,
    parts: NetworkParts,
    matched: Mapping[str, int | None],
    giver: SourceModel,
) -> tuple[Tensor | None, str]:
    """A tensor of the source in the shape that is wanted, and what was done to it; None where it does not fit."""
    if found is None:
        return None, ""
    how = []
    axis = parts.inputs.get(name)
    same = list(matched.values()) == list(range(len(giver.channels)))
    if axis is not None and not same and found.ndim > axis and found.shape[axis] == len(giver.channels):
        found = adapt_channels(found, matched, axis)
        how.append("channels")
    if found.shape != wanted.shape and wanted.ndim >= 4 and found.ndim >= 4:
        before = found.shape[2:]
        module = network.get_submodule(name.rpartition(".")[0])
        fitted = fit_kernel(found, wanted.shape[2:], transposed=isinstance(module, TRANSPOSED))
        if fitted is None:
            return None, ""
        found = fitted
        how.append(f"kernel {'x'.join(map(str, before))} to {'x'.join(map(str, wanted.shape[2:]))}")
    return (None, "") if found.shape != wanted.shape else (found, ", ".join(how))
