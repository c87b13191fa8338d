"""Numbers of a device: equal to the CPU's, in half precision, with any number of threads, and by OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from autoseg.core.devices import choose_precision, cpu_has_bfloat16, use_cores
from autoseg.core.records import Configuration, Plan, VerifiedLine
from autoseg.folds.data import time_step
from autoseg.folds.probing import LEAST_GAIN, set_precision
from autoseg.losses import build_loss
from autoseg.model import planned_network
from autoseg.pipeline.verification.workplace import Workplace
from autoseg.prediction.engines import choose_engine
from autoseg.prediction.openvino_network import OpenvinoNetwork
from autoseg.training import ALONE, EpochFacts, Hooks, NoiseBatches, TrainingState, train_fold

STEPS = 3  # of a training whose losses are compared
MAX_DIFFERENCE = 1e-3  # of a loss in float32; an optimiser's first steps enlarge rounding
MAX_HALF_DIFFERENCE = 0.05  # of a loss in half precision
THREADS_GAIN = 1.15  # of speed with fewer threads; less is noise
MANY_CALLS = 10_000  # so that a trial of engines is worth its time
PLANNED = {"2d": "2D", "3d": "3D"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A way to compute the same few training steps.

    Attributes:
        device: of the network.
        precision: as in a plan.
        threads: of the CPU; None for all cores.
    """

    device: torch.device
    precision: str = "float32"
    threads: int | None = None


def verify_numbers(place: Workplace) -> list[VerifiedLine]:
    """Losses of the same training steps on the CPU and on the device; on a CPU, with one thread and with several."""
    cpu = torch.device("cpu")
    if place.on_cpu:
        threads = max(2, use_cores())
        pair, words = (Run(device=cpu, threads=1), Run(device=cpu, threads=threads)), f"with 1 and {threads} threads"
    else:
        pair, words = (Run(device=cpu), Run(device=place.device)), "on the CPU and on the GPU"
    advice = (
        f"the steps differ {words} by more than rounding, so do not train here; update torch (and the driver), and "
        f"report this line"
    )
    return _compare(place, pair, f"float32 {words}", MAX_DIFFERENCE, advice)


def verify_precision(place: Workplace) -> list[VerifiedLine]:
    """Losses in the device's half precision against float32, and the gain of speed."""
    half = _half_precision(place)
    if half is None:
        result = "trainings compute in float32 on this device"
        return [VerifiedLine(name="half precision", verdict="skipped", result=result)]
    pair = Run(device=place.device), Run(device=place.device, precision=half)
    advice = f"set training.precision to float32 in the plan; {half} is not accurate on this device"
    lines = _compare(place, pair, half, MAX_HALF_DIFFERENCE, advice)
    plan = place.plan_large()
    for name, dimensions in PLANNED.items():
        if name in plan.configurations:
            slow, quick = (
                time_step(set_precision(plan, name, precision), name, place.device, ALONE)
                for precision in ("float32", half)
            )
            worthwhile = "worthwhile" if slow >= LEAST_GAIN * quick else "not worthwhile"
            result = f"{half} steps are {slow / quick:.2f} times as fast as float32, {worthwhile}"
            figures = {"float32_step_s": slow, "half_step_s": quick}
            lines.append(
                VerifiedLine(name=f"{dimensions} gain of {half}", verdict="ok", result=result, numbers=figures)
            )
    return lines


def verify_openvino(place: Workplace) -> list[VerifiedLine]:
    """Logits by OpenVINO against torch's on noise."""
    lines = []
    plan = place.plan_large()
    for name, dimensions in PLANNED.items():
        if name not in plan.configurations:
            continue
        network = planned_network(plan, name, seed=plan.seed).eval()
        network.deep_supervision = False  # type: ignore[assignment]
        shape = (1, plan.count_inputs(name), *plan.configurations[name].tiling.tile_size)
        tile = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        choice = choose_engine([network], tile, engine="openvino", calls=MANY_CALLS)
        equal = isinstance(choice.networks[0], OpenvinoNetwork) or "is not faster" in choice.reason
        missing = "is not installed" in choice.reason
        lines.append(
            VerifiedLine(
                name=f"{dimensions} by OpenVINO",
                verdict="skipped" if missing else "ok" if equal else "failed",
                result=choice.reason,
                advice="" if equal or missing else "autoseg_predict uses torch instead; update openvino",
            )
        )
    return lines


def verify_threads(place: Workplace) -> list[VerifiedLine]:
    """Step time with one thread, half of the cores, and all of them, as trainings use them."""
    plan, cores = place.plan_large(), use_cores()
    name = plan.recommended
    if cores == 1:
        return [VerifiedLine(name=f"{name} step by threads", verdict="skipped", result="this process has one core")]
    seconds = {}
    try:
        for threads in sorted({1, max(1, cores // 2), cores}):
            torch.set_num_threads(threads)
            seconds[threads] = time_step(plan, name, place.device, ALONE)
    finally:
        use_cores()
    best = min(seconds, key=lambda threads: seconds[threads])
    is_good = seconds[cores] <= THREADS_GAIN * seconds[best]
    return [
        VerifiedLine(
            name=f"{name} step by threads",
            verdict="ok" if is_good else "failed",
            result=", ".join(f"{threads}: {value:.3g} s" for threads, value in seconds.items()),
            advice=""
            if is_good
            else f"steps are quickest with {best} threads; start trainings with: taskset -c "
            f"0-{best - 1} autoseg_train ...",
            numbers={f"step_s_with_{threads}_threads": value for threads, value in seconds.items()},
        )
    ]


def _half_precision(place: Workplace) -> str | None:
    """The half precision that trainings use on the device; None without any."""
    if place.on_cpu:
        return "bfloat16" if cpu_has_bfloat16() else None
    chosen = choose_precision(place.plan_small().configurations["3d"].training, place.device)
    return str(chosen).removeprefix("torch.") if chosen is not torch.float32 else None


def _compare(place: Workplace, pair: tuple[Run, Run], words: str, bound: float, advice: str) -> list[VerifiedLine]:
    """One line for 2D and one for 3D: the largest relative difference of the losses of two runs."""
    lines = []
    plan = place.plan_small()
    for name, dimensions in PLANNED.items():
        if name not in plan.configurations:
            continue
        expected, losses = (_train_on_noise(plan, name, run) for run in pair)
        difference = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(expected, losses, strict=True))
        is_good = difference <= bound  # NaN is not
        lines.append(
            VerifiedLine(
                name=f"{dimensions} losses in {words}" if len(words) < 12 else f"{dimensions} losses",
                verdict="ok" if is_good else "failed",
                result=f"{words}: {STEPS} losses differ by at most {difference:.1e} of their value (bound {bound:g})",
                advice="" if is_good else advice,
                numbers={"difference": difference, "bound": bound} if difference < float("inf") else {},
            )
        )
    return lines


def _train_on_noise(plan: Plan, name: str, run: Run) -> list[float]:
    """Losses of the first training steps of a configuration, from the plan's own weights."""
    configuration = _shorten(set_precision(plan, name, run.precision).configurations[name])
    loss = build_loss(configuration.loss, regions=tuple(plan.regions.values()), ignore_label=plan.ignore_label)
    batches = NoiseBatches(configuration, plan.count_inputs(name), max(plan.labels.values()) + 1)
    network = planned_network(plan, name, seed=plan.seed).to(run.device)
    facts: list[EpochFacts] = []
    use_cores()
    try:
        if run.threads is not None:
            torch.set_num_threads(run.threads)
        state = TrainingState.start(network, configuration)
        train_fold(state, configuration, batches, loss, hooks=Hooks(on_epoch=facts.append))
    finally:
        use_cores()
    return [fact.train_loss for fact in facts]


def _shorten(configuration: Configuration) -> Configuration:
    """A training of a few epochs of one step each, computed as written."""
    length = {"epochs": STEPS, "steps_per_epoch": 1, "stages": (), "acceleration": "none", "time_budget_s": None}
    training = configuration.training.model_copy(update=length)
    return configuration.model_copy(update={"training": training, "transfer": None})
