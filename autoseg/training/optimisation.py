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
LEAST_CHANNELS = 8  # of a kernel at both ends: images and logits have few, and their directions mean something
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # as published


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
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}[settings.name]
        optimiser = kind(parameters, rate, betas=(settings.momentum, 0.999), weight_decay=decay, fused=fused)
    _fill_momentum(optimiser)
    return optimiser


class Muon(torch.optim.AdamW):
    """Steps that are orthogonal matrices for kernels of 8 channels or more at both ends; AdamW for all other weights.

    The momentum of a kernel (O,I,*k), as a matrix of O rows, gets singular values near 1, so that no direction
    dominates the step. It is scaled to the size of a step of AdamW, whose learning rate and weight decay suit both.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the scale: Liu et al. 2025, arXiv:2502.16982.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step, unless ``found_inf`` is 1; gradients of kernels are dropped."""
        found = getattr(self, "found_inf", None)
        for group in self.param_groups:
            beta = group["betas"][0]
            for weight in group["params"]:
                if weight.grad is None or not _is_matrix(weight):
                    continue
                state = self.state[weight]
                if not state:  # AdamW asks every state for its step when it is restored
                    state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
                gradient, taken = weight.grad, 1.0
                if found is not None:
                    gradient, taken = torch.where(found > 0, 0.0, gradient), 1 - found
                momentum = state["momentum"].lerp_(gradient, (1 - beta) * taken)
                update = orthogonalise(gradient.lerp(momentum, beta).flatten(1))
                size = 0.2 * math.sqrt(max(update.shape))
                weight.mul_(1 - group["lr"] * group["weight_decay"] * taken)
                weight.sub_(update.view_as(weight) * (group["lr"] * size * taken))
                weight.grad = None
        super().step(closure)


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim > 1 and min(weight.shape[:2]) >= LEAST_CHANNELS


def orthogonalise(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values from about 0.7 to 1.2.

    Five Newton-Schulz iterations. They only multiply the matrix from its shorter side, so they are computed on the
    square of it, which costs a fifth for a kernel of 128 channels.

    Args:
        matrix: (R,C) float32.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    wide = wide / (wide.norm() + 1e-7)
    square = wide @ wide.T
    product = None
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        factor = b * square + c * (square @ square)
        factor.diagonal().add_(a)
        square = factor @ square @ factor
        product = factor if product is None else factor @ product
    wide = product @ wide
    return wide.T if is_tall else wide


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
