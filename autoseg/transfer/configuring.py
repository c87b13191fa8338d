"""Adapt a planned configuration to the model with its initial weights: network, spacing, normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.core.errors import MemoryShortageError, PlanError
from autoseg.core.records import (
    NEIGHBOUR,
    ChannelNormalization,
    Configuration,
    MemoryFacts,
    NetworkSettings,
    Plan,
    PreprocessingSettings,
)
from autoseg.networks import fit_settings, network_traits
from autoseg.planning import reduce_memory
from autoseg.planning.pricing import Cost, price_configuration
from autoseg.planning.training import weigh_heads
from autoseg.transfer.adapting import match_channels
from autoseg.transfer.sources import TransferSource

WARMUP_SHARE = 0.05
LARGEST_STRETCH = 2.0  # ratio of spacings up to which the source's is used
LEAST_BATCH = 2


@dataclass(frozen=True, kw_only=True)
class TransferConfiguration:
    """A configuration that fits the weights of a model.

    Attributes:
        configuration: without ``transfer``.
        reasons: field -> reason of its value.
        memory: of a training step.
    """

    configuration: Configuration
    reasons: dict[str, str]
    memory: MemoryFacts


def fit_configuration(plan: Plan, base: str, source: TransferSource, *, cost: Cost) -> TransferConfiguration:
    """A planned configuration with the network of a model, and the spacing and normalisation of its training.

    Args:
        plan: of the dataset.
        base: name of the configuration.
        source: the model.
        cost: prices a step.

    Raises:
        PlanError: the network cannot be built for this dataset's patches.
        MemoryShortageError: it does not fit the budget.
    """
    planned, name = plan.configurations[base], source.model.name
    settings = fit_axes(source.network, planned.network)
    patch = planned.patch_size
    if network_traits(settings.name).needs_patch_size and source.patch_size and source.dimensions == planned.dimensions:
        patch = source.patch_size
    divisor = network_traits(settings.name).divisor(settings)
    patch, tile = _round_up(patch, divisor), _round_up(planned.tiling.tile_size, divisor)
    if network_traits(settings.name).fixed_input_size or planned.tiling.tile_size == planned.patch_size:
        tile = patch
    network = fit_settings(settings, dimensions=planned.dimensions, patch=patch)
    preprocessing, preprocessing_reasons = _fit_preprocessing(planned.preprocessing, source, plan.channels)
    heads = weigh_heads(len(network.features) - 1) if network.deep_supervision else ()
    optimiser = planned.optimiser
    warmup = max(optimiser.warmup_share, WARMUP_SHARE)
    fitted = planned.model_copy(
        update={
            "preprocessing": preprocessing,
            "patch_size": patch,
            "network": network,
            "loss": planned.loss.model_copy(update={"deep_supervision_weights": heads}),
            "optimiser": optimiser.model_copy(update={"warmup_share": warmup}),
            "tiling": planned.tiling.model_copy(update={"tile_size": tile}),
        }
    )
    fitted = Configuration.model_validate(fitted.model_dump())
    fitted, gigabytes = _fit_memory(fitted, plan, base, cost)
    reasons = {key.partition(".")[2]: reason for key, reason in plan.reasons.items() if key.partition(".")[0] == base}
    reasons |= preprocessing_reasons | {
        "network": f"That of {name}, so that its weights fit ({network.name}, {len(network.features)} stages).",
        "patch_size": f"As {base}, in multiples of the network's strides {'x'.join(map(str, divisor))}.",
        "loss": f"As {base}; heads weighted {', '.join(f'{w:g}' for w in heads) or '1'}, finest first.",
        "tiling": f"As {base}, with tiles of {'x'.join(map(str, tile))} voxels.",
        "optimiser": f"As {base}; the rate rises over the first {warmup:.0%}, so that learned weights are not lost.",
        "batch_size": f"{fitted.batch_size} samples; a step needs about {gigabytes:.2f} of {plan.memory_gb:g} GB.",
        "memory": f"A training step is predicted to need {gigabytes:.2f} GB of {plan.memory_gb:g} GB.",
    }
    return TransferConfiguration(
        configuration=fitted, reasons=reasons, memory=MemoryFacts(predicted_gb=round(gigabytes, 2))
    )


def fit_axes(network: NetworkSettings, planned: NetworkSettings) -> NetworkSettings:
    """A network's settings for another number of axes; an added first axis is as planned, stage by stage.

    Args:
        network: of the model.
        planned: for the dataset, with the target's axes.
    """
    source_axes, planned_axes = len(network.kernels[0]), len(planned.kernels[0])
    if source_axes == planned_axes:
        return network
    if source_axes > planned_axes:
        kernels, strides = ([size[1:] for size in sizes] for sizes in (network.kernels, network.strides))
    else:
        last = len(planned.kernels) - 1
        kernels = [(planned.kernels[min(i, last)][0], *size) for i, size in enumerate(network.kernels)]
        strides = [(planned.strides[i][0] if i <= last else 1, *size) for i, size in enumerate(network.strides)]
    return network.model_copy(update={"kernels": tuple(kernels), "strides": tuple(strides)})


def _fit_preprocessing(
    planned: PreprocessingSettings, source: TransferSource, channels: Sequence[str]
) -> tuple[PreprocessingSettings, dict[str, str]]:
    """The dataset's preprocessing with the source's normalisation and spacing, and the reasons."""
    trained, name = source.preprocessing, source.model.name
    if trained is None:
        return planned, {}
    images = [name for name in source.model.channels if NEIGHBOUR not in name]
    matched = match_channels(images[: len(trained.channels)], channels)
    schemes: list[ChannelNormalization] = [
        planned_channel if number is None else trained.channels[number]
        for planned_channel, number in zip(planned.channels, matched.values(), strict=True)
    ]
    taken = ", ".join(channel for channel, number in matched.items() if number is not None)
    reasons = {
        "preprocessing.channels": f"{taken or 'No channel'} as in {name}, the others as planned for the dataset."
    }
    spacing = planned.spacing
    if (planned.orientation, planned.axis_order) != (trained.orientation, trained.axis_order):
        reason = f"The dataset's own, because the axes of {name} are in another order."
    else:
        spacing = tuple(map(_nearer_spacing, planned.spacing, trained.spacing))  # type: ignore[assignment]
        reason = (
            f"That of {name} along every axis where it differs from the dataset's by at most a factor of "
            f"{LARGEST_STRETCH:g}."
        )
    reasons["preprocessing.spacing"] = reason
    return planned.model_copy(update={"channels": tuple(schemes), "spacing": spacing}), reasons


def _nearer_spacing(planned: float | None, trained: float | None) -> float | None:
    """The source's spacing along an axis, unless it differs too much from the dataset's."""
    if planned is None or trained is None:
        return planned
    return trained if max(planned / trained, trained / planned) <= LARGEST_STRETCH else planned


def _fit_memory(configuration: Configuration, plan: Plan, base: str, cost: Cost) -> tuple[Configuration, float]:
    """The configuration in the plan's memory: fewer samples, then exact savings that cost time."""
    while True:
        gigabytes = price_configuration(plan, configuration, cost, input_channels=plan.count_inputs(base))
        if gigabytes <= plan.memory_gb:
            return configuration, gigabytes
        if configuration.batch_size > LEAST_BATCH:
            fewer = max(LEAST_BATCH, math.floor(configuration.batch_size * plan.memory_gb / gigabytes))
            whole = configuration.training.model_copy(update={"accumulation": 1})
            configuration = configuration.model_copy(
                update={"batch_size": min(fewer, configuration.batch_size - 1), "training": whole}
            )
            continue
        cheaper = reduce_memory(configuration)
        if cheaper is None:
            raise MemoryShortageError(
                f"the network of the source needs about {gigabytes:.2g} GB to train, but the plan is for "
                f"{plan.memory_gb:g} GB; raise --memory, or use a smaller model"
            )
        configuration, _ = cheaper


def _round_up(size: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    if len(size) != len(divisor):
        raise PlanError(f"a network with strides {tuple(divisor)} cannot take patches of {tuple(size)} voxels")
    return tuple(-(-n // d) * d for n, d in zip(size, divisor, strict=True))
