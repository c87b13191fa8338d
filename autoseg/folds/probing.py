"""Memory probe: real training steps of every configuration, and a smaller plan where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from autoseg.core.devices import choose_device, cpu_has_bfloat16, name_device, name_processor, use_cores
from autoseg.core.errors import MemoryShortageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Fingerprint, MachineSpeed, MemoryFacts, Plan
from autoseg.core.store import Store, read_record
from autoseg.folds.data import time_step
from autoseg.losses import build_loss
from autoseg.model import planned_network
from autoseg.planning import DEVICE_GB, IMAGENET_CONFIGURATION, price_step
from autoseg.planning.memory import step_gflop
from autoseg.planning.pricing import describe_step
from autoseg.planning.time import TimeBudget, stages_of_planned
from autoseg.training import ALONE, NoiseBatches, probe_step

log = logging.getLogger(__name__)

SMALLER = 0.9  # of the budget, after a shortage
LEAST_GAIN = 1.1  # of speed; bfloat16 is not worth its rounding below it
ROUNDS = 2  # of timings, in turns
ATTEMPTS = 8  # down to 0.48 of the budget; a device with less is busy, or not the planned one


def plan_and_probe(
    make: Callable[[float], Plan], memory_gb: float, device: str, progress: Progress = no_progress
) -> Plan:
    """Plan, run a few training steps of each configuration, and plan for less as long as memory runs out.

    Args:
        make: budget in GB -> plan.
        memory_gb: the first budget.
        device: where training will run, ``cpu`` or ``cuda``.

    Returns:
        A plan with the measured memory of every configuration beside the predicted.

    Raises:
        MemoryShortageError: not even a plan for half of the budget fits the device.
    """
    use_cores()
    target = torch.device(device)
    budget_gb = memory_gb
    for _ in range(ATTEMPTS):
        plan = make(budget_gb)
        try:
            memory = _probe_all(plan, target, progress)
        except MemoryShortageError as error:
            log.warning("%s", str(error))  # a handler that keeps records must not keep the step
            budget_gb = round(budget_gb * SMALLER, 2)
            log.info("planning for %g GB instead", budget_gb)
            continue
        return _with_measures(plan, memory, memory_gb)
    raise MemoryShortageError(
        f"not even a plan for {budget_gb / SMALLER:.2g} GB fits {name_device(target)}; free the memory of other "
        f"programs, or plan for the memory there is: autoseg_plan --memory GB"
    )


def probe_configuration(plan: Plan, configuration_name: str, device: torch.device) -> float:
    """GB of a real training step of a configuration, with the device's own overhead.

    Raises:
        MemoryShortageError: memory ran out.
    """
    name = configuration_name
    configuration = plan.configurations[name]
    loss = build_loss(configuration.loss, regions=tuple(plan.regions.values()), ignore_label=plan.ignore_label)
    batches = NoiseBatches(configuration, plan.count_inputs(name), max(plan.labels.values()) + 1)
    try:
        network = planned_network(plan, name, seed=plan.seed).to(device)
        used = probe_step(network, configuration, batches, loss=loss, device=device)
    except (MemoryShortageError, torch.OutOfMemoryError) as error:
        raise MemoryShortageError(
            f"a training step of {name} does not fit {name_device(device)}: {str(error).split(';')[0]}"
        ) from error
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return DEVICE_GB + used / 1e9


def measure_speed(plan: Plan, device: str, previous: MachineSpeed | None) -> MachineSpeed:
    """Speed of real training steps of the plan's 2D and 3D networks, and of an encoder with ImageNet weights.

    Args:
        plan: with a price for every configuration.
        device: ``auto``, ``cpu`` or ``cuda``.
        previous: kept where it was measured on the same device, so that a plan made twice is the same.
    """
    threads = use_cores()
    target = choose_device(device)
    name = name_processor(threads) if target.type == "cpu" else name_device(target)
    if previous is not None and previous.device == name:
        return previous
    tries_half = target.type == "cpu" and cpu_has_bfloat16()
    measured: dict[str, float] = {}
    for field, configuration in {"2d": "2d", "3d": "3d", "imagenet": IMAGENET_CONFIGURATION}.items():
        if configuration in plan.configurations:
            log.info("timing training steps of %s on %s", configuration, name)
            trials = [plan, set_precision(plan, configuration, "bfloat16")] if tries_half else [plan]
            rates = [
                [measure_configuration(trial, configuration, target)[0] for trial in trials] for _ in range(ROUNDS)
            ]
            best = [max(of_trial) for of_trial in zip(*rates, strict=True)]  # other programs can only slow a step
            if tries_half:
                measured[f"bfloat16_gain_{field}"] = float(f"{best[1] / best[0]:.3g}")
            measured[f"gflops_{field}"] = max(best)
    return MachineSpeed.model_validate({"device": name, **measured})


def plan_precision(plan: Plan, speed: MachineSpeed) -> Plan:
    """The plan with bfloat16 where the machine's own steps are faster in it, and the speed beside it."""
    for name, configuration in plan.configurations.items():
        of_network = speed.of_encoder() if name == IMAGENET_CONFIGURATION else speed
        gain = of_network.bfloat16_gain(configuration.dimensions)
        if gain >= LEAST_GAIN:
            reason = (
                f"{plan.reasons[f'{name}.training']} In bfloat16 a step is {gain:.2g} times as fast on {speed.device}."
            )
            plan = set_precision(plan, name, "bfloat16")
            plan = plan.model_copy(update={"reasons": {**plan.reasons, f"{name}.training": reason}})
    return plan.model_copy(update={"speed": speed})


def set_precision(plan: Plan, name: str, precision: str) -> Plan:
    """The plan with another precision of one configuration."""
    configuration = plan.configurations[name]
    training = configuration.training.model_copy(update={"precision": precision})
    changed = configuration.model_copy(update={"training": training})
    return plan.model_copy(update={"configurations": {**plan.configurations, name: changed}})


def add_stages(store: Store, plan: Plan, name: str, device: str) -> Plan:
    """The plan with the stages that suit a configuration's time budget (rule 20b); its arrays and network stay.

    A plan that was made for a time, or has stages, stays as it is, and so does one as nnU-Net makes it.
    """
    configuration = plan.configurations[name]
    seconds = configuration.training.time_budget_s
    if seconds is None or plan.compat or plan.time_budget_s is not None or configuration.training.stages:
        return plan
    path = store.preprocessed(plan.dataset) / "fingerprint.json"
    fingerprint = read_record(Fingerprint, path, advice=f"run autoseg_plan -d {plan.dataset} again")
    speed, forward_gflop = measure_configuration(plan, name, choose_device(device))
    rates = {f"gflops_{configuration.dimensions}d": speed}
    budget = TimeBudget(seconds=seconds, speed=MachineSpeed.model_validate({"device": device, **rates}))
    stages, reason = stages_of_planned(configuration, fingerprint, budget, forward_gflop=forward_gflop)
    log.info("%s: %s", name, reason)
    training = configuration.training.model_copy(update={"stages": stages})
    staged = configuration.model_copy(update={"training": training})
    reasons = {**plan.reasons, f"{name}.training": reason}
    return plan.model_copy(update={"configurations": {**plan.configurations, name: staged}, "reasons": reasons})


def measure_configuration(plan: Plan, name: str, device: torch.device) -> tuple[float, float]:
    """GFLOP per second of a configuration's training steps on a device, and GFLOP of one sample's forward pass."""
    configuration = plan.configurations[name]
    forward = price_step(describe_step(plan, configuration, plan.count_inputs(name))).forward_gflop
    seconds = time_step(plan, name, device, ALONE)
    return float(f"{step_gflop(forward, configuration.batch_size) / seconds:.3g}"), forward


def choose_probe(requested: bool | None, device: str, *, memory_gb: float, gpu_gb: float | None) -> str | None:
    """The device to probe a plan on: the GPU that it is for, unless requested otherwise; None for no probe.

    Args:
        requested: whether to probe, or None.
        device: ``auto``, ``cpu`` or ``cuda``, as requested.
        memory_gb: the planned budget.
        gpu_gb: memory of this machine's GPU, if there is one.
    """
    target = "cpu" if device == "cpu" or gpu_gb is None else "cuda"
    if requested is not None:
        return target if requested else None
    if target == "cuda" and gpu_gb is not None and memory_gb > gpu_gb:
        log.info("no training step is tried: the plan is for %g GB, this GPU has %.3g GB", memory_gb, gpu_gb)
        return None
    return target if target == "cuda" else None


def _probe_all(plan: Plan, device: torch.device, progress: Progress) -> dict[str, MemoryFacts]:
    memory, device_name = {}, name_device(device)
    for done, name in enumerate(plan.configurations):
        progress(done, len(plan.configurations), "trying training steps")
        measured = round(probe_configuration(plan, name, device), 2)
        predicted = plan.memory[name].predicted_gb
        memory[name] = MemoryFacts(predicted_gb=predicted, measured_gb=measured, device=device_name)
        log.info("%s: a training step takes %.2f GB on %s, predicted %.2f GB", name, measured, device_name, predicted)
    progress(len(plan.configurations), len(plan.configurations), "trying training steps")
    return memory


def _with_measures(plan: Plan, memory: dict[str, MemoryFacts], requested_gb: float) -> Plan:
    reasons = dict(plan.reasons)
    for name, facts in memory.items():
        reasons[f"{name}.memory"] += f" A real step took {facts.measured_gb:.2f} GB on {facts.device}."
    if plan.memory_gb != requested_gb:
        reasons["memory_gb"] += (
            f" {requested_gb:g} GB were requested, but a real training step ran out of memory, so the plan needs less."
        )
    return plan.model_copy(update={"memory": memory, "reasons": reasons})
