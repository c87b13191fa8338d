"""Optimiser, learning-rate schedules, weight averaging and plateau detection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoseg.core.records import OptimiserSettings

CPU = torch.device("cpu")


@dataclass(kw_only=True)
class PlateauDetector:
    """Counts how often a value that should rise has stopped improving.

    Attributes:
        best: the highest so far.
        since: values in a row that did not improve on it.
        reductions: how often the patience ended, which is how often a learning rate was reduced.
    """

    best: float | None = None
    since: int = 0
    reductions: int = 0

    def update(self, value: float | None, *, margin: float, patience: int) -> bool:
        """Count one more value, which improves if it is above the best by more than the margin; None is skipped.

        Returns:
            Whether the patience has ended with this value.
        """
        if value is None:
            return False
        if self.best is None or value > self.best + margin:
            self.best, self.since = value, 0
            return False
        self.since += 1
        if self.since < patience:
            return False
        self.since = 0
        self.reductions += 1
        return True


def build_optimiser(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    settings: OptimiserSettings,
    *,
    device: torch.device = CPU,
) -> torch.optim.Optimizer:
    """The planned optimiser of parameters or groups of them; its learning rate is set before every step.

    On a GPU it is a fused one: one kernel instead of hundreds, which leaves weights and state as they are where
    ``found_inf`` is 1, so that nobody waits to learn whether a step may be taken.
    """
    rate, decay, fused = settings.learning_rate, settings.weight_decay, device.type == "cuda"
    optimiser: torch.optim.Optimizer
    if settings.name == "sgd":
        nesterov = settings.momentum > 0
        optimiser = torch.optim.SGD(
            parameters, rate, momentum=settings.momentum, weight_decay=decay, nesterov=nesterov, fused=fused
        )
    else:
        kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
        optimiser = kind(parameters, rate, betas=(settings.momentum, 0.999), weight_decay=decay, fused=fused)
    _fill_momentum(optimiser)
    return optimiser


def restore_optimiser(optimiser: torch.optim.Optimizer, content: dict[str, Any]) -> None:
    """Load a captured state, which may be of another device; fused or not is this optimiser's own."""
    groups = [{**group, "fused": optimiser.defaults["fused"]} for group in content["param_groups"]]
    optimiser.load_state_dict({**content, "param_groups": groups})
    _fill_momentum(optimiser)


def _fill_momentum(optimiser: torch.optim.Optimizer) -> None:
    """Begin a fused SGD with a momentum of 0, which is what its first step does.

    Torch allocates it in that step without a value, and a first step that is skipped would leave it so.
    """
    for group in optimiser.param_groups:
        if group["fused"] and group.get("momentum"):
            for weight in group["params"]:
                optimiser.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))


def learning_rate(settings: OptimiserSettings, progress: float, *, reductions: int = 0) -> float:
    """The learning rate at a point of the training.

    Source: poly as in nnU-Net, doi:10.1038/s41592-020-01008-z; cosine: arXiv:1608.03983 without restarts.

    Args:
        settings: base rate, schedule and warm-up.
        progress: 0 at the start, 1 at the end; share of the steps or of the time.
        reductions: how often ``plateau`` has reduced the rate.
    """
    warmup = settings.warmup_share
    if progress < warmup:
        return settings.learning_rate * progress / warmup
    rest = min(max((progress - warmup) / (1 - warmup), 0.0), 1.0)
    match settings.schedule:
        case "poly":
            return settings.learning_rate * (1 - rest) ** settings.exponent
        case "cosine":
            return settings.learning_rate * (1 + math.cos(math.pi * rest)) / 2
        case "step":  # the addend makes 0.3 / 0.1 count as 3
            return settings.learning_rate * settings.factor ** int(rest / settings.step_share + 1e-9)
        case "plateau":
            return settings.learning_rate * settings.factor**reductions
    return settings.learning_rate


@torch.no_grad()
def move_average(
    averaged: dict[str, Tensor],
    current: dict[str, Tensor],
    *,
    decay: float,
    step: int,
    taken: Tensor | None = None,
) -> None:
    """Update averaged weights with the current ones, in place; counters and other integers are copied.

    The decay starts low, so that the random initial weights lose their influence quickly.

    Source: Polyak & Juditsky 1992, doi:10.1137/0330046; the start (1 + step) / (10 + step) is TensorFlow's.

    Args:
        averaged: name -> weight.
        current: the same names.
        decay: of the average, once it has started.
        step: number of this step.
        taken: one bool on the device, whether the step was taken; else the average stays. None: it was.
    """
    share: float | Tensor = 1 - min(decay, (1 + step) / (10 + step))
    if taken is not None:
        share = taken * share
    for name, average in averaged.items():
        if average.is_floating_point():
            part = share.to(average.dtype) if isinstance(share, Tensor) else share
            average.lerp_(current[name].to(average.dtype), part)
        else:
            average.copy_(current[name])
