"""Backends that compute a network while it trains: as written, with channels last in memory, or compiled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from autoseg.core.devices import choose_precision, release_memory
from autoseg.core.errors import is_memory_shortage
from autoseg.core.records import Configuration
from autoseg.core.timing import choose_fastest, describe_seconds, shortest_s
from autoseg.training.distributed import Ranks
from autoseg.training.length import TrainingLength

log = logging.getLogger(__name__)

BackendName = Literal["none", "channels_last", "compile"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
DESCRIPTIONS = {"none": "as written", "channels_last": "with channels last", "compile": "compiled"}
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}

TRIAL_SHARE = 0.03  # of a training that trials may take
SHORT_BUDGET_S = 300.0  # a shorter time budget is not spent on trials
WARM_UP, TIMED = 2, 3  # steps of each trial
TRIAL_STEPS = WARM_UP + TIMED
COMPILE_S = 120.0  # typical duration of a compilation


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A network ready to be computed; the network itself keeps its weights and their names.

    Attributes:
        name: one of BACKENDS.
        network: the network, or its compiled form with the same weights.
        layout: memory format of its input.
    """

    name: BackendName
    network: Callable[[Tensor], Sequence[Tensor]]
    layout: torch.memory_format = torch.contiguous_format


@dataclass(frozen=True, kw_only=True)
class StepTimer:
    """Times forward and backward passes of a network, and changes nothing of it.

    Attributes:
        network: in training mode.
        configuration: precision and accumulation.
        loss: of the outputs and the target.
        draw: returns the batch of the next step, (B,C,*patch) float32 and (B,*patch) integer.
        length: of the training, which limits the trials.
        clock: seconds.
    """

    network: nn.Module
    configuration: Configuration
    loss: Callable[[Sequence[Tensor], Tensor], Tensor]
    draw: Callable[[], tuple[Tensor, Tensor]]
    length: TrainingLength
    clock: Callable[[], float] = time.perf_counter

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def time(self, name: BackendName, steps: int = TIMED, warm_up: int = WARM_UP) -> float | str:
        """Seconds of a forward and backward pass, the shortest of several, or the reason why it failed."""
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        device, training = self.device, self.configuration.training
        precision = choose_precision(training, device)
        half = precision is not torch.float32

        def step() -> None:
            with torch.autocast(device.type, dtype=precision if half else None, enabled=half):
                outputs = backend.network(image.contiguous(memory_format=backend.layout))
            self.loss(outputs, target).backward()
            self.network.zero_grad(set_to_none=True)

        def wait() -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        try:
            backend = make_backend(self.network, name, self.configuration.dimensions)
            image, target = self.draw()
            part = max(1, len(image) // training.accumulation)
            image, target = image[:part].to(device), target[:part].to(device)
            return shortest_s(step, warm_up=warm_up, repeats=steps, wait=wait, clock=self.clock)
        except Exception as error:  # a failing compiler must not prevent a training
            if is_memory_shortage(error):
                return "out of memory"
            if name != "compile":
                raise
            return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
        finally:
            make_backend(self.network, "none", self.configuration.dimensions)
            self.network.zero_grad(set_to_none=True)
            for buffer, before in buffers:
                buffer.copy_(before)
            if device.type == "cuda":
                release_memory(device)


def make_backend(network: nn.Module, name: BackendName, dimensions: int) -> Backend:
    """The network prepared for a backend; the memory format of its weights changes, their values do not.

    Args:
        network: changed in place.
        name: one of BACKENDS.
        dimensions: 2 or 3.
    """
    layout = LAYOUTS[dimensions] if name == "channels_last" else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    if name == "compile":
        return Backend(name=name, network=torch.compile(network, dynamic=False))
    return Backend(name=name, network=network, layout=layout)


def choose_backend(timer: StepTimer, *, previous: str | None, ranks: Ranks) -> Backend:
    """The planned backend or, with ``auto``, the fastest one of a short timing on a GPU.

    On a CPU, and on Apple's GPU, ``auto`` computes the network as written: there a timing gains little, and two
    trainings from one seed would no longer agree to the last bit. A resumed training keeps its backend.

    Args:
        timer: of the network; only the memory format of its weights is changed.
        previous: backend of the training that is resumed, or None for a new one.
        ranks: the first process decides for all.
    """
    planned, by_name = timer.configuration.training.acceleration, {name: name for name in BACKENDS}
    if planned != "auto":
        name = planned
    elif timer.device.type != "cuda":
        name = "none"
    elif previous in by_name:
        name = by_name[previous]
    else:
        index = ranks.from_first(float(BACKENDS.index(fastest_backend(timer))) if ranks.leads else None)
        name = BACKENDS[int(index or 0)]
    if name == "compile":  # once before it counts: a compiler that fails must not end a training
        failure = timer.time(name, steps=1, warm_up=0)
        if isinstance(failure, str):
            log.warning("the network cannot be compiled, so it is computed as written (%s)", failure)
            name = "none"
    return make_backend(timer.network, name, timer.configuration.dimensions)


def fastest_backend(timer: StepTimer) -> BackendName:
    """The fastest backend, as far as trying it takes at most 3 % of the training; logged in one line."""
    if trial_budget_s(timer.length, 1.0) is None:
        return "none"
    default_s = timer.time("none")
    if isinstance(default_s, str):  # the training itself will raise it
        return "none"
    allowed_s = (trial_budget_s(timer.length, default_s) or 0.0) - TRIAL_STEPS * default_s
    seconds: dict[BackendName, float] = {"none": default_s}
    skipped = ""
    costs: dict[BackendName, float] = {
        "channels_last": TRIAL_STEPS * default_s,
        "compile": TRIAL_STEPS * default_s + COMPILE_S,
    }
    for name, cost_s in costs.items():
        if cost_s > allowed_s:
            skipped += f", {DESCRIPTIONS[name]} not tried in a training this short"
            continue
        allowed_s -= cost_s
        taken = timer.time(name)
        if isinstance(taken, str):
            log.warning("the network cannot be computed %s (%s)", DESCRIPTIONS[name], taken)
        else:
            seconds[name] = taken
    fastest = choose_fastest(seconds)
    figures = describe_seconds({DESCRIPTIONS[name]: value for name, value in seconds.items()})
    log.info("forward and backward pass: %s%s; computing the network %s", figures, skipped, DESCRIPTIONS[fastest])
    return fastest


def trial_budget_s(length: TrainingLength, step_s: float) -> float | None:
    """Seconds that trials may take; None for a training that is too short for any.

    Args:
        length: of the training.
        step_s: seconds of a step.
    """
    if length.time_budget_s is not None:
        return None if length.time_budget_s < SHORT_BUDGET_S else TRIAL_SHARE * length.time_budget_s
    return None if length.steps * TRIAL_SHARE < 2 * TRIAL_STEPS else TRIAL_SHARE * length.steps * step_s
