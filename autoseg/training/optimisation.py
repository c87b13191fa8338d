"""How weights move: optimiser, learning rate, moving average; and whether a number still improves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoseg.core.records import OptimiserSettings


@dataclass(frozen=True, kw_only=True)
class PlateauDetector:
    """Whether a number that should rise still does.

    Attributes:
        best: the highest so far.
        since: values in a row that did not improve on it.
        drops: how often the patience ended.
    """

    best: float | None = None
    since: int = 0
    drops: int = 0

    def see(self, value: float, *, margin: float, patience: int) -> Self:
        """The watch after one more value, which improves when it lies above the best by more than the margin."""
        if self.best is None or value > self.best + margin:
            return type(self)(best=value, drops=self.drops)
        if self.since + 1 < patience:
            return type(self)(best=self.best, since=self.since + 1, drops=self.drops)
        return type(self)(best=self.best, drops=self.drops + 1)


def build_optimiser(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], settings: OptimiserSettings
) -> torch.optim.Optimizer:
    """The optimiser of the plan, of parameters or of groups of them; its learning rate is set before every step."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(parameters, rate, momentum=settings.momentum, weight_decay=decay, nesterov=nesterov)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(parameters, rate, betas=(settings.momentum, 0.999), weight_decay=decay)


def learning_rate(settings: OptimiserSettings, progress: float, *, drops: int = 0) -> float:
    """The learning rate at a point of the training.

    Source: poly as in nnU-Net, doi:10.1038/s41592-020-01008-z; cosine: arXiv:1608.03983 without restarts.

    Args:
        settings: base rate, schedule and warm-up.
        progress: 0 at the start, 1 at the end; share of the steps or of the time.
        drops: how often ``plateau`` has lowered the rate.
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
        case "step":  # a hair more, so that 0.3 / 0.1 counts as 3
            return settings.learning_rate * settings.factor ** int(rest / settings.step_share + 1e-9)
        case "plateau":
            return settings.learning_rate * settings.factor**drops
    return settings.learning_rate


@torch.no_grad()
def move_average(averaged: dict[str, Tensor], current: dict[str, Tensor], *, decay: float, step: int) -> None:
    """Move averaged weights towards the current ones, in place; counters and other integers are copied.

    The decay starts low, so that the random first weights are soon forgotten.

    Source: Polyak & Juditsky 1992, doi:10.1137/0330046; the start (1 + step) / (10 + step) is TensorFlow's.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    for name, average in averaged.items():
        if average.is_floating_point():
            average.lerp_(current[name].to(average.dtype), share)
        else:
            average.copy_(current[name])
