"""Rules 5 and 8: the patch and the batch that fit the budget, with their network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import NetworkSettings
from autoseg.planning.memory import budget_elements, count_conv_elements, count_gflop, step_gflop
from autoseg.planning.presets import LAPTOP_GFLOPS, MIN_BATCH, Preset
from autoseg.planning.text import amount, gflop, join, join_words, percent
from autoseg.planning.topology import MIN_SIZE, NEAR, NO_LIMIT, Topology, describe_network, plan_topology

START_EXTENT = {2: 2048, 3: 256}  # edge of a cubic first patch


@dataclass(frozen=True, kw_only=True)
class PatchProblem:
    """Inputs to patch planning.

    Attributes:
        spacing: mm per axis of the patch (2 or 3 axes).
        shape: the median case, voxels per axis of the patch.
        dataset_voxels: voxels of the whole dataset at its target spacing.
        input_channels, output_channels: of the network whose cost is counted.
    """

    spacing: tuple[float, ...]
    shape: tuple[float, ...]
    dataset_voxels: float
    input_channels: int
    output_channels: int


@dataclass(frozen=True, kw_only=True)
class PatchPlan:
    """Patch, batch and network that fit the budget.

    Attributes:
        topology: of the network, with the patch.
        batch, network: for the configuration.
        elements: convolution outputs of one sample.
        gflop: of one forward pass of one sample.
        accumulation: parts that a batch goes through the network in.
        predicted_gb: memory of a training step; None where nothing predicted it.
        reasons: ``patch_size``, ``batch_size``, ``network`` and, where predicted, ``memory`` -> one sentence or a few.
    """

    topology: Topology
    batch: int
    network: NetworkSettings
    elements: int
    gflop: float
    accumulation: int = 1
    predicted_gb: float | None = None
    reasons: dict[str, str]

    @property
    def patch(self) -> tuple[int, ...]:
        """Voxels per axis."""
        return self.topology.patch


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A patch and its network, with their cost.

    Attributes:
        problem: inputs that it is tried for.
        over_budget: it exceeds the memory or the arithmetic of a step.
        shortened: it was larger at first.
        less_padded: it was padded more at first.
        skipped_short_axis: an axis would have been shortened, but had the least edge already.
    """

    problem: PatchProblem
    topology: Topology
    network: NetworkSettings
    elements: int
    over_budget: bool = False
    shortened: bool = False
    less_padded: bool = False
    skipped_short_axis: bool = False

    @property
    def gflop(self) -> float:
        """Billions of operations of one forward pass of one sample; counted on access, as most candidates need none."""
        problem = self.problem
        return count_gflop(self.network, self.topology.patch, problem.input_channels, problem.output_channels)


def fit_patch(problem: PatchProblem, preset: Preset, *, memory_gb: float) -> PatchPlan:
    """The largest patch, and the network and batch with it, that the budget allows.

    Below ``preset.least_gb`` a patch would show too little of its surroundings: it is planned as for that much, and the
    network is then made cheaper instead (``fitting.fit_to_memory``).

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on patch and batch size.

    Raises:
        MemoryShortageError: even the smallest patch exceeds the budget.
    """
    patch_gb = max(memory_gb, preset.least_gb)
    candidate = _shorten_to_fit(problem, preset, patch_gb)
    if candidate.over_budget:
        dimensions = len(problem.shape)
        needed = patch_gb * candidate.elements / _allowed_elements(preset, dimensions, patch_gb)
        raise MemoryShortageError(
            f"the smallest {dimensions}D network needs about {needed:.2g} GB to train, but the budget is "
            f"{patch_gb:g} GB; give more memory"
        )
    batch, why_batch = _choose_batch(preset, candidate, patch_gb)
    why_patch = _explain_patch(preset, candidate, patch_gb)
    if patch_gb > memory_gb:
        why_patch += f" Below {patch_gb:g} GB the patch stays as for {patch_gb:g} GB, and the network is made cheaper."
    return PatchPlan(
        topology=candidate.topology,
        batch=batch,
        network=candidate.network,
        elements=candidate.elements,
        gflop=candidate.gflop,
        reasons={
            "patch_size": why_patch,
            "batch_size": why_batch,
            "network": explain_network(problem, candidate.topology, candidate.network),
        },
    )


def first_patch(spacing: Sequence[float], shape: Sequence[float]) -> tuple[float, ...]:
    """5a. As many mm along every axis, as many voxels as a cube of ``START_EXTENT``, clipped to the median case."""
    axes = len(spacing)
    # n_a = (1 / s_a) * (extent^axes / prod(1 / s))^(1 / axes), in this order: the last bit decides a rounded half.
    finenesses = [1 / s for s in spacing]
    scale = (START_EXTENT[axes] ** axes / math.prod(finenesses)) ** (1 / axes)
    return tuple(min(float(round(f * scale)), n) for f, n in zip(finenesses, shape, strict=True))


def _shorten_to_fit(problem: PatchProblem, preset: Preset, memory_gb: float) -> _Candidate:
    """5b. While over budget, shorten the axis that is longest against the median case."""
    topology = plan_topology(problem.spacing, first_patch(problem.spacing, problem.shape))
    candidate = _try(problem, preset, memory_gb, topology)
    if not candidate.over_budget and preset.padding_limit is not None:
        topology = _limit_padding(problem, candidate.topology, preset.padding_limit)
        leaner = _try(problem, preset, memory_gb, topology)
        return candidate if leaner.over_budget else replace(leaner, less_padded=topology != candidate.topology)
    while candidate.over_budget:
        smaller, skipped = shorten(problem, candidate.topology, preset.least_edge)
        if smaller is None:
            return candidate
        skipped = skipped or candidate.skipped_short_axis
        shorter = _try(problem, preset, memory_gb, smaller)
        candidate = replace(shorter, shortened=True, skipped_short_axis=skipped)
    return candidate


def _try(problem: PatchProblem, preset: Preset, memory_gb: float, topology: Topology) -> _Candidate:
    network = describe_network(preset, topology, preset.base_features)
    elements = count_conv_elements(network, topology.patch, output_channels=problem.output_channels)
    candidate = _Candidate(problem=problem, topology=topology, network=network, elements=elements)
    over_budget = elements > _allowed_elements(preset, len(problem.shape), memory_gb)
    if preset.step_gflop is not None:
        over_budget = over_budget or step_gflop(candidate.gflop, MIN_BATCH) > preset.step_gflop
    return replace(candidate, over_budget=over_budget)


def _allowed_elements(preset: Preset, dimensions: int, memory_gb: float) -> float:
    """Convolution outputs of one sample at which the smallest batch that must fit does."""
    batches = preset.reference_batch[dimensions - 2] / preset.fitting_batch[dimensions - 2]
    return budget_elements(preset, dimensions, memory_gb) * batches


def shorten(problem: PatchProblem, topology: Topology, least_edge: int) -> tuple[Topology | None, bool]:
    """One axis one step shorter, or None when no axis can be; and whether a longer one was skipped as too short."""
    patch, skipped = topology.patch, False
    ratios = [n / m for n, m in zip(patch, problem.shape, strict=True)]
    # Ties go to the last axis.
    for axis in sorted(range(len(patch)), key=lambda a: (ratios[a], a), reverse=True):
        shorter = list(patch)
        shorter[axis] -= topology.divisors[axis]
        if shorter[axis] < least_edge:
            skipped = True
            continue
        # A shorter axis may be halved less often; its new divisor is the smaller step, which skips no valid size.
        step = plan_topology(problem.spacing, shorter).divisors[axis]
        shorter[axis] = patch[axis] - step
        smaller = plan_topology(problem.spacing, shorter)
        if math.prod(smaller.patch) < math.prod(patch):
            return smaller, skipped
    return None, skipped


def _limit_padding(problem: PatchProblem, topology: Topology, limit: float) -> Topology:
    """5c. Where much of a patch that holds a whole case would be padding, halve the most padded axes less often."""
    limits = [NO_LIMIT] * len(problem.shape)
    size = first_patch(problem.spacing, problem.shape)
    while math.prod(topology.patch) > limit * math.prod(size):
        steps = topology.pooling_steps
        ratios = [n / m if p > 1 else 0.0 for n, m, p in zip(topology.patch, size, steps, strict=True)]
        axis = max(range(len(ratios)), key=ratios.__getitem__)
        if ratios[axis] <= 1:
            break
        limits[axis] = steps[axis] - 1
        topology = plan_topology(problem.spacing, size, limits)
    return topology


def _choose_batch(preset: Preset, candidate: _Candidate, memory_gb: float) -> tuple[int, str]:
    """Rule 8: as many samples as memory allows, capped by the dataset's size and the cost of a step; at least 2."""
    patch = candidate.topology.patch
    axes = len(patch)
    fitting = round(budget_elements(preset, axes, memory_gb) / candidate.elements * preset.reference_batch[axes - 2])
    caps = {
        f"as many as {memory_gb:g} GB hold": fitting,
        f"as many as show {preset.dataset_share:.0%} of the dataset's voxels in one step": round(
            candidate.problem.dataset_voxels * preset.dataset_share / math.prod(patch)
        ),
    }
    if preset.batch_limit is not None:
        caps["with more, training would wait for data"] = preset.batch_limit
    if preset.step_gflop is not None:
        # A CPU shares the samples of a 3D convolution out over its cores, so an odd one leaves a core idle.
        fast = 2 * int(preset.step_gflop / step_gflop(candidate.gflop, 2))
        caps[f"as many as {preset.step_gflop:g} GFLOP per step allow"] = fast
    reason = min(caps, key=caps.__getitem__)
    if caps[reason] < MIN_BATCH:
        return MIN_BATCH, f"{MIN_BATCH} samples, the minimum; the limit ({reason}) would be lower."
    return caps[reason], f"{caps[reason]} samples: {reason}."


def _explain_patch(preset: Preset, candidate: _Candidate, memory_gb: float) -> str:
    patch, shape = candidate.topology.patch, candidate.problem.shape
    dimensions = len(shape)
    noun = "slice" if dimensions == 2 else "case"
    covered = math.prod(min(n, m) / m for n, m in zip(patch, shape, strict=True))
    shown = f"the whole median {noun}" if covered == 1 else f"{percent(covered)} of the median {noun}"
    allowed, batch = _allowed_elements(preset, dimensions, memory_gb), preset.fitting_batch[dimensions - 2]
    sentences = [
        f"{join(patch)} voxels cover {shown} ({join(shape)} voxels), in multiples of "
        f"{join(candidate.topology.divisors)}."
    ]
    if candidate.less_padded:
        sentences.append(
            f"Axes are halved less often than possible: otherwise the patch would be padded to over "
            f"{preset.padding_limit:g} times the {noun}."
        )
    if candidate.shortened:
        spared = f", with no axis below {preset.least_edge} voxels" if candidate.skipped_short_axis else ""
        sentences.append(f"It was shortened to fit the budget{spared}.")
    sentences.append(
        f"One sample has {amount(candidate.elements)} convolution outputs; {memory_gb:g} GB hold {amount(allowed)} at "
        f"a batch of {batch}."
    )
    if preset.step_gflop is not None:
        sentences.append(
            f"A step of {MIN_BATCH} samples costs {gflop(step_gflop(candidate.gflop, MIN_BATCH))}; the limit is "
            f"{preset.step_gflop:g}, about {preset.step_gflop / LAPTOP_GFLOPS:.1f} s on a laptop."
        )
    return " ".join(sentences)


def explain_network(problem: PatchProblem, topology: Topology, network: NetworkSettings, *, share: float = 1.0) -> str:
    """Stages, features and halvings.

    Args:
        share: of the preset's filters, where it was narrowed to fit.
    """
    halvings = join_words([str(steps) for steps in topology.pooling_steps])
    narrowed = f" {share:.0%} of the preset's filters keep it within the memory." if share < 1 else ""
    return (
        f"{network.name} with {len(network.features)} stages and {network.features[0]} to {network.features[-1]} "
        f"features. The axes ({join(problem.spacing)} mm) are halved {halvings} times: an axis is halved while it "
        f"keeps {MIN_SIZE} voxels and its spacing is within a factor of {NEAR:g} of "
        f"the finest.{narrowed}"
    )
