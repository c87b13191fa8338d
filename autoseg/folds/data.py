"""What feeds a training: where its cases lie, and who makes its batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch

from autoseg.batches import Batches, Timing, cache_in_memory, cache_on_device, time_batches
from autoseg.core.errors import MemoryShortageError, UsageError
from autoseg.core.parallel import free_memory_bytes
from autoseg.core.records import Plan, PreparedCase
from autoseg.losses import build_loss
from autoseg.model import planned_network
from autoseg.prediction.memory import free_bytes
from autoseg.training import EpochFacts, NoiseBatches, Ranks, train_fold

log = logging.getLogger(__name__)

TIMED_STEPS = 3  # twice: the first half creates the optimiser's state and lets cuDNN try its kernels


def open_batches(
    plan: Plan,
    name: str,
    cases: Sequence[PreparedCase],
    *,
    seed: Sequence[int],
    device: torch.device,
    ranks: Ranks,
) -> Batches:
    """The batches of a training, made by whom the plan names or, with ``auto``, by whoever makes a step shorter.

    Args:
        name: of the configuration.
        cases: to train on.
        seed: of the plan and the fold.
        device: where the network is.
        ranks: of this process; its batches are its share of every step.

    Raises:
        UsageError: the plan wants the GPU to change patches, and the training runs on the CPU.
        TrainingError, DataError: of ``Batches``.
    """
    configuration = plan.configurations[name]
    reserved = step_bytes(plan, name)
    on_cpu = device.type == "cpu"
    if on_cpu and configuration.augmentation.device == "gpu":
        raise UsageError(
            f"the plan's {name}.augmentation.device is gpu, but this training runs on the CPU; set it to auto or cpu, "
            f"or train on a GPU"
        )
    free = max(free_memory_bytes() // ranks.neighbours - (reserved if on_cpu else 0), 0)
    held = cache_in_memory(cases, free)
    make = partial(
        Batches,
        held,
        configuration,
        seed=seed,
        workers=torch.get_num_threads(),
        mask_values=plan.mask_values(name),
        ignore_label=plan.ignore_label,
        pin_memory=not on_cpu,
        share=(ranks.rank, ranks.world),
    )
    wanted = configuration.augmentation.device
    if on_cpu or wanted == "cpu":
        log.debug("batches are made by %d threads of the CPU", torch.get_num_threads())
        return make()
    volumes = cache_on_device(held, device, free_bytes=free_bytes(device), reserved_bytes=reserved)
    on_gpu = partial(make, device=device, volumes=volumes)
    if wanted == "gpu":
        return on_gpu()
    return choose_batches(make, on_gpu, partial(time_step, plan, name, device, ranks), device)


def choose_batches(
    on_cpu: Callable[[], Batches],
    on_gpu: Callable[[], Batches],
    time_network: Callable[[], float],
    device: torch.device,
) -> Batches:
    """Time both, and say which is taken.

    Args:
        on_cpu, on_gpu: open batches that are made there.
        time_network: seconds of the network's part of a step.
        device: that may have work left to do when a call returns.
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
        log.info("batches are made by the CPU's threads, as the GPU has no room to spare for them: %s", error)
        return on_cpu()
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    timing = Timing(cpu_s=seconds[0], gpu_s=seconds[1], step_s=step_s)
    chosen = timing.choose()
    log.info("augmentation.device auto: %s, so batches are changed on the %s", timing.describe(), chosen.upper())
    return on_cpu() if chosen == "cpu" else on_gpu()


def step_bytes(plan: Plan, name: str) -> int:
    """What a training step takes of its device: as measured, else as predicted, else the plan's whole budget."""
    facts = plan.memory.get(name)
    gigabytes = plan.memory_gb if facts is None else facts.measured_gb or facts.predicted_gb
    return int(gigabytes * 1e9)


def time_step(plan: Plan, name: str, device: torch.device, ranks: Ranks) -> float:
    """Seconds of the network's part of a step, of a few steps on noise with weights that nobody keeps.

    Raises:
        MemoryShortageError: there is too little memory for them beside what is there already.
    """
    configuration = plan.configurations[name]
    still = configuration.optimiser.model_copy(update={"learning_rate": 1e-9})  # no noise shall blow the weights up
    size = max(1, configuration.batch_size // ranks.world)
    own = configuration.model_copy(update={"batch_size": size, "optimiser": still})
    batches = NoiseBatches(own, plan.count_inputs(name), max(plan.labels.values()) + 1)
    loss = build_loss(configuration.loss, regions=tuple(plan.regions.values()), ignore_label=plan.ignore_label)
    facts: list[EpochFacts] = []
    try:
        network = planned_network(plan, name, seed=plan.seed).to(device)
        train_fold(
            network,
            own,
            batches,
            loss=loss,
            device=device,
            epochs=2,
            steps_per_epoch=TIMED_STEPS,
            on_epoch=lambda fact, _: facts.append(fact),
        )
    except torch.OutOfMemoryError as error:
        raise MemoryShortageError(str(error).split(";", maxsplit=1)[0]) from error
    return facts[-1].compute_s / facts[-1].steps
