"""Rule 16: the memory of a training step and, where the budget does not hold it, the sacrifices in their order.

nnU-Net's budget is a number of convolution outputs. Here every configuration, of any network, is priced in bytes.
One that is too expensive gives up as little as possible, in this order:

16a. samples of the batch, down to the preset's reference batch;
16b. filters: fewer filters lose less than a smaller patch does;
16c. speed: activation checkpointing, which is exact;
16d. speed again: gradient accumulation, which needs the memory of one part of the batch;
16e. the patch, last of all: it decides how much of its surroundings the network sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import Configuration, NetworkSettings
from autoseg.planning.patch import PatchPlan, PatchProblem, explain_network, shorten
from autoseg.planning.presets import MIN_BATCH, Preset
from autoseg.planning.pricing import DEVICE_GB, Cost, Price, Step
from autoseg.planning.text import gflop, join, join_words
from autoseg.planning.topology import NO_LIMIT, Topology, describe_network, plan_topology

if TYPE_CHECKING:
    from autoseg.networks import NetworkTraits

WIDTHS = (1.0, 0.75, 0.5)  # shares of the preset's filters; narrower networks lose more than a slower step costs
GFLOP_TOLERANCE = 1.05

Describe = Callable[[Topology, int], NetworkSettings]


def fit_to_memory(
    problem: PatchProblem, rules: PatchPlan, preset: Preset, *, budget_gb: float, cost: Cost
) -> PatchPlan:
    """Price what the rules chose and, where the budget does not hold it, make it cheaper.

    Args:
        problem: inputs to patch planning; the channels are those of the network.
        rules: what rules 5-8 chose.
        preset: one with ``keeps_budget`` False (nnU-Net's rules) is priced and left unchanged.
        budget_gb: what training may use.
        cost: prices a step.

    Raises:
        MemoryShortageError: even the cheapest trial exceeds the budget.
    """

    def describe(topology: Topology, width: int) -> NetworkSettings:
        return describe_network(preset, topology, width)

    search = MemoryFit(problem, preset, budget_gb, cost, describe)
    return search.plan(Trial(topology=rules.topology, width=preset.base_features, batch=rules.batch), rules)


def plan_variant(
    problem: PatchProblem, rules: PatchPlan, network_name: str, preset: Preset, *, budget_gb: float, cost: Cost
) -> PatchPlan:
    """Plan another network on the patch and batch of the rules, so that the two compare; cheaper where it must be.

    Args:
        problem, rules, preset, budget_gb, cost: as for ``fit_to_memory``.
        network_name: in the NETWORKS table.

    Raises:
        UsageError: there is no such network, or its package is not installed.
        PlanError: it cannot be built for this patch; the message says why.
        MemoryShortageError: even the cheapest trial exceeds the budget.
    """
    from autoseg.networks import fit_settings, network_traits

    traits = network_traits(network_name)
    encoder_blocks, decoder_blocks = traits.usual_blocks
    preset = replace(preset, network=network_name, encoder_blocks=encoder_blocks, decoder_blocks=decoder_blocks)
    axes = len(problem.shape)
    most = NO_LIMIT if traits.most_halvings is None else traits.most_halvings

    def describe(topology: Topology, width: int) -> NetworkSettings:
        settings = describe_network(preset, topology, width)
        usual = {
            "features": traits.usual_features(settings.features),
            "strides": traits.usual_strides(settings.strides),
        }
        return fit_settings(settings.model_copy(update=usual), dimensions=axes, patch=topology.patch)

    search = MemoryFit(
        problem,
        preset,
        budget_gb,
        cost,
        describe,
        limits=[min(steps, most) for steps in rules.topology.pooling_steps],  # more would pad the patch further
        fixed=_fix_topology(describe_network(preset, rules.topology, preset.base_features), traits, axes),
        accumulates=not traits.normalises_batch,
        checkpoints=traits.supports_checkpointing,
    )
    trial = Trial(topology=search.limit(rules.topology), width=preset.base_features, batch=rules.batch)
    if preset.step_gflop is not None:
        trial = search.reduce_compute(trial, preset.step_gflop * GFLOP_TOLERANCE)
    return search.plan(trial, rules)


def reduce_memory(configuration: Configuration) -> tuple[Configuration, str] | None:
    """The same training in less memory, one step further, and the change in words; None when there is none left.

    Takes the exact sacrifices only (16c, 16d), which leave weights and batches unchanged, so that a training under way
    can resume: first activation checkpointing, then gradient accumulation in more parts.
    """
    from autoseg.networks import network_traits, normalises_batch

    network, training = configuration.network, configuration.training
    traits = network_traits(network.name)
    if traits.supports_checkpointing and not network.options.get("checkpointing", False):
        slower = network.model_copy(update={"options": {**network.options, "checkpointing": True}})
        return configuration.model_copy(update={"network": slower}), "activation checkpointing"
    parts = _next_parts(configuration.batch_size, training.accumulation)
    if parts is None or normalises_batch(network, traits):  # whose statistics would change with the parts
        return None
    divided = training.model_copy(update={"accumulation": parts})
    return configuration.model_copy(update={"training": divided}), f"gradient accumulation in {parts} parts"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to train.

    Attributes:
        topology: with the patch.
        width: features of the finest stage of a plain U-Net.
        batch: samples per step.
        checkpointing: stages keep their inputs only and are computed again in the backward pass.
        accumulation: parts of a batch.
    """

    topology: Topology
    width: int
    batch: int
    checkpointing: bool = False
    accumulation: int = 1


class MemoryFit:
    """Search for the smallest sacrifice that fits; each trial is priced once.

    Args:
        problem, preset, budget_gb, cost: as for ``fit_to_memory``.
        describe: topology and width -> settings.
        limits: the most halvings per axis.
        fixed: topology of a network that has no other, whatever the patch; its width is fixed as well.
        accumulates: gradients may be accumulated; they may not where samples are normalised by their batch.
        checkpoints: the network supports activation checkpointing.
    """

    def __init__(
        self,
        problem: PatchProblem,
        preset: Preset,
        budget_gb: float,
        cost: Cost,
        describe: Describe,
        *,
        limits: list[int] | None = None,
        fixed: Topology | None = None,
        accumulates: bool = True,
        checkpoints: bool = True,
    ) -> None:
        self.problem, self.preset, self.budget_gb, self.cost = problem, preset, budget_gb, cost
        self.describe, self.limits, self.fixed = describe, limits, fixed
        self.accumulates, self.checkpoints = accumulates, checkpoints
        self.least_batch = preset.reference_batch[len(problem.shape) - 2]
        self.prices: dict[Trial, Price] = {}

    def plan(self, trial: Trial, rules: PatchPlan) -> PatchPlan:
        """The trial, or the first cheaper one that the budget holds, as a patch plan with its reasons.

        Raises:
            MemoryShortageError: there is none.
        """
        chosen = self.fit(trial) if self.preset.keeps_budget else trial
        price = self.price(chosen)
        return replace(
            rules,
            topology=chosen.topology,
            batch=chosen.batch,
            network=self.settings(chosen),
            gflop=price.forward_gflop,
            accumulation=chosen.accumulation,
            predicted_gb=round(price.gigabytes, 2),
            reasons={**rules.reasons, **self.explain(trial, chosen, rules)},
        )

    def fit(self, planned: Trial) -> Trial:
        """The first candidate that the budget holds, with as many samples as it then holds."""
        for trial in self.candidates(planned):
            batch = self.largest_batch(trial)
            if batch:
                return replace(trial, batch=batch)
        raise MemoryShortageError(
            f"the cheapest {len(self.problem.shape)}D {self.preset.network} needs about "
            f"{self.price(trial).gigabytes:.2g} GB to train, but the budget is {self.budget_gb:g} GB; give more memory"
        )

    def candidates(self, trial: Trial) -> Iterator[Trial]:
        """The planned trial, then each with one sacrifice more; ``largest_batch`` is the first sacrifice, of each."""
        yield trial
        for sacrifice in (self.narrow, self.checkpoint, self.accumulate, self.shorten):
            while (cheaper := sacrifice(trial)) is not None:
                trial = cheaper
                yield trial

    def reduce_compute(self, trial: Trial, limit_gflop: float) -> Trial:
        """Fewer filters, then a smaller patch, until a step of the smallest batch is fast enough on a CPU."""
        lighter = replace(trial, batch=MIN_BATCH)
        for sacrifice in (self.narrow, self.shorten):  # where both are used up, it is slow, but as requested
            while self.price(lighter).step_gflop > limit_gflop and (cheaper := sacrifice(lighter)) is not None:
                lighter = cheaper
        per_sample = self.price(lighter).step_gflop / MIN_BATCH
        return replace(lighter, batch=max(MIN_BATCH, min(trial.batch, int(limit_gflop / per_sample))))

    def largest_batch(self, trial: Trial) -> int:
        """16a. The most samples, from the least batch to the trial's own, that fit; 0 where none do."""
        most, least = trial.batch, min(trial.batch, self.least_batch)
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

    def narrow(self, trial: Trial) -> Trial | None:
        """16b. The next smaller share of the preset's filters, in multiples of 4."""
        widths = (max(4, round(self.preset.base_features * share / 4) * 4) for share in WIDTHS)
        narrower = next((width for width in widths if width < trial.width), None)
        return None if narrower is None or self.fixed is not None else replace(trial, width=narrower)

    def checkpoint(self, trial: Trial) -> Trial | None:
        """16c. Activation checkpointing."""
        return replace(trial, checkpointing=True) if self.checkpoints and not trial.checkpointing else None

    def accumulate(self, trial: Trial) -> Trial | None:
        """16d. Gradient accumulation over more parts of the least batch."""
        batch = min(trial.batch, self.least_batch)
        parts = _next_parts(batch, trial.accumulation) if self.accumulates else None
        return None if parts is None else replace(trial, batch=batch, accumulation=parts)

    def shorten(self, trial: Trial) -> Trial | None:
        """16e. A patch one step smaller, with the least batch."""
        batch, topology = min(trial.batch, self.least_batch), trial.topology
        if self.fixed is None:
            smaller, _ = shorten(self.problem, topology, self.preset.least_edge)
            return None if smaller is None else replace(trial, batch=batch, topology=self.limit(smaller))
        # A fixed topology: the axis that is longest against the median case loses what its halvings divide.
        patch, divisors = list(topology.patch), topology.divisors
        axis = max(range(len(patch)), key=lambda a: (patch[a] > 2 * divisors[a], patch[a] / self.problem.shape[a]))
        if patch[axis] <= 2 * divisors[axis]:  # a single voxel of the coarsest stage would have no neighbours
            return None
        patch[axis] -= divisors[axis]
        return replace(trial, batch=batch, topology=replace(topology, patch=tuple(patch)))

    def settings(self, trial: Trial) -> NetworkSettings:
        """The network of a trial."""
        settings = self.describe(trial.topology, trial.width)
        if not trial.checkpointing:
            return settings
        return settings.model_copy(update={"options": {**settings.options, "checkpointing": True}})

    def price(self, trial: Trial) -> Price:
        """The price of a trial's step."""
        if trial not in self.prices:
            self.prices[trial] = self.cost(
                Step(
                    network=self.settings(trial),
                    input_channels=self.problem.input_channels,
                    output_channels=self.problem.output_channels,
                    patch=trial.topology.patch,
                    batch=trial.batch // trial.accumulation,
                    optimiser=self.preset.optimiser.name,
                    half=self.preset.for_gpu,
                    averaged=self.preset.training.ema_decay > 0,
                    accumulated=trial.accumulation > 1,
                )
            )
        return self.prices[trial]

    def fits(self, trial: Trial) -> bool:
        """Whether the budget holds it."""
        return self.price(trial).gigabytes <= self.budget_gb

    def limit(self, topology: Topology) -> Topology:
        """The topology with no more halvings than this network allows; or its fixed one, the patch padded to it."""
        if self.fixed is not None:
            sizes = zip(topology.patch, self.fixed.divisors, strict=True)
            return replace(self.fixed, patch=tuple(math.ceil(n / divisor) * divisor for n, divisor in sizes))
        return topology if self.limits is None else plan_topology(self.problem.spacing, topology.patch, self.limits)

    def explain(self, planned: Trial, chosen: Trial, rules: PatchPlan) -> dict[str, str]:
        """Reasons of the memory, the network and, where they changed, of the patch and the batch."""
        price, network = self.price(chosen), self.settings(chosen)
        patch, first_patch = join(chosen.topology.patch), join(rules.topology.patch)
        memory = (
            f"A training step is predicted to need {price.gigabytes:.2f} GB of the {self.budget_gb:g} GB: weights, "
            f"gradients and optimiser state {price.weights / 1e9:.2f} GB, activations {price.activations / 1e9:.2f} "
            f"GB, device overhead {DEVICE_GB:g} GB."
        )
        sacrifices = list(_list_sacrifices(planned, chosen))
        if sacrifices:
            before = self.price(planned).gigabytes
            memory += f" The first plan needed {before:.2f} GB, so this one uses {join_words(sacrifices)}."
        elif price.gigabytes > self.budget_gb:
            memory += " That exceeds the budget, which nnU-Net's rules do not measure in bytes."
        share = chosen.width / self.preset.base_features
        reasons = {"memory": memory, "network": explain_network(self.problem, chosen.topology, network, share=share)}
        if self.fixed is not None:
            halvings = join_words([str(steps) for steps in chosen.topology.pooling_steps])
            reasons["network"] = (
                f"{network.name} on the encoder {network.options['encoder']}, which fixes stages and features and "
                f"halves the axes {halvings} times."
            )
        if math.prod(chosen.topology.patch) > math.prod(rules.topology.patch):
            reasons["patch_size"] = (
                f"{patch} voxels: the {first_patch} of the rules, padded to multiples of "
                f"{join(chosen.topology.divisors)}, as {network.name} requires."
            )
        elif chosen.topology.patch != rules.topology.patch:
            reasons["patch_size"] = (
                f"{patch} voxels instead of the {first_patch} of the rules, which is too expensive for {network.name}."
            )
        if chosen.batch < rules.batch:
            reasons["batch_size"] = (
                f"{chosen.batch} samples instead of the {rules.batch} of the rules, to limit the cost of a step "
                f"({price.gigabytes:.2f} GB, {gflop(price.step_gflop)})."
            )
        return reasons


def _next_parts(batch: int, parts: int) -> int | None:
    """The next larger number of equal parts of a batch."""
    return next((n for n in range(parts + 1, batch + 1) if batch % n == 0), None)


def _fix_topology(settings: NetworkSettings, traits: NetworkTraits, axes: int) -> Topology | None:
    """The topology of a network that leaves the plan no choice; None for one that follows the plan."""
    if traits.fixed is None or axes not in traits.dimensions:
        return None
    fixed = traits.fixed(settings)
    return Topology(kernels=fixed.kernels, strides=fixed.strides, patch=(0,) * axes)


def _list_sacrifices(planned: Trial, chosen: Trial) -> Iterator[str]:
    if chosen.batch < planned.batch:
        yield f"{chosen.batch} samples per batch instead of {planned.batch}"
    if chosen.width < planned.width:
        yield f"{chosen.width / planned.width:.0%} of the filters"
    if chosen.checkpointing:
        yield "activation checkpointing"
    if chosen.accumulation > 1:
        yield f"gradient accumulation over {chosen.accumulation} parts of a batch"
    if chosen.topology.patch != planned.topology.patch:
        yield f"a patch of {join(chosen.topology.patch)} instead of {join(planned.topology.patch)}"
