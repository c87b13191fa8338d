"""Training data: choose the case cache and the batch engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from autoseg.batches import Batches, StagedBatches, Timing, cache_in_memory, cache_on_device, time_batches
from autoseg.core.errors import MemoryShortageError, UsageError
from autoseg.core.parallel import free_memory_bytes
from autoseg.core.records import Configuration, Plan, PreparedCase
from autoseg.losses import build_loss
from autoseg.model import planned_network
from autoseg.prediction.memory import free_bytes
from autoseg.training import EpochFacts, Hooks, NoiseBatches, Ranks, TrainingState, train_fold

log = logging.getLogger(__name__)

TIMED_STEPS = 2  # of a group; the first one creates the optimiser's state and lets cuDNN try its kernels
TIMED_GROUPS = 3  # of which the quickest counts: other programs only slow a step down


def open_batches(
    plan: Plan,
    configuration_name: str,
    cases: Sequence[PreparedCase],
    *,
    seed: Sequence[int],
    device: torch.device,
    ranks: Ranks,
) -> StagedBatches:
    """Batches of a training, made by the planned engine or, with ``auto``, by the one with the shorter step.

    Args:
        plan: with the configuration.
        configuration_name: in the plan.
        cases: to train on.
        seed: of the plan and the fold.
        device: where the network is.
        ranks: of this process; its batches are its share of every step.

    Raises:
        UsageError: the plan augments on the GPU, and the training runs on the CPU.
        TrainingError, DataError: of ``Batches``.
    """
    configuration = plan.configurations[configuration_name]
    reserved = step_bytes(plan, configuration_name)
    on_cpu = device.type != "cuda"  # Apple's GPU lacks operations that change volumes, and shares the CPU's memory
    if on_cpu and configuration.augmentation.device == "gpu":
        where = "the CPU" if device.type == "cpu" else "an Apple GPU"
        raise UsageError(
            f"the plan's {configuration_name}.augmentation.device is gpu, but this training runs on {where}; set it to "
            f"auto or cpu, or train on an NVIDIA GPU"
        )
    free = max(free_memory_bytes() // ranks.neighbours - (reserved if on_cpu else 0), 0)
    cached = cache_in_memory(cases, free)
    common: dict[str, Any] = {
        "seed": seed,
        "workers": torch.get_num_threads(),
        "mask_values": plan.mask_values(configuration_name),
        "ignore_label": plan.ignore_label,
        "pin_memory": not on_cpu,
        "share": (ranks.rank, ranks.world),
    }
    engine = configuration.augmentation.device

    def open_stage(stage_cases: Sequence[PreparedCase], stage: Configuration) -> Batches:
        make = partial(Batches, stage_cases, stage, **common)
        if on_cpu or engine == "cpu":
            log.debug("batches are made by %d threads of the CPU", torch.get_num_threads())
            return make()
        volumes = cache_on_device(stage_cases, device, free_bytes=free_bytes(device), reserved_bytes=reserved)
        on_gpu = partial(make, device=device, volumes=volumes)
        if engine == "gpu":
            return on_gpu()
        return choose_batches(make, on_gpu, partial(time_step, plan, configuration_name, device, ranks), device)

    return StagedBatches(cached, configuration, open_stage)


def choose_batches(
    on_cpu: Callable[[], Batches],
    on_gpu: Callable[[], Batches],
    time_network: Callable[[], float],
    device: torch.device,
) -> Batches:
    """The batches of the faster engine, after a timing of both, which is logged.

    Args:
        on_cpu, on_gpu: open batches made on that device.
        time_network: seconds of the network's part of a step.
        device: of the network, on which work may still run when a call returns.
    """

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    try:
        step_s = time_network()
        seconds = []
        for open_ in (on_cpu, on_gpu):
            with open_() as batches:
                seconds.append(time_batches(batches, wait=wait))
    except MemoryShortageError as error:
        log.info("batches are made by CPU threads, because the GPU has no memory left for them: %s", error)
        return on_cpu()
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    timing = Timing(cpu_s=seconds[0], gpu_s=seconds[1], step_s=step_s)
    chosen = timing.choose()
    log.info("augmentation.device auto: %s, so batches are augmented on the %s", timing.describe(), chosen.upper())
    return on_cpu() if chosen == "cpu" else on_gpu()


def step_bytes(plan: Plan, configuration_name: str) -> int:
    """Bytes of a training step on its device: as measured, else as predicted, else the plan's whole budget."""
    facts = plan.memory.get(configuration_name)
    gigabytes = plan.memory_gb if facts is None else facts.measured_gb or facts.predicted_gb
    return int(gigabytes * 1e9)


def time_step(plan: Plan, configuration_name: str, device: torch.device, ranks: Ranks) -> float:
    """Seconds of the network's part of a step, from a few steps on noise with throw-away weights.

    Raises:
        MemoryShortageError: free memory does not suffice.
    """
    configuration = plan.configurations[configuration_name]
    optimiser = configuration.optimiser.model_copy(
        update={"learning_rate": 1e-9}
    )  # noise must not make weights diverge
    training = configuration.training.model_copy(
        update={"epochs": 1 + TIMED_GROUPS, "steps_per_epoch": TIMED_STEPS, "stages": ()}
    )
    size = max(1, configuration.batch_size // ranks.world)
    short = configuration.model_copy(
        update={"batch_size": size, "optimiser": optimiser, "training": training, "transfer": None}
    )
    batches = NoiseBatches(short, plan.count_inputs(configuration_name), max(plan.labels.values()) + 1)
    loss = build_loss(configuration.loss, regions=tuple(plan.regions.values()), ignore_label=plan.ignore_label)
    facts: list[EpochFacts] = []
    try:
        network = planned_network(plan, configuration_name, seed=plan.seed).to(device)
        train_fold(TrainingState.start(network, short), short, batches, loss, hooks=Hooks(on_epoch=facts.append))
    except torch.OutOfMemoryError as error:
        raise MemoryShortageError(str(error).split(";", maxsplit=1)[0]) from error
    return min(fact.compute_s / fact.steps for fact in facts[1:])
