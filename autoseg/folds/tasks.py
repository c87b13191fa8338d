"""Training tasks: initial network, batches, loss and validation of what a fold's network learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from torch import nn

from autoseg.core.records import PreparedCase, Pretraining
from autoseg.folds.data import open_batches
from autoseg.folds.initial_weights import load_initial_weights_into
from autoseg.folds.setup import FoldSetup
from autoseg.folds.validation import quick_validation
from autoseg.losses import DeepLoss, build_loss
from autoseg.model import planned_network
from autoseg.networks import Part, build_network, find_parts
from autoseg.training import BatchSource
from autoseg.transfer.masking import MaskedBatches, masked_loss

Validate = Callable[[nn.Module], float | None]


class TrainingTask(Protocol):
    """A task that the network of a fold can be trained on."""

    def network(self, setup: FoldSetup, *, fresh: bool) -> nn.Module:
        """The network on the CPU; ``fresh`` with its initial weights, else with any."""

    def parts(self, setup: FoldSetup) -> Mapping[str, Part]:
        """Name of every parameter and buffer -> its part, where the parts are trained differently."""

    def batches(self, setup: FoldSetup, cases: Sequence[PreparedCase]) -> AbstractContextManager[BatchSource]:
        """Endless batches of the cases."""

    def loss(self, setup: FoldSetup) -> DeepLoss:
        """The loss of the outputs and a batch's target."""

    def validate(
        self, setup: FoldSetup, cases: Mapping[str, PreparedCase], should_stop: Callable[[], bool]
    ) -> Validate | None:
        """A score of a network while training, or None."""


class SegmentationTask:
    """Segmentation of a dataset's labels.

    Args:
        starts: folder of the initial weights that plans name.
    """

    def __init__(self, starts: Path) -> None:
        self.starts = starts

    def network(self, setup: FoldSetup, *, fresh: bool) -> nn.Module:
        """The planned network, with its planned initial weights."""
        network = planned_network(setup.plan, setup.configuration_name, seed=setup.plan.seed)
        if fresh:
            load_initial_weights_into(network, setup.plan, setup.configuration_name, self.starts)
        return network

    def parts(self, setup: FoldSetup) -> Mapping[str, Part]:
        """The parts of a network that is initialised with another's weights."""
        plan, configuration = setup.plan, setup.configuration
        if configuration.transfer is None:
            return {}
        return find_parts(
            configuration.network,
            dimensions=configuration.dimensions,
            input_channels=plan.count_inputs(setup.configuration_name),
            output_channels=len(plan.outputs.values),
        ).of

    def batches(self, setup: FoldSetup, cases: Sequence[PreparedCase]) -> AbstractContextManager[BatchSource]:
        """Augmented patches with their labels."""
        return open_batches(
            setup.plan,
            setup.configuration_name,
            cases,
            seed=setup.batch_seed,
            device=setup.device,
            ranks=setup.ranks,
        )

    def loss(self, setup: FoldSetup) -> DeepLoss:
        """The planned loss."""
        plan = setup.plan
        regions = tuple(plan.regions.values())
        return build_loss(setup.configuration.loss, regions=regions, ignore_label=plan.ignore_label)

    def validate(
        self, setup: FoldSetup, cases: Mapping[str, PreparedCase], should_stop: Callable[[], bool]
    ) -> Validate | None:
        """Mean Dice of whole held-out volumes."""
        held_out = setup.fold.validation
        return quick_validation(setup.plan, setup.configuration_name, held_out, cases, setup.device, should_stop)


class MaskedReconstructionTask:
    """Reconstruction of masked blocks: the planned network with one output per image channel.

    Args:
        facts: block and share.
    """

    def __init__(self, facts: Pretraining) -> None:
        self.facts = facts

    def network(self, setup: FoldSetup, *, fresh: bool) -> nn.Module:
        """The planned network with its input images as output."""
        configuration, channels = setup.configuration, setup.configuration.image_inputs
        network = build_network(
            configuration.network,
            dimensions=configuration.dimensions,
            input_channels=channels,
            output_channels=channels,
            seed=setup.plan.seed,
        )
        network.deep_supervision = False  # type: ignore[assignment]
        return network

    def parts(self, setup: FoldSetup) -> Mapping[str, Part]:
        """None: all parts are trained alike."""
        return {}

    @contextmanager
    def batches(self, setup: FoldSetup, cases: Sequence[PreparedCase]) -> Iterator[BatchSource]:
        """Patches drawn evenly over the scans, with blocks masked."""
        name, seed, facts = setup.configuration_name, setup.batch_seed, self.facts
        with open_batches(setup.plan, name, cases, seed=seed, device=setup.device, ranks=setup.ranks) as batches:
            yield MaskedBatches(batches, block=facts.block, share=facts.masked_share, seed=seed)

    def loss(self, setup: FoldSetup) -> DeepLoss:
        """The error in masked voxels only."""
        return masked_loss

    def validate(
        self, setup: FoldSetup, cases: Mapping[str, PreparedCase], should_stop: Callable[[], bool]
    ) -> Validate | None:
        """None: no case is held out."""
        return None
