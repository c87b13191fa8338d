"""Rule 7b: memory and arithmetic of a training step of any network, predicted without running it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from autoseg.core.records import Configuration, NetworkSettings, Plan
from autoseg.planning.presets import find_preset

DEVICE_GB = 0.5  # overhead of a GPU's driver and libraries, or of the process on a CPU, before the first tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step to be priced.

    Attributes:
        network: settings, complete for its architecture.
        input_channels, output_channels: of images and logits.
        patch: voxels per axis.
        batch: samples at once.
        optimiser: whose state is kept.
        half: mixed precision, as on a GPU.
        averaged: averaged weights are kept as well.
        accumulated: this is one of several parts of a batch.
    """

    network: NetworkSettings
    input_channels: int
    output_channels: int
    patch: tuple[int, ...]
    batch: int
    optimiser: str
    half: bool
    averaged: bool
    accumulated: bool


@dataclass(frozen=True, kw_only=True)
class Price:
    """Memory and arithmetic of a step.

    Attributes:
        weights: bytes of weights, gradients and the optimiser's state.
        activations: bytes of everything else at the peak.
        forward_gflop: of one sample's forward pass.
        step_gflop: of the whole step.
    """

    weights: int
    activations: int
    forward_gflop: float
    step_gflop: float

    @property
    def gigabytes(self) -> float:
        """All of it, with the device's overhead."""
        return DEVICE_GB + (self.weights + self.activations) / 1e9


Cost = Callable[[Step], Price]


def price_step(step: Step) -> Price:
    """Price a step of any registered network from a pass over fake tensors (shape and dtype only); a second or two.

    Raises:
        UsageError: there is no such network, or its package is not installed.
        PlanError: the network cannot be built so, or not for this patch.
    """
    # Here and not above: torch takes seconds to import, and the workers that measure cases never price anything.
    from autoseg.networks.memory import Optimiser, estimate_training_memory

    estimate = estimate_training_memory(
        step.network,
        (step.batch, step.input_channels, *step.patch),
        output_channels=step.output_channels,
        optimiser=cast(Optimiser, step.optimiser),
        half=step.half,
        averaged=step.averaged,
        accumulated=step.accumulated,
    )
    activations = estimate.activations_peak + estimate.workspace
    if not step.half:
        # On a CPU the copy that a checkpoint is written from is in the same memory, between two steps.
        activations = max(activations, estimate.parameters + estimate.optimiser_state)
    return Price(
        weights=estimate.parameters + estimate.gradients + estimate.optimiser_state,
        activations=activations,
        forward_gflop=estimate.forward_flops / step.batch / 1e9,
        step_gflop=estimate.step_flops / 1e9,
    )


def price_configuration(plan: Plan, configuration: Configuration, cost: Cost, *, input_channels: int) -> float:
    """Predicted GB of a training step of a configuration that is, or is to be, of the plan.

    Args:
        input_channels: of its network.
    """
    return cost(describe_step(plan, configuration, input_channels)).gigabytes


def describe_step(plan: Plan, configuration: Configuration, input_channels: int) -> Step:
    """The training step of a configuration, or of one part of it where gradients are accumulated."""
    training = configuration.training
    return Step(
        network=configuration.network,
        input_channels=input_channels,
        output_channels=len(plan.outputs.values),
        patch=configuration.patch_size,
        batch=configuration.batch_size // training.accumulation,
        optimiser=configuration.optimiser.name,
        half=find_preset(plan.preset, plan.compat).for_gpu,
        averaged=training.ema_decay > 0,
        accumulated=training.accumulation > 1,
    )
