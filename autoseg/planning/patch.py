"""Rules 5-8: the patch, the network and the batch that fit the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import NetworkSettings
from autoseg.planning.memory import budget_elements, count_conv_elements, count_gflop, step_gflop
from autoseg.planning.presets import LAPTOP_GFLOPS, MIN_BATCH, Preset
from autoseg.planning.spacing import join
from autoseg.planning.topology import MIN_SIZE, NO_LIMIT, Topology, describe_network, plan_topology

START_EXTENT = {2: 2048, 3: 256}  # edge of a cubic first patch


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a patch is planned for.

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
class Fit:
    """What fits.

    Attributes:
        topology: of the network, with the patch.
        batch, network: for the configuration.
        elements: convolution outputs of one sample.
        gflop: of one forward pass of one sample.
        accumulation: parts that a batch goes through the network in.
        predicted_gb: what a training step needs; None where nothing predicted it.
        reasons: ``patch_size``, ``batch_size``, ``network`` and, where predicted, ``memory`` -> why.
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
class _Trial:
    """A patch and its network, with what they cost.

    Attributes:
        task: what they were tried for.
        over: a budget is broken.
        shrunk: it was larger at first.
        unpadded: it was padded more at first.
        spared: an axis would have been shortened, had it not been so short already.
    """

    task: Task
    topology: Topology
    network: NetworkSettings
    elements: int
    over: bool = False
    shrunk: bool = False
    unpadded: bool = False
    spared: bool = False

    @property
    def gflop(self) -> float:
        """Of one forward pass of one sample; counted when asked for, as most trials are never asked."""
        task = self.task
        return count_gflop(self.network, self.topology.patch, task.input_channels, task.output_channels)


def fit_patch(task: Task, preset: Preset, *, memory_gb: float) -> Fit:
    """The largest patch, and the network and batch with it, that the budget allows.

    Below ``preset.least_gb`` a patch would show too little of where it lies: it is planned as for that much, and the
    network is then made cheaper instead (``fitting.settle``).

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note on patch and batch size.

    Raises:
        MemoryShortageError: not even the smallest patch fits.
    """
    memory_gb = max(memory_gb, preset.least_gb)
    trial = _shrink_to_fit(task, preset, memory_gb)
    if trial.over:
        dimensions = len(task.shape)
        needed = memory_gb * trial.elements / _allowed(preset, dimensions, memory_gb)
        raise MemoryShortageError(
            f"the smallest {dimensions}D network needs about {needed:.2g} GB to train, but the budget is "
            f"{memory_gb:g} GB; give more memory"
        )
    batch, why_batch = _choose_batch(task, preset, trial, memory_gb)
    return Fit(
        topology=trial.topology,
        batch=batch,
        network=trial.network,
        elements=trial.elements,
        gflop=trial.gflop,
        reasons={
            "patch_size": _explain_patch(task, preset, trial, memory_gb),
            "batch_size": why_batch,
            "network": explain_network(task, trial.topology, trial.network),
        },
    )


def first_patch(spacing: Sequence[float], shape: Sequence[float]) -> tuple[float, ...]:
    """Rule 5: as many mm along every axis, as many voxels as a cube of ``START_EXTENT``, clipped to the median case."""
    axes = len(spacing)
    # n_a = (1 / s_a) * (extent^axes / prod(1 / s))^(1 / axes), in this order: the last bit decides a rounded half.
    finenesses = [1 / s for s in spacing]
    scale = (START_EXTENT[axes] ** axes / math.prod(finenesses)) ** (1 / axes)
    return tuple(min(float(round(f * scale)), n) for f, n in zip(finenesses, shape, strict=True))


def _shrink_to_fit(task: Task, preset: Preset, memory_gb: float) -> _Trial:
    """Rule 5b: while over budget, shorten the axis that is longest against the median case."""
    trial = _try(task, preset, memory_gb, plan_topology(task.spacing, first_patch(task.spacing, task.shape)))
    if not trial.over and preset.padding_limit is not None:
        topology = _limit_padding(task, trial.topology, preset.padding_limit)
        leaner = _try(task, preset, memory_gb, topology)
        return trial if leaner.over else replace(leaner, unpadded=topology != trial.topology)
    while trial.over:
        smaller, spared = shorten(task, trial.topology, preset.least_edge)
        if smaller is None:
            return trial
        spared = spared or trial.spared
        trial = replace(_try(task, preset, memory_gb, smaller), shrunk=True, spared=spared)
    return trial


def _try(task: Task, preset: Preset, memory_gb: float, topology: Topology) -> _Trial:
    network = describe_network(preset, topology, preset.base_features)
    elements = count_conv_elements(network, topology.patch, output_channels=task.output_channels)
    trial = _Trial(task=task, topology=topology, network=network, elements=elements)
    over = elements > _allowed(preset, len(task.shape), memory_gb)
    if preset.step_gflop is not None:
        over = over or step_gflop(trial.gflop, MIN_BATCH) > preset.step_gflop
    return replace(trial, over=over)


def _allowed(preset: Preset, dimensions: int, memory_gb: float) -> float:
    """Convolution outputs of one sample at which the smallest batch that must fit does."""
    batches = preset.reference_batch[dimensions - 2] / preset.fitting_batch[dimensions - 2]
    return budget_elements(preset, dimensions, memory_gb) * batches


def shorten(task: Task, topology: Topology, least_edge: int) -> tuple[Topology | None, bool]:
    """One axis one step shorter, or None when no axis can be; and whether a longer one was spared as too short."""
    patch, spared = topology.patch, False
    ratios = [n / m for n, m in zip(patch, task.shape, strict=True)]
    # Ties go to the last axis.
    for axis in sorted(range(len(patch)), key=lambda a: (ratios[a], a), reverse=True):
        shorter = list(patch)
        shorter[axis] -= topology.divisors[axis]
        if shorter[axis] < least_edge:
            spared = True
            continue
        # A shorter axis may be halved less often; its new divisor is the smaller step, which skips no valid size.
        step = plan_topology(task.spacing, shorter).divisors[axis]
        shorter[axis] = patch[axis] - step
        smaller = plan_topology(task.spacing, shorter)
        if math.prod(smaller.patch) < math.prod(patch):
            return smaller, spared
    return None, spared


def _limit_padding(task: Task, topology: Topology, limit: float) -> Topology:
    """Where much of a patch that holds a whole case would be padding, halve the most padded axes less often."""
    limits = [NO_LIMIT] * len(task.shape)
    size = first_patch(task.spacing, task.shape)
    while math.prod(topology.patch) > limit * math.prod(size):
        ratios = [n / m if p > 1 else 0.0 for n, m, p in zip(topology.patch, size, topology.pools, strict=True)]
        axis = max(range(len(ratios)), key=ratios.__getitem__)
        if ratios[axis] <= 1:
            break
        limits[axis] = topology.pools[axis] - 1
        topology = plan_topology(task.spacing, size, limits)
    return topology


def _choose_batch(task: Task, preset: Preset, trial: _Trial, memory_gb: float) -> tuple[int, str]:
    """Rule 8: what memory allows, capped by the dataset's size, the cost of a step, and sense; at least 2."""
    patch = trial.topology.patch
    axes = len(patch)
    fits = round(budget_elements(preset, axes, memory_gb) / trial.elements * preset.reference_batch[axes - 2])
    share = round(task.dataset_voxels * preset.dataset_share / math.prod(patch))
    caps = {
        f"{memory_gb:g} GB hold {fits}": fits,
        f"more than {share} would show over {preset.dataset_share:.0%} of the dataset's voxels in one step": share,
    }
    if preset.batch_limit is not None:
        caps[f"more than {preset.batch_limit} would leave training waiting for data"] = preset.batch_limit
    if preset.step_gflop is not None:
        # A CPU shares the samples of a 3D convolution out over its cores, so an odd one leaves a core idle.
        quick = 2 * int(preset.step_gflop / step_gflop(trial.gflop, 2))
        caps[f"more than {quick} would cost over {preset.step_gflop:g} GFLOP a step"] = quick
    least = min(caps, key=caps.__getitem__)
    batch = max(MIN_BATCH, caps[least])
    floor = f"; {MIN_BATCH} is the least" if caps[least] < MIN_BATCH else ""
    return batch, f"{batch} samples: {least}{floor}."


def _explain_patch(task: Task, preset: Preset, trial: _Trial, memory_gb: float) -> str:
    patch, dimensions = trial.topology.patch, len(task.shape)
    covered = math.prod(min(n, m) / m for n, m in zip(patch, task.shape, strict=True))
    allowed, batch = _allowed(preset, dimensions, memory_gb), preset.fitting_batch[dimensions - 2]
    limits = f"the {allowed:.3g} convolution outputs per sample that fit in {memory_gb:g} GB at a batch of {batch}"
    if preset.step_gflop is not None:
        seconds = preset.step_gflop / LAPTOP_GFLOPS
        limits += f" and the {preset.step_gflop:g} GFLOP that a laptop does in a step of about {seconds:.1f} s"
    how = "shortened to stay within" if trial.shrunk else "which stays within"
    if trial.unpadded:
        how = f"fewer halvings than possible, as it would be over {preset.padding_limit} times the case, {how}"
    if trial.spared:
        limits += f", where no axis is cut below {preset.least_edge} voxels"
    cost = f"{trial.elements:.3g} outputs, {step_gflop(trial.gflop, MIN_BATCH):.3g} GFLOP"
    return (
        f"{join(patch)} voxels cover {covered:.0%} of the median {'slice' if dimensions == 2 else 'case'} of "
        f"{join(task.shape)}: multiples of {join(trial.topology.divisors)}, {how} {limits} (this patch: {cost})."
    )


def explain_network(task: Task, topology: Topology, network: NetworkSettings, *, share: float = 1.0) -> str:
    """One sentence on stages and features.

    Args:
        share: of the preset's filters, where it was narrowed to fit.
    """
    narrowed = f"; {share:.0%} of the preset's filters keep it within the memory" if share < 1 else ""
    halvings = ", ".join(map(str, topology.pools))
    return (
        f"{network.name}, {len(network.features)} stages with {network.features[0]} to {network.features[-1]} "
        f"features: the axes at {join(task.spacing)} mm are halved {halvings} times, while they keep {MIN_SIZE} voxels "
        f"and differ by less than a factor of 2{narrowed}."
    )
