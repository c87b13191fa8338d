"""A real training step of every planned configuration, and a smaller plan where the device does not hold it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from autoseg.core.devices import name_device, use_all_cores
from autoseg.core.errors import MemoryShortageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import MemoryFacts, Plan
from autoseg.losses import build_loss
from autoseg.model import planned_network
from autoseg.planning import DEVICE_GB
from autoseg.training import NoiseBatches, probe_step

log = logging.getLogger(__name__)

SMALLER = 0.9  # of the budget, after a shortage
ATTEMPTS = 8  # down to 0.48 of the budget; a device that has less is not free, or another than planned for


def plan_and_probe(
    make: Callable[[float], Plan], memory_gb: float, device: str, progress: Progress = no_progress
) -> Plan:
    """Plan, take a few training steps of each configuration, and plan for less as long as memory runs out.

    Args:
        make: budget in GB -> plan.
        memory_gb: the budget to begin with.
        device: where training will run, ``cpu`` or ``cuda``.

    Returns:
        A plan with what every configuration took, beside what was predicted.

    Raises:
        MemoryShortageError: the device holds not even a plan for half of the budget.
    """
    use_all_cores()
    target = torch.device(device)
    budget_gb = memory_gb
    for _ in range(ATTEMPTS):
        plan = make(budget_gb)
        try:
            memory = _probe_all(plan, target, progress)
        except MemoryShortageError as error:
            log.warning("%s", error)
            budget_gb = round(budget_gb * SMALLER, 2)
            log.info("planning for %g GB instead", budget_gb)
            continue
        return _with_measures(plan, memory, memory_gb)
    raise MemoryShortageError(
        f"{name_device(target)} holds no training step of a plan for {budget_gb / SMALLER:.2g} GB; free what other "
        f"programs hold, or say what there is with: autoseg_plan --memory GB"
    )


def probe_configuration(plan: Plan, name: str, device: torch.device) -> float:
    """GB that a real training step of a configuration takes, with the device's own share.

    Raises:
        MemoryShortageError: there is too little.
    """
    configuration = plan.configurations[name]
    loss = build_loss(configuration.loss, regions=tuple(plan.regions.values()), ignore_label=plan.ignore_label)
    batches = NoiseBatches(configuration, plan.count_inputs(name), max(plan.labels.values()) + 1)
    try:
        network = planned_network(plan, name, seed=plan.seed).to(device)
        taken = probe_step(network, configuration, batches, loss=loss, device=device)
    except (MemoryShortageError, torch.OutOfMemoryError) as error:
        raise MemoryShortageError(
            f"a training step of {name} does not fit {name_device(device)}: {str(error).split(';')[0]}"
        ) from error
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return DEVICE_GB + taken / 1e9


def choose_probe(wanted: bool | None, device: str, *, memory_gb: float, found_gb: float | None) -> str | None:
    """Which device to probe a plan on: the GPU that it is for, unless told otherwise; None for no probe.

    Args:
        wanted: as said, or None.
        device: ``auto``, ``cpu`` or ``cuda``, as said.
        memory_gb: what is planned for.
        found_gb: memory of the GPU here, if there is one.
    """
    here = "cpu" if device == "cpu" or found_gb is None else "cuda"
    if wanted is not None:
        return here if wanted else None
    if here == "cuda" and found_gb is not None and memory_gb > found_gb:
        log.info("no training step is tried: the plan is for %g GB, this GPU has %.3g GB", memory_gb, found_gb)
        return None
    return here if here == "cuda" else None


def _probe_all(plan: Plan, device: torch.device, progress: Progress) -> dict[str, MemoryFacts]:
    memory, where = {}, name_device(device)
    for done, name in enumerate(plan.configurations):
        progress(done, len(plan.configurations), "trying training steps")
        measured = round(probe_configuration(plan, name, device), 2)
        predicted = plan.memory[name].predicted_gb
        memory[name] = MemoryFacts(predicted_gb=predicted, measured_gb=measured, device=where)
        log.info("%s: a training step takes %.2f GB on %s, predicted were %.2f GB", name, measured, where, predicted)
    progress(len(plan.configurations), len(plan.configurations), "trying training steps")
    return memory


def _with_measures(plan: Plan, memory: dict[str, MemoryFacts], asked_gb: float) -> Plan:
    reasons = dict(plan.reasons)
    for name, facts in memory.items():
        reasons[f"{name}.memory"] += f" A real step took {facts.measured_gb:.2f} GB on {facts.device}."
    if plan.memory_gb != asked_gb:
        reasons["memory_gb"] += (
            f" {asked_gb:g} GB were asked for, but a real training step ran out of memory, so it is planned for less."
        )
    return plan.model_copy(update={"memory": memory, "reasons": reasons})
