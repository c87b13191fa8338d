"""How networks are computed fastest on this CPU: tried on a tile of the first scan, and said."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from autoseg.core.errors import UsageError
from autoseg.core.timing import is_faster, shortest_s
from autoseg.prediction.openvino_network import OpenvinoNetwork, is_installed

Engine = Literal["torch", "openvino", "auto"]

TRIAL_CALLS = 10  # about what all trials take, in calls of a network
TRIAL_SHARE = 0.1  # of a prediction that trials may take where nobody asked for them
LARGEST_DIFFERENCE = 1e-3  # of the range of the logits
AGREEMENT = 0.999  # share of voxels that are decided alike


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Networks under the same contract as before, and one clause on how they are computed and why."""

    networks: tuple[nn.Module, ...]
    reason: str


def check_engine(engine: Engine, device: torch.device) -> None:
    """Whether an engine that was asked for can be had at all.

    Raises:
        UsageError: OpenVINO is not installed, or the device is a GPU.
    """
    if engine != "openvino":
        return
    if device.type != "cpu":
        raise UsageError("--engine openvino computes on a CPU; add --device cpu, or leave --engine out")
    if not is_installed():
        raise UsageError("--engine openvino needs the package openvino; install it with: pip install autoseg[openvino]")


def choose_engine(
    networks: Sequence[nn.Module],
    tile: torch.Tensor,
    *,
    engine: Engine,
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """The fastest way to compute networks on this CPU that gives the same logits but for rounding.

    Args:
        networks: in evaluation mode, on the CPU.
        tile: (1,C,*tile) float32, of a scan.
        engine: ``openvino`` where it passes, ``torch``, or ``auto``: the faster, where trying is worth its time.
        calls: of a network, that are still to come.
        clock: seconds.
    """
    if engine != "openvino" and calls * TRIAL_SHARE < TRIAL_CALLS:
        return Choice(networks=tuple(networks), reason=f"torch, as {calls} tiles are too few to try others")
    seconds = _time(networks[0], tile, clock)
    found = _try_openvino(networks, tile, seconds, clock) if engine != "torch" else "openvino is not wanted"
    if isinstance(found, Choice):
        return found
    chosen, how = _try_layout(networks, tile, seconds, clock)
    return Choice(networks=chosen, reason=f"torch{how}: {found}")


def _try_openvino(
    networks: Sequence[nn.Module],
    tile: torch.Tensor,
    seconds: float,
    clock: Callable[[], float],
) -> Choice | str:
    """Converted networks, or why it is not them.

    Args:
        networks, tile, clock: as for ``choose_engine``.
        seconds: of a call of the first network by torch.
    """
    if not is_installed():
        return "openvino is not installed"
    try:
        converted = [OpenvinoNetwork(network, tile) for network in networks]
        theirs = _time(converted[0], tile, clock)
        differs = _compare(networks, converted, tile)
    except RuntimeError as error:
        return f"openvino cannot compute this network ({str(error).strip().splitlines()[-1]})"
    said = f"{theirs:.3g} s a tile, torch {seconds:.3g} s"
    if differs or not is_faster(theirs, seconds):
        return differs or f"openvino is not faster ({said})"
    return Choice(networks=tuple(converted), reason=f"openvino: {said}, and the same logits but for rounding")


def _compare(networks: Sequence[nn.Module], converted: Sequence[nn.Module], tile: torch.Tensor) -> str:
    """Why converted networks cannot take the place of their originals; empty where they can."""
    for network, other in zip(networks, converted, strict=True):
        wanted = _call(network, tile)
        found = _call(other, tile)
        difference = float((found - wanted).abs().max() / (wanted.max() - wanted.min()).clamp(min=1e-6))
        agreeing = (found.argmax(1) == wanted.argmax(1)).float().mean(), ((found > 0) == (wanted > 0)).float().mean()
        same = float(min(agreeing))  # of classes and of regions
        if not (difference <= LARGEST_DIFFERENCE and same >= AGREEMENT):
            return (
                f"openvino gives other logits: up to {difference:.2g} of their range apart, and {100 * same:.3f} % of "
                f"the voxels decided alike"
            )
    return ""


def _try_layout(
    networks: Sequence[nn.Module], tile: torch.Tensor, seconds: float, clock: Callable[[], float]
) -> tuple[tuple[nn.Module, ...], str]:
    """Channels last in memory, then half the threads; each where it is faster."""
    chosen, how = tuple(networks), ""
    layout = torch.channels_last if tile.ndim == 4 else torch.channels_last_3d
    other = _ChannelsLast(networks[0], layout)
    theirs = _time(other, tile, clock)
    if is_faster(theirs, seconds):
        chosen, how, seconds = tuple(_ChannelsLast(network, layout) for network in networks), ", channels last", theirs
    else:
        networks[0].to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    threads = torch.get_num_threads()
    if threads >= 4:  # two logical cores may share one that computes
        torch.set_num_threads(threads // 2)
        if is_faster(_time(chosen[0], tile, clock), seconds):
            return chosen, f"{how}, {threads // 2} threads"
        torch.set_num_threads(threads)
    return chosen, how


def _time(network: nn.Module, tile: torch.Tensor, clock: Callable[[], float]) -> float:
    """Seconds of a call of a network, the shorter of two, as the first one warms up."""
    return shortest_s(lambda: _call(network, tile), warm_up=0, repeats=2, clock=clock)


@torch.inference_mode()
def _call(network: nn.Module, tile: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = network(tile)[0]
    return logits


class _ChannelsLast(nn.Module):
    """A network whose weights and inputs hold the channels of a voxel side by side."""

    def __init__(self, network: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        self.network = network.to(memory_format=layout)  # type: ignore[call-overload]
        self.layout = layout

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [logits.contiguous() for logits in self.network(x.contiguous(memory_format=self.layout))]
