"""Speed of a training: until its first step, of a step, and of loading."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

import torch

from autoseg.batches import StagedBatches, Timing, time_batches
from autoseg.core.devices import use_cores
from autoseg.core.records import Configuration, Plan, VerifiedLine
from autoseg.folds.data import open_batches, time_step
from autoseg.losses import build_loss
from autoseg.model import planned_network
from autoseg.options import TrainOptions
from autoseg.pipeline.train import train
from autoseg.pipeline.verification.workplace import LARGE, Workplace
from autoseg.training import ALONE, EpochFacts, Hooks, TrainingState, train_fold

MAX_FIRST_STEP_S = 180.0
MAX_STEP_RATIO = {"cpu": 2.0, "cuda": 1.25}  # of a training's step to the bare network's
SLACK = 1.2  # of the chosen engine's step to the other's, measured again
STEPS = 3  # of an epoch that is timed, after a first one
SEED = (1, 2)


def verify_first_step(place: Workplace) -> list[VerifiedLine]:
    """Seconds from the start of ``autoseg_train`` on large scans to the end of the first step."""
    name = place.plan_large().recommended
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import autoseg.folds.training"], check=True)
    import_s = time.perf_counter() - began
    first_s: list[float] = []

    def progress(done: int, total: int, what: str) -> None:
        if what.startswith("training steps"):
            first_s.append(time.perf_counter() - began)

    options = TrainOptions(
        dataset=LARGE, configuration=name, fold="all", device=str(place.device), epochs=1, restart=True
    )
    began = time.perf_counter()
    train(place.store, options, should_stop=lambda: bool(first_s), progress=progress)
    seconds = import_s + first_s[0]
    is_good = seconds <= MAX_FIRST_STEP_S
    return [
        VerifiedLine(
            name=f"{name} first step",
            verdict="ok" if is_good else "failed",
            result=f"after {seconds:.1f} s, {import_s:.1f} s of them to load the program (bound {MAX_FIRST_STEP_S:g})",
            advice=""
            if is_good
            else "set training.acceleration to none and augmentation.device to cpu or gpu in the "
            "plan, so that nothing is timed first; a slow disk shows in the time to load the program",
            numbers={"first_step_s": seconds, "import_s": import_s},
        )
    ]


def verify_step(place: Workplace) -> list[VerifiedLine]:
    """Step time of a training over the bare network's, with two threads that make batches and with all."""
    plan, cores = place.plan_large(), use_cores()
    name, lines = plan.recommended, []
    bound = MAX_STEP_RATIO["cpu" if place.on_cpu else "cuda"]
    try:
        for threads in sorted({min(2, cores), cores}):
            torch.set_num_threads(threads)
            bare_s = time_step(plan, name, place.device, ALONE)
            whole_s = _time_training_step(place, plan, name)
            is_good = whole_s <= bound * bare_s
            result = (
                f"{whole_s:.3g} s, {whole_s / bare_s:.2f} times the bare network's {bare_s:.3g} s (bound {bound:g})"
            )
            lines.append(
                VerifiedLine(
                    name=f"{name} step, {threads} threads",
                    verdict="ok" if is_good else "failed",
                    result=result,
                    advice=""
                    if is_good
                    else "the network waits for batches: give the training more cores; on a GPU, "
                    "set augmentation.device to gpu in the plan",
                    numbers={"step_s": whole_s, "bare_step_s": bare_s, "threads": threads},
                )
            )
    finally:
        use_cores()
    return lines


def verify_loading(place: Workplace) -> list[VerifiedLine]:
    """Batches per second of both engines, and the one that ``auto`` took."""
    plan, lines = place.plan_large(), []
    use_cores()
    engines = ("cpu", "gpu") if place.device.type == "cuda" else ("cpu",)
    for name in ("3d", "2d"):
        if name not in plan.configurations:
            continue
        seconds = {}
        for engine in engines:
            with _open(place, plan, name, engine) as batches:
                seconds[engine] = time_batches(_FirstStage(batches), wait=place.wait)  # type: ignore[arg-type]
        bare_s = time_step(plan, name, place.device, ALONE)
        with _open(place, plan, name, "auto") as batches:
            batches.batch(0, 0)
            opened = batches.batches
            chosen = "cpu" if opened is None or opened.device is None else "gpu"
        whole = {"cpu": max(seconds["cpu"], bare_s)}
        if "gpu" in seconds:
            whole["gpu"] = seconds["gpu"] + bare_s
        is_good = whole[chosen] <= SLACK * min(whole.values())
        rates = ", ".join(f"{engine} {1 / value:.3g}" for engine, value in seconds.items())
        described = Timing(cpu_s=seconds["cpu"], gpu_s=seconds.get("gpu", 0.0), step_s=bare_s)
        lines.append(
            VerifiedLine(
                name=f"{name} loading",
                verdict="ok" if is_good else "failed",
                result=f"batches/s: {rates}; the network takes {1 / bare_s:.3g}; auto took {chosen}",
                advice="" if is_good else f"set augmentation.device to {described.choose()} in the plan",
                numbers={f"{engine}_batch_s": value for engine, value in seconds.items()} | {"bare_step_s": bare_s},
            )
        )
    return lines


@dataclass(frozen=True)
class _FirstStage:
    """Batches of a plan without stages, by their number alone."""

    batches: StagedBatches

    def batch(self, step: int) -> object:
        """The batch of a step."""
        return self.batches.batch(step, 0)


def _open(place: Workplace, plan: Plan, name: str, engine: str) -> StagedBatches:
    """Batches of a training on the large scans, made by an engine."""
    configuration = _unstaged(plan.configurations[name])
    augmentation = configuration.augmentation.model_copy(update={"device": engine})
    configuration = configuration.model_copy(update={"augmentation": augmentation})
    plan = plan.model_copy(update={"configurations": {**plan.configurations, name: configuration}})
    cases = place.read_prepared(plan, name)
    return open_batches(plan, name, cases, seed=SEED, device=place.device, ranks=ALONE)


def _time_training_step(place: Workplace, plan: Plan, name: str) -> float:
    """Seconds of a training step with its batches, the shortest mean of two epochs after a first one."""
    configuration = _unstaged(plan.configurations[name])
    length = {"epochs": 3, "steps_per_epoch": STEPS}
    training = configuration.training.model_copy(update=length)
    configuration = configuration.model_copy(update={"training": training})
    loss = build_loss(configuration.loss, regions=tuple(plan.regions.values()), ignore_label=plan.ignore_label)
    network = planned_network(plan, name, seed=plan.seed).to(place.device)
    facts: list[EpochFacts] = []
    with _open(place, plan, name, configuration.augmentation.device) as batches:
        state = TrainingState.start(network, configuration)
        train_fold(state, configuration, batches, loss, hooks=Hooks(on_epoch=facts.append))
    return min((fact.data_s + fact.compute_s) / fact.steps for fact in facts[1:])


def _unstaged(configuration: Configuration) -> Configuration:
    """The configuration without stages and without a time budget."""
    training = configuration.training.model_copy(update={"stages": (), "time_budget_s": None})
    return configuration.model_copy(update={"training": training})
