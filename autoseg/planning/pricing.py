"""What a training step of any network costs: bytes and arithmetic, predicted without running it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from autoseg.core.records import NetworkSettings

DEVICE_GB = 0.5  # what a GPU's driver and libraries, or the process on a CPU, hold before the first tensor


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
        averaged: averaged weights are kept beside.
        accumulated: this is one part of a batch of several.
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
    """What a step needs.

    Attributes:
        weights: bytes of weights, gradients and the optimiser's state.
        activations: bytes of everything else at the worst moment.
        forward_gflop: of one sample's forward pass.
        step_gflop: of the whole step.
    """

    weights: int
    activations: int
    forward_gflop: float
    step_gflop: float

    @property
    def gigabytes(self) -> float:
        """With the device's own share."""
        return DEVICE_GB + (self.weights + self.activations) / 1e9


Cost = Callable[[Step], Price]


def price_step(step: Step) -> Price:
    """Price a step of any registered network from a pass over tensors without numbers; takes a second or two.

    Raises:
        UsageError: there is no such network, or its package is not installed.
        PlanError: the network cannot be built so, or not for this patch.
    """
    # Here and not above: torch takes seconds to import, and the workers that measure cases never price anything.
    from autoseg.networks.memory import Optimiser, estimate_training_memory

    found = estimate_training_memory(
        step.network,
        dimensions=len(step.patch),
        input_channels=step.input_channels,
        output_channels=step.output_channels,
        patch=step.patch,
        batch=step.batch,
        optimiser=cast(Optimiser, step.optimiser),
        half=step.half,
        averaged=step.averaged,
        accumulated=step.accumulated,
    )
    activations = found.activations_peak + found.workspace
    if not step.half:
        # On a CPU the copy that a checkpoint is written from lies in the same memory, between two steps.
        activations = max(activations, found.parameters + found.optimiser_state)
    return Price(
        weights=found.parameters + found.gradients + found.optimiser_state,
        activations=activations,
        forward_gflop=found.forward_flops / step.batch / 1e9,
        step_gflop=found.step_flops / 1e9,
    )
