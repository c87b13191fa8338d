"""Rule 16: what a training step really needs and, where that is too much, what is given up, in which order.

nnU-Net never asks this: its budget is a number of convolution outputs. Here every configuration, of any network, is
priced in bytes. One that is too dear gives up, in this order and no more than it must: samples of the batch, filters,
speed (stages computed twice), samples at once (the batch in parts), and last the patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import Configuration, NetworkSettings
from autoseg.planning.patch import Fit, Task, explain_network, shorten
from autoseg.planning.presets import MIN_BATCH, Preset
from autoseg.planning.pricing import DEVICE_GB, Cost, Price, Step
from autoseg.planning.spacing import join
from autoseg.planning.topology import NO_LIMIT, Topology, describe_network, plan_topology

if TYPE_CHECKING:
    from autoseg.networks import NetworkTraits

WIDTHS = (1.0, 0.75, 0.5)  # shares of the preset's filters; narrower networks lose more than a slower step costs
GFLOP_TOLERANCE = 1.05


Describe = Callable[[Topology, int], NetworkSettings]


def settle(task: Task, fit: Fit, preset: Preset, *, budget_gb: float, cost: Cost) -> Fit:
    """What the rules chose, priced, and made cheaper where the budget does not hold it.

    Args:
        task: what the patch was planned for; its channels are those of the network.
        fit: what rules 5-8 chose.
        preset: one with ``keeps_budget`` False (nnU-Net's rules) is priced and left as it is.
        budget_gb: what training may use.
        cost: prices a step.

    Raises:
        MemoryShortageError: not even the cheapest fits.
    """

    def describe(topology: Topology, width: int) -> NetworkSettings:
        return describe_network(preset, topology, width)

    search = _Search(task, preset, budget_gb, cost, describe)
    planned = _Trial(topology=fit.topology, width=preset.base_features, batch=fit.batch)
    return search.settle(planned, fit)


def plan_variant(task: Task, fit: Fit, name: str, preset: Preset, *, budget_gb: float, cost: Cost) -> Fit:
    """Another network for the patch and batch that were chosen, so that the two can be compared; cheaper if it must.

    Args:
        task, fit, preset, budget_gb, cost: as for ``settle``.
        name: in the NETWORKS table.

    Raises:
        UsageError: there is no such network, or its package is not installed.
        PlanError: it cannot be built for this patch; the message says why.
        MemoryShortageError: not even the cheapest fits.
    """
    from autoseg.networks import fit_settings, network_traits

    traits = network_traits(name)
    encoder_blocks, decoder_blocks = traits.usual_blocks
    own = replace(preset, network=name, encoder_blocks=encoder_blocks, decoder_blocks=decoder_blocks)
    axes = len(task.shape)
    most = NO_LIMIT if traits.most_halvings is None else traits.most_halvings
    limits = [min(pools, most) for pools in fit.topology.pools]  # more halvings would pad the patch further

    def describe(topology: Topology, width: int) -> NetworkSettings:
        settings = describe_network(own, topology, width)
        usual = {
            "features": traits.usual_features(settings.features),
            "strides": traits.usual_strides(settings.strides),
        }
        return fit_settings(settings.model_copy(update=usual), dimensions=axes, patch=topology.patch)

    fixed = _fix_topology(describe_network(own, fit.topology, own.base_features), traits, axes)
    search = _Search(
        task,
        own,
        budget_gb,
        cost,
        describe,
        limits=limits,
        fixed=fixed,
        in_parts=not traits.normalises_batch,
        checkpoints=traits.supports_checkpointing,
    )
    planned = _Trial(topology=search.limit(fit.topology), width=own.base_features, batch=fit.batch)
    if preset.step_gflop is not None:
        planned = search.lighten(planned, preset.step_gflop * GFLOP_TOLERANCE)
    return search.settle(planned, fit)


def relieve(configuration: Configuration) -> tuple[Configuration, str] | None:
    """The same training in less memory, one sacrifice further, and what it is; None where there is none left.

    Only what leaves the weights and the batches as they are, so that a training under way can go on: first stages
    that are computed twice, then batches in more parts.
    """
    from autoseg.networks import network_traits, normalises_batch

    network, training = configuration.network, configuration.training
    traits = network_traits(network.name)
    if traits.supports_checkpointing and not network.options.get("checkpointing", False):
        slower = network.model_copy(update={"options": {**network.options, "checkpointing": True}})
        return configuration.model_copy(update={"network": slower}), "stages are computed twice (checkpointing)"
    more = range(training.accumulation + 1, configuration.batch_size + 1)
    parts = next((n for n in more if configuration.batch_size % n == 0), None)
    if parts is None or normalises_batch(network, traits):  # which parts would change
        return None
    divided = training.model_copy(update={"accumulation": parts})
    return configuration.model_copy(update={"training": divided}), f"batches go through in {parts} parts (accumulation)"


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A way to train.

    Attributes:
        topology: with the patch.
        width: features of the finest stage of a plain U-Net.
        batch: samples per step.
        checkpointing: stages are computed twice.
        accumulation: parts of a batch.
    """

    topology: Topology
    width: int
    batch: int
    checkpointing: bool = False
    accumulation: int = 1


class _Search:
    """The cheapest sacrifice that fits; every price is asked for once.

    Args:
        task, preset, budget_gb, cost: as for ``settle``.
        describe: topology and width -> settings.
        limits: the most halvings per axis.
        fixed: the topology of a network that has no other, whatever the patch; its width is no choice either.
        in_parts: batches may go through in parts; they may not where samples are scaled by all of their batch.
        checkpoints: stages may be computed twice.
    """

    def __init__(
        self,
        task: Task,
        preset: Preset,
        budget_gb: float,
        cost: Cost,
        describe: Describe,
        *,
        limits: list[int] | None = None,
        fixed: Topology | None = None,
        in_parts: bool = True,
        checkpoints: bool = True,
    ) -> None:
        self.task, self.preset, self.budget_gb, self.cost, self.describe = task, preset, budget_gb, cost, describe
        self.limits, self.fixed, self.in_parts, self.checkpoints = limits, fixed, in_parts, checkpoints
        self.prices: dict[_Trial, Price] = {}

    def settle(self, planned: _Trial, fit: Fit) -> Fit:
        """The planned trial or a cheaper one, as a fit with its reasons."""
        chosen = planned if not self.preset.keeps_budget or self.fits(planned) else self.cheapen(planned)
        price = self.price(chosen)
        return replace(
            fit,
            topology=chosen.topology,
            batch=chosen.batch,
            network=self.settings(chosen),
            gflop=price.forward_gflop,
            accumulation=chosen.accumulation,
            predicted_gb=round(price.gigabytes, 2),
            reasons={**fit.reasons, **self.explain(planned, chosen, fit)},
        )

    def settings(self, trial: _Trial) -> NetworkSettings:
        """The network of a trial."""
        settings = self.describe(trial.topology, trial.width)
        if not trial.checkpointing:
            return settings
        return settings.model_copy(update={"options": {**settings.options, "checkpointing": True}})

    def price(self, trial: _Trial) -> Price:
        """What a step of the trial needs."""
        if trial not in self.prices:
            self.prices[trial] = self.cost(
                Step(
                    network=self.settings(trial),
                    input_channels=self.task.input_channels,
                    output_channels=self.task.output_channels,
                    patch=trial.topology.patch,
                    batch=trial.batch // trial.accumulation,
                    optimiser=self.preset.optimiser.name,
                    half=self.preset.step_gflop is None,  # the presets with a limit are those for a CPU
                    averaged=self.preset.training.ema_decay > 0,
                    accumulated=trial.accumulation > 1,
                )
            )
        return self.prices[trial]

    def fits(self, trial: _Trial) -> bool:
        """Whether the budget holds it."""
        return self.price(trial).gigabytes <= self.budget_gb

    def limit(self, topology: Topology) -> Topology:
        """The topology again, with no axis halved more often than this network allows; or its own, a little larger."""
        if self.fixed is not None:
            sizes = zip(topology.patch, self.fixed.divisors, strict=True)
            return replace(self.fixed, patch=tuple(math.ceil(n / divisor) * divisor for n, divisor in sizes))
        return topology if self.limits is None else plan_topology(self.task.spacing, topology.patch, self.limits)

    def lighten(self, trial: _Trial, limit_gflop: float) -> _Trial:
        """Narrower, then on a smaller patch, until a step of the smallest batch is quick enough for a CPU."""
        for width in self.widths():
            lighter = replace(trial, width=width, batch=MIN_BATCH)
            if self.price(lighter).step_gflop <= limit_gflop:
                break
        while self.price(lighter).step_gflop > limit_gflop:
            smaller = self.shorten(lighter)
            if smaller is None:  # it is slow, but it is what was asked for
                break
            lighter = smaller
        per_sample = self.price(lighter).step_gflop / MIN_BATCH
        return replace(lighter, batch=max(MIN_BATCH, min(trial.batch, int(limit_gflop / per_sample))))

    def cheapen(self, planned: _Trial) -> _Trial:
        """The first of the sacrifices, in their order, that the budget holds.

        Raises:
            MemoryShortageError: none does.
        """
        least = min(planned.batch, self.preset.reference_batch[len(self.task.shape) - 2])
        for trial in self.rungs(planned):
            batch = self.largest_batch(trial, least)
            if batch:
                return replace(trial, batch=batch)
        # 16d. In parts, a batch needs the memory of one part; two samples are then taken one by one.
        trial = replace(trial, batch=least)
        for parts in (n for n in range(2, least + 1) if self.in_parts and least % n == 0):
            trial = replace(trial, accumulation=parts)
            if self.fits(trial):
                return trial
        # 16e. Last of all the patch: it decides what the network can see.
        while not self.fits(trial):
            smaller = self.shorten(trial)
            if smaller is None:
                raise MemoryShortageError(
                    f"the cheapest {len(self.task.shape)}D {self.preset.network} needs about "
                    f"{self.price(trial).gigabytes:.2g} GB to train, but the budget is {self.budget_gb:g} GB; "
                    f"give more memory"
                )
            trial = smaller
        return trial

    def rungs(self, planned: _Trial) -> Iterator[_Trial]:
        """16a-16c: as planned (with a smaller batch), with fewer filters, and then with every stage computed twice."""
        for width in self.widths():
            yield (trial := replace(planned, width=width))
        if self.checkpoints:
            yield replace(trial, checkpointing=True)

    def widths(self) -> list[int]:
        """Filters of the finest stage, in multiples of 4."""
        if self.fixed is not None:
            return [self.preset.base_features]
        return [max(4, round(self.preset.base_features * share / 4) * 4) for share in WIDTHS]

    def largest_batch(self, trial: _Trial, least: int) -> int:
        """The most samples, from ``least`` to the trial's own, that fit; 0 where not even the least do."""
        most = trial.batch
        if self.fits(trial):
            return most
        if most == least or not self.fits(replace(trial, batch=least)):
            return 0
        # Memory grows in proportion to the batch, so the straight line between the two is nearly right.
        low, high = (self.price(replace(trial, batch=n)).gigabytes for n in (least, most))
        batch = least + int((self.budget_gb - low) / (high - low) * (most - least))
        while not self.fits(replace(trial, batch=batch)):
            batch -= 1
        return batch

    def shorten(self, trial: _Trial) -> _Trial | None:
        """The trial on a patch one step smaller, or None where it cannot be."""
        if self.fixed is not None:
            return self.shorten_fixed(trial)
        smaller, _ = shorten(self.task, trial.topology, self.preset.least_edge)
        return None if smaller is None else replace(trial, topology=self.limit(smaller))

    def shorten_fixed(self, trial: _Trial) -> _Trial | None:
        """The trial with the axis that is longest against the median case shortened by what its halvings divide."""
        patch, divisors = list(trial.topology.patch), trial.topology.divisors
        axis = max(range(len(patch)), key=lambda a: (patch[a] > 2 * divisors[a], patch[a] / self.task.shape[a]))
        if patch[axis] <= 2 * divisors[axis]:  # a single voxel of the coarsest stage would have no neighbours
            return None
        patch[axis] -= divisors[axis]
        return replace(trial, topology=replace(trial.topology, patch=tuple(patch)))

    def explain(self, planned: _Trial, chosen: _Trial, fit: Fit) -> dict[str, str]:
        """Why the memory is what it is, and what the other reasons must say now."""
        price, network = self.price(chosen), self.settings(chosen)
        parts = (
            f"weights, gradients and optimiser {price.weights / 1e9:.2f}, activations {price.activations / 1e9:.2f}, "
            f"the device itself {DEVICE_GB:g}"
        )
        why = f"A training step is predicted to need {price.gigabytes:.2f} GB of {self.budget_gb:g} GB ({parts})"
        given_up = list(_list_sacrifices(planned, chosen))
        if given_up:
            before = self.price(planned).gigabytes
            why += f"; as planned first it needed {before:.2f} GB, so it has {', '.join(given_up)}"
        elif price.gigabytes > self.budget_gb:
            why += "; that is more than the budget, which nnU-Net's rules do not measure"
        share = chosen.width / self.preset.base_features
        reasons = {"memory": f"{why}."}
        reasons["network"] = explain_network(self.task, chosen.topology, network, share=share)
        if self.fixed is not None:
            halvings = ", ".join(map(str, chosen.topology.pools))
            reasons["network"] = (
                f"{network.name} on the encoder {network.options['encoder']}, which halves the axes {halvings} times; "
                f"the plan has no say in its stages and features."
            )
        if math.prod(chosen.topology.patch) > math.prod(fit.topology.patch):
            reasons["patch_size"] = (
                f"{join(chosen.topology.patch)} voxels: {join(fit.topology.patch)}, which the rules chose, made "
                f"multiples of {join(chosen.topology.divisors)}, as {network.name} needs."
            )
        elif chosen.topology.patch != fit.topology.patch:
            reasons["patch_size"] = (
                f"{join(chosen.topology.patch)} voxels: {join(fit.topology.patch)}, which the rules chose, is too dear "
                f"for {network.name}."
            )
        if chosen.batch < fit.batch:
            reasons["batch_size"] = (
                f"{chosen.batch} samples instead of the {fit.batch} that the rules chose, because of the cost of a "
                f"step ({price.gigabytes:.2f} GB, {price.step_gflop:.3g} GFLOP)."
            )
        return reasons


def _fix_topology(settings: NetworkSettings, traits: NetworkTraits, axes: int) -> Topology | None:
    """The topology of a network that leaves the plan no choice; None of one that follows it."""
    if traits.fixed is None or axes not in traits.dimensions:
        return None
    own = traits.fixed(settings)
    return Topology(kernels=own.kernels, strides=own.strides, patch=(0,) * axes)


def _list_sacrifices(planned: _Trial, chosen: _Trial) -> Iterator[str]:
    if chosen.batch < planned.batch:
        yield f"{chosen.batch} samples in a batch instead of {planned.batch}"
    if chosen.width < planned.width:
        yield f"{chosen.width / planned.width:.0%} of the filters"
    if chosen.checkpointing:
        yield "stages that keep their inputs only and are computed twice (checkpointing)"
    if chosen.accumulation > 1:
        yield f"batches that go through in {chosen.accumulation} parts (accumulation)"
    if chosen.topology.patch != planned.topology.patch:
        yield f"a patch of {join(chosen.topology.patch)} instead of {join(planned.topology.patch)}"
