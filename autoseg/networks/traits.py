"""Traits of a network, declared for the planner, and the settings that it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from autoseg.core.errors import PlanError
from autoseg.core.records import NetworkSettings
from autoseg.core.registry import unknown_name
from autoseg.networks.initial import Coverage

# A builder makes a network and draws its weights; ``forward(x: (B,C,*spatial)) -> list[logits]`` finest first, one
# per decoder stage, and a settable ``deep_supervision`` that, when False, gives a list of one without computing the
# others.
Builder = Callable[[NetworkSettings, int, int, int], nn.Module]

TOPOLOGY = frozenset({"features", "kernels", "strides", "encoder_blocks", "decoder_blocks"})
CHECKPOINTING = "checkpointing"  # option of every network with ``supports_checkpointing``
NORM = "norm"  # the option of networks that leave the kind of their norms open
BATCH_NORM = "batch"  # its value for those of batches
WEIGHTS = "weights"  # the option that names initial weights, of networks that have a ``begin``


def total_strides(settings: NetworkSettings) -> tuple[int, ...]:
    """The product of all strides per axis."""
    return tuple(math.prod(axis) for axis in zip(*settings.strides, strict=True))


Encoder = Callable[[NetworkSettings], tuple[str, ...]]


def encoder_named(*prefixes: str) -> Encoder:
    """Encoder whose parameter names have these prefixes, whatever the settings."""
    return lambda settings: prefixes


USUAL_ENCODER = encoder_named("encoder")  # with a number where there is one per stage


@dataclass(frozen=True, kw_only=True)
class NetworkTraits:
    """Traits of a network.

    Attributes:
        dimensions: supported numbers of spatial axes.
        follows: fields of its settings that shape it; the others are fixed by its architecture.
        least_stages: stages without which it is not itself.
        divisor: of some settings, what the input's voxels per axis must be multiples of.
        supports_deep_supervision: it can give logits at every decoder stage.
        supports_checkpointing: it has the option ``checkpointing``: activation checkpointing of its stages.
        needs_patch_size: it is built for one patch, given as the option ``patch_size``.
        fixed_input_size: it takes no other input size than that patch; the prediction tile must be equal to it.
        options: names of its own options.
        most_halvings: how often an axis may be halved at most; None sets no limit.
        usual_features: of the features that a plain U-Net would have per stage, those of this network as published.
        usual_strides: of the strides that a plain U-Net would have per stage, those of this network.
        usual_blocks: blocks per stage as published, of encoder and decoder, finest first; the last number repeats.
        normalises_batch: it always has batch norm: while training, samples are scaled by the statistics of all that go
            through together, so that gradient accumulation is another training; in prediction by running statistics.
        fixed: settings -> the same with the fields that its architecture determines; None leaves all to the plan.
        encoder: settings -> prefixes of the names of its encoder's parameters.
    """

    dimensions: tuple[int, ...] = (2, 3)
    follows: frozenset[str] = TOPOLOGY
    least_stages: int = 2
    divisor: Callable[[NetworkSettings], tuple[int, ...]] = total_strides
    supports_deep_supervision: bool = True
    supports_checkpointing: bool = True
    needs_patch_size: bool = False
    fixed_input_size: bool = False
    options: tuple[str, ...] = ()
    most_halvings: int | None = None
    usual_features: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple
    usual_strides: Callable[[tuple[tuple[int, ...], ...]], tuple[tuple[int, ...], ...]] = tuple
    usual_blocks: tuple[tuple[int, ...], tuple[int, ...]] = ((2,), (2,))
    normalises_batch: bool = False
    fixed: Callable[[NetworkSettings], NetworkSettings] | None = None
    encoder: Encoder = USUAL_ENCODER


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An entry of the table of networks.

    Attributes:
        build: how it is built.
        traits: what it can do.
        begin: puts the weights that the option ``weights`` names into a fresh network.
    """

    build: Builder
    traits: NetworkTraits
    begin: Callable[[nn.Module, NetworkSettings], Coverage] | None = None


def normalises_batch(settings: NetworkSettings, traits: NetworkTraits) -> bool:
    """Whether these settings of a network have batch norm, so that gradient accumulation changes the training."""
    return traits.normalises_batch or settings.options.get(NORM) == BATCH_NORM


def complete_settings(settings: NetworkSettings, traits: NetworkTraits, patch: Sequence[int]) -> NetworkSettings:
    """The settings with the options that this network requires, without those that it does not support.

    Args:
        settings: planned for any network.
        traits: of the one that they name.
        patch: voxels per axis of a training sample.
    """
    options = dict(settings.options)
    if traits.needs_patch_size:
        options["patch_size"] = tuple(patch)
    if not traits.supports_checkpointing:
        options.pop(CHECKPOINTING, None)
    deep = settings.deep_supervision and traits.supports_deep_supervision
    completed = settings.model_copy(update={"options": options, "deep_supervision": deep})
    return completed if traits.fixed is None else traits.fixed(completed)


def check_settings(settings: NetworkSettings, traits: NetworkTraits, dimensions: int) -> None:
    """Refuse settings that no network, or not this one, can have.

    Raises:
        PlanError: with what to change.
    """
    name = f"network '{settings.name}'"
    if dimensions not in traits.dimensions:
        exists = " and ".join(f"{n}D" for n in traits.dimensions)
        raise PlanError(f"{name} exists in {exists} only; plan another network for the {dimensions}D configuration")
    _check_fixed(settings, traits, name)
    stages = len(settings.features)
    if stages < traits.least_stages:
        raise PlanError(
            f"{name} needs at least {traits.least_stages} stages, but features has {stages}; give features, kernels, "
            f"strides and encoder_blocks {traits.least_stages} or more entries, or plan another network"
        )
    _check_sizes(settings, name, dimensions)
    if settings.deep_supervision and not traits.supports_deep_supervision:
        raise PlanError(f"{name} has no deep supervision; set deep_supervision to false")
    _check_options(settings, traits, name, dimensions)


def check_input_size(settings: NetworkSettings, traits: NetworkTraits, size: Sequence[int]) -> None:
    """Refuse an input that this network cannot take.

    Args:
        size: voxels per axis.

    Raises:
        PlanError: with the sizes that it can take.
    """
    name, divisor = f"network '{settings.name}'", traits.divisor(settings)
    if any(n % d for n, d in zip(size, divisor, strict=True)):
        raise PlanError(f"{name} cannot take {tuple(size)} voxels; use multiples of {divisor}")
    if math.prod(size) <= math.prod(total_strides(settings)):
        raise PlanError(
            f"{name} keeps a single voxel of {tuple(size)} at its coarsest stage, which its norm cannot scale; "
            f"use a larger patch or fewer stages"
        )
    if traits.fixed_input_size and tuple(size) != tuple(settings.options.get("patch_size", size)):
        raise PlanError(
            f"{name} is built for {tuple(settings.options['patch_size'])} voxels and cannot take {tuple(size)}; "
            f"set patch_size, tiling.tile_size and network.options.patch_size to the same numbers"
        )


def _check_fixed(settings: NetworkSettings, traits: NetworkTraits, name: str) -> None:
    """Refuse a plan whose topology differs from what the architecture determines."""
    if traits.fixed is None:
        return
    determined = traits.fixed(settings)
    for field in ("features", "kernels", "strides", "encoder_blocks", "decoder_blocks"):
        planned, actual = getattr(settings, field), getattr(determined, field)
        if planned != actual:
            raise PlanError(f"{name} has {field} {list(planned)}, but its encoder has {list(actual)}; use these")


def _check_sizes(settings: NetworkSettings, name: str, dimensions: int) -> None:
    for field, sizes in (("kernels", settings.kernels), ("strides", settings.strides)):
        wrong = next((size for size in sizes if len(size) != dimensions), None)
        if wrong is not None:
            raise PlanError(
                f"{name} has {field} {wrong}, but its input has {dimensions} spatial axes; give one per axis"
            )
    if math.prod(settings.strides[0]) != 1:
        raise PlanError(f"{name} has strides {settings.strides[0]} in its first stage; they must all be 1")
    even = next((kernel for kernel in settings.kernels if any(n % 2 == 0 for n in kernel)), None)
    if even is not None:
        raise PlanError(f"{name} has a kernel {even}; use odd numbers, so that a voxel stays in the middle")


def _check_options(settings: NetworkSettings, traits: NetworkTraits, name: str, dimensions: int) -> None:
    options = [CHECKPOINTING] * traits.supports_checkpointing + [*traits.options]
    options += ["patch_size"] * traits.needs_patch_size
    unknown = sorted(set(settings.options) - set(options))
    if unknown:
        raise PlanError(f"{unknown_name('option', unknown[0], options, of=name)}; edit network.options")
    if not traits.needs_patch_size:
        return
    patch = settings.options.get("patch_size")
    if patch is None:
        raise PlanError(f"{name} is built for one patch; set network.options.patch_size to the configuration's own")
    if len(patch) != dimensions:
        raise PlanError(f"{name} has the patch_size {tuple(patch)} among its options; give {dimensions} numbers")
    check_input_size(settings, traits, patch)
