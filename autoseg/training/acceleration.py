"""How a network is computed while it trains: as it is written, with channels last in memory, or compiled."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from autoseg.core.devices import choose_precision, is_memory_shortage
from autoseg.core.records import Configuration
from autoseg.training.distributed import Ranks

log = logging.getLogger(__name__)

Way = Literal["none", "channels_last", "compile"]
WAYS: tuple[Way, ...] = get_args(Way)
NAMES = {"none": "as it is written", "channels_last": "channels last", "compile": "compiled"}
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}

SHARE = 0.03  # of a training that trials may take
LEAST_S = 300.0  # a shorter time budget is not spent on trials
WARM_UP, TIMED = 2, 3  # steps of each trial
TRIAL_STEPS = WARM_UP + TIMED
COMPILE_S = 120.0  # what compiling takes about
FASTER = 0.95  # share of the time that is worth another way


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """A way to compute a network; the network itself keeps its weights and their names.

    Attributes:
        way: which.
        network: the network, or its compiled form with the same weights.
        layout: of its input.
    """

    way: Way
    network: Callable[[Tensor], Sequence[Tensor]]
    layout: torch.memory_format = torch.contiguous_format

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """The network's outputs of a (B,C,*patch) image."""
        return self.network(image.contiguous(memory_format=self.layout))


@dataclass(frozen=True, kw_only=True)
class StepTimer:
    """What a step is tried with; nothing of it is changed.

    Attributes:
        network: in training mode, on ``device``.
        configuration: precision and accumulation.
        loss: of the outputs and the target.
        device: where to train.
        draw: gives the batch of the step that comes next, (B,C,*patch) float32 and (B,*patch) integer.
        total_s: seconds that the training takes, given those of a step; None where it is too short to try anything.
        clock: seconds.
    """

    network: nn.Module
    configuration: Configuration
    loss: Callable[[Sequence[Tensor], Tensor], Tensor]
    device: torch.device
    draw: Callable[[], tuple[Tensor, Tensor]]
    total_s: Callable[[float], float] | None
    clock: Callable[[], float] = time.perf_counter

    def time(self, way: Way, steps: int = TIMED, warm_up: int = WARM_UP) -> float | str:
        """Seconds of a forward and backward pass, the shortest of several, or why it cannot be computed so."""
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        try:
            accelerated = apply(self.network, way, self.configuration.dimensions)
            image, target = self._take_part()
            times = [self._time_step(accelerated, image, target) for _ in range(warm_up + steps)]
        except Exception as error:  # what a compiler stumbles over is no reason not to train
            if isinstance(error, RuntimeError) and is_memory_shortage(error):
                return "memory ran out"
            if way != "compile":
                raise
            return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
        finally:
            apply(self.network, "none", self.configuration.dimensions)
            self.network.zero_grad(set_to_none=True)
            for buffer, before in buffers:
                buffer.copy_(before)
            self._tidy()
        return min(times[warm_up:])

    def _take_part(self) -> tuple[Tensor, Tensor]:
        """As much of a batch as goes through the network at once, on the device."""
        image, target = self.draw()
        part = max(1, len(image) // self.configuration.training.accumulation)
        return image[:part].to(self.device), target[:part].to(self.device)

    def _time_step(self, accelerated: Acceleration, image: Tensor, target: Tensor) -> float:
        precision = choose_precision(self.configuration.training, self.device)
        half = precision is not torch.float32
        started = self.clock()
        with torch.autocast(self.device.type, dtype=precision if half else None, enabled=half):
            outputs = accelerated(image)
        self.loss(outputs, target).backward()
        self.network.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock() - started

    def _tidy(self) -> None:
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


def apply(network: nn.Module, way: Way, dimensions: int) -> Acceleration:
    """The network computed in that way; its weights are laid out so, and keep every value.

    Args:
        network: changed in place where the layout of its weights differs.
        way: one of WAYS.
        dimensions: 2 or 3.
    """
    layout = LAYOUTS[dimensions] if way == "channels_last" else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    if way == "compile":
        return Acceleration(way=way, network=torch.compile(network, dynamic=False))
    return Acceleration(way=way, network=network, layout=layout)


def accelerate(bench: StepTimer, *, before: str | None, ranks: Ranks) -> Acceleration:
    """Compute the network as the plan says or, with ``auto``, as a short timing on a GPU says.

    On a CPU ``auto`` leaves the network as it is written: there a timing gains little, and two trainings from one seed
    would no longer agree to the last bit. A training that goes on goes on as it began.

    Args:
        bench: what to try with; untouched but for the layout of the weights.
        before: the way that the training was begun with, or None for a new one.
        ranks: the first decides for all.
    """
    wanted = bench.configuration.training.acceleration
    known = {way: way for way in WAYS}
    if wanted != "auto":
        way = wanted
    elif bench.device.type == "cpu":
        way = "none"
    elif before in known:
        way = known[before]
    else:
        found = ranks.from_first(float(WAYS.index(fastest_backend(bench))) if ranks.leads else None)
        way = WAYS[int(found or 0)]
    if way == "compile":  # once before it counts: a compiler that fails must not end a training
        failure = bench.time(way, steps=1, warm_up=0)
        if isinstance(failure, str):
            log.warning("the network cannot be compiled, so it is computed as it is written (%s)", failure)
            way = "none"
    return apply(bench.network, way, bench.configuration.dimensions)


def fastest_backend(bench: StepTimer) -> Way:
    """The fastest way, as far as trying it takes no more than 3 % of the training; said in one line."""
    if bench.total_s is None:
        return "none"
    plain = bench.time("none")
    if isinstance(plain, str):  # the training itself will say it
        return "none"
    allowed_s = SHARE * bench.total_s(plain) - TRIAL_STEPS * plain
    seconds: dict[Way, float] = {"none": plain}
    said = [f"{NAMES['none']} {plain:.3g} s"]
    costs: dict[Way, float] = {"channels_last": TRIAL_STEPS * plain, "compile": TRIAL_STEPS * plain + COMPILE_S}
    for way, cost_s in costs.items():
        if cost_s > allowed_s:
            said.append(f"{NAMES[way]} not tried in a training this short")
            continue
        allowed_s -= cost_s
        found = bench.time(way)
        if isinstance(found, str):
            log.warning("the network cannot be computed %s (%s)", NAMES[way], found)
            continue
        seconds[way] = found
        said.append(f"{NAMES[way]} {found:.3g} s")
    best = min(seconds, key=lambda way: seconds[way] if way == "none" else seconds[way] / FASTER)
    log.info("forward and backward pass: %s; the network is computed %s", ", ".join(said), NAMES[best])
    return best
