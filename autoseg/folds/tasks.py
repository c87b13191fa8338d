"""What a fold's network learns: where it begins, on which batches, by which loss, and how that is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from autoseg.core.records import Fold, Plan, PreparedCase
from autoseg.folds.data import open_batches
from autoseg.folds.initial_weights import load_initial_weights_into
from autoseg.folds.validation import quick_validation
from autoseg.losses import DeepLoss, build_loss
from autoseg.model import planned_network
from autoseg.networks import Part, find_parts
from autoseg.training import Ranks
from autoseg.training.run import BatchSource

Prepared = Mapping[str, PreparedCase]
Validate = Callable[[nn.Module], float | None]


class TrainingTask(Protocol):
    """Whatever can be learned in a fold; every method is given the plan as it stands now."""

    def network(self, plan: Plan, name: str, *, fresh: bool) -> nn.Module:
        """The network; ``fresh`` with the weights that it begins with, else with any."""

    def parts(self, plan: Plan, name: str) -> Mapping[str, Part]:
        """Name of every parameter and buffer -> its part, where they are trained apart."""

    def batches(
        self,
        plan: Plan,
        name: str,
        cases: Sequence[PreparedCase],
        *,
        seed: Sequence[int],
        device: torch.device,
        ranks: Ranks,
    ) -> AbstractContextManager[BatchSource]:
        """Endless batches of the cases."""

    def loss(self, plan: Plan, name: str) -> DeepLoss:
        """Of the outputs and the batch's target."""

    def validate(
        self,
        plan: Plan,
        name: str,
        fold: Fold,
        prepared: Prepared,
        device: torch.device,
        should_stop: Callable[[], bool],
    ) -> Validate | None:
        """A score while training, or None."""


class SegmentationTask:
    """The labels of a dataset.

    Args:
        starts: folder of the starting weights that plans name.
    """

    def __init__(self, starts: Path) -> None:
        self.starts = starts

    def network(self, plan: Plan, name: str, *, fresh: bool) -> nn.Module:
        """The planned network, with the weights that the plan has it begin with."""
        network = planned_network(plan, name, seed=plan.seed)
        if fresh:
            load_initial_weights_into(network, plan, name, self.starts)
        return network

    def parts(self, plan: Plan, name: str) -> Mapping[str, Part]:
        """The parts of a network that begins with another's weights."""
        configuration = plan.configurations[name]
        if configuration.transfer is None:
            return {}
        return find_parts(
            configuration.network,
            dimensions=configuration.dimensions,
            input_channels=plan.count_inputs(name),
            output_channels=len(plan.outputs.values),
        ).of

    def batches(
        self,
        plan: Plan,
        name: str,
        cases: Sequence[PreparedCase],
        *,
        seed: Sequence[int],
        device: torch.device,
        ranks: Ranks,
    ) -> AbstractContextManager[BatchSource]:
        """Augmented patches with their labels."""
        return open_batches(plan, name, cases, seed=seed, device=device, ranks=ranks)

    def loss(self, plan: Plan, name: str) -> DeepLoss:
        """The planned loss."""
        settings = plan.configurations[name].loss
        return build_loss(settings, regions=tuple(plan.regions.values()), ignore_label=plan.ignore_label)

    def validate(
        self,
        plan: Plan,
        name: str,
        fold: Fold,
        prepared: Prepared,
        device: torch.device,
        should_stop: Callable[[], bool],
    ) -> Validate | None:
        """Dice of whole held-out volumes."""
        return quick_validation(plan, name, fold.validation, prepared, device, should_stop)
