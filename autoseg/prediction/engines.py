"""Engines that compute networks on a CPU: the fastest equal one, tried on a tile of the first scan."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from autoseg.core.errors import UsageError
from autoseg.core.masks import stack_inputs
from autoseg.core.records import PreparedCase
from autoseg.core.timing import is_faster, shortest_s
from autoseg.model import Model
from autoseg.prediction.openvino_network import OpenvinoNetwork, is_installed
from autoseg.prediction.sliding import count_calls, middle_tile

log = logging.getLogger(__name__)

Engine = Literal["torch", "openvino", "auto"]

TRIAL_CALLS = 10  # of a network: what all trials take, roughly
MAX_TRIAL_SHARE = 0.1  # of a prediction, unless an engine was requested
MAX_DIFFERENCE = 1e-3  # of the range of the logits
MIN_AGREEMENT = 0.999  # fraction of voxels with the same class


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """Networks under the same contract as before, and a clause on their engine and the reason for it."""

    networks: tuple[nn.Module, ...]
    reason: str


def check_engine(engine: Engine, device: torch.device) -> None:
    """Refuse an engine that this machine cannot run.

    Raises:
        UsageError: OpenVINO is not installed, or the device is a GPU.
    """
    if engine != "openvino":
        return
    if device.type != "cpu":
        raise UsageError("--engine openvino runs on a CPU; add --device cpu, or omit --engine")
    if not is_installed():
        raise UsageError("--engine openvino needs the package openvino; install it with: pip install openvino")


def tune_model(
    model: Model, prepared: tuple[PreparedCase, ...], engine: Engine, device: torch.device, *, cases: int
) -> Model:
    """The model, and the source of its cascade, with the fastest engine; on a GPU unchanged.

    Args:
        prepared: a scan, as ``prepare_scan`` returns it.
        engine: as requested.
        cases: still to be predicted.
    """
    if device.type != "cpu":
        return model
    case, *source_cases = prepared
    source = model.source and tune_model(model.source, tuple(source_cases), engine, device, cases=cases)
    tiling = model.configuration.tiling
    prior = np.zeros(case.image.shape[1:], np.uint8)  # a cascade's mask is not known yet; an empty one serves here
    context = model.configuration.context_slices
    tile = middle_tile(stack_inputs(case.image, prior, model.mask_values, context_slices=context), tiling)
    calls = cases * count_calls(case.image.shape[1:], tiling, networks=len(model.networks))
    choice = choose_engine(model.networks, torch.from_numpy(tile)[None], engine=engine, calls=calls)
    log.info("%s is computed by %s", model.name, choice.reason)
    return replace(model, networks=choice.networks, source=source)


def choose_engine(
    networks: Sequence[nn.Module],
    tile: torch.Tensor,
    *,
    engine: Engine,
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> EngineChoice:
    """The fastest engine on this CPU whose logits equal torch's up to rounding.

    Args:
        networks: in evaluation mode, on the CPU.
        tile: (1,C,*tile) float32, of a scan.
        engine: ``openvino`` where it passes, ``torch``, or ``auto``: the faster one, if a trial is worth its time.
        calls: of a network, still to come.
        clock: seconds.
    """
    if engine != "openvino" and calls * MAX_TRIAL_SHARE < TRIAL_CALLS:
        return EngineChoice(networks=tuple(networks), reason=f"torch ({calls} tiles are too few to try other engines)")
    torch_s = _time(networks[0], tile, clock)
    if engine == "torch":
        rejected = "as requested"
    else:
        outcome = _try_openvino(networks, tile, torch_s, clock)
        if isinstance(outcome, EngineChoice):
            return outcome
        rejected = outcome
    chosen, layout = _try_layout(networks, tile, torch_s, clock)
    return EngineChoice(networks=chosen, reason=f"torch{layout} ({rejected})")


def _try_openvino(
    networks: Sequence[nn.Module],
    tile: torch.Tensor,
    torch_s: float,
    clock: Callable[[], float],
) -> EngineChoice | str:
    """Converted networks, or the reason against them.

    Args:
        networks, tile, clock: as for ``choose_engine``.
        torch_s: seconds of a call of the first network by torch.
    """
    if not is_installed():
        return "openvino is not installed"
    try:
        converted = [OpenvinoNetwork(network, tile) for network in networks]
        openvino_s = _time(converted[0], tile, clock)
        difference = _describe_difference(networks, converted, tile)
    except RuntimeError as error:
        return f"openvino cannot compute this network: {str(error).strip().splitlines()[-1]}"
    times = f"{openvino_s:.3g} s per tile, torch {torch_s:.3g} s"
    if difference or not is_faster(openvino_s, torch_s):
        return difference or f"openvino is not faster: {times}"
    return EngineChoice(networks=tuple(converted), reason=f"openvino ({times}; equal logits up to rounding)")


def _describe_difference(networks: Sequence[nn.Module], converted: Sequence[nn.Module], tile: torch.Tensor) -> str:
    """Differences of converted networks from their originals; empty if only rounding."""
    for network, conversion in zip(networks, converted, strict=True):
        expected = _call(network, tile)
        logits = _call(conversion, tile)
        difference = float((logits - expected).abs().max() / (expected.max() - expected.min()).clamp(min=1e-6))
        same_class = (logits.argmax(1) == expected.argmax(1)).float().mean()
        same_region = ((logits > 0) == (expected > 0)).float().mean()
        agreement = float(min(same_class, same_region))
        if not (difference <= MAX_DIFFERENCE and agreement >= MIN_AGREEMENT):
            return (
                f"openvino's logits differ by up to {difference:.2g} of their range, and {100 * agreement:.3f} % of "
                f"the voxels get the same class"
            )
    return ""


def _try_layout(
    networks: Sequence[nn.Module], tile: torch.Tensor, torch_s: float, clock: Callable[[], float]
) -> tuple[tuple[nn.Module, ...], str]:
    """Channels last in memory, then half the threads; each where it is faster."""
    chosen, description = tuple(networks), ""
    layout = torch.channels_last if tile.ndim == 4 else torch.channels_last_3d
    trial = _ChannelsLast(networks[0], layout)
    trial_s = _time(trial, tile, clock)
    if is_faster(trial_s, torch_s):
        chosen = tuple(_ChannelsLast(network, layout) for network in networks)
        description, torch_s = ", channels last", trial_s
    else:
        networks[0].to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    threads = torch.get_num_threads()
    if threads >= 4:  # two logical cores may share one arithmetic unit
        torch.set_num_threads(threads // 2)
        if is_faster(_time(chosen[0], tile, clock), torch_s):
            return chosen, f"{description}, {threads // 2} threads"
        torch.set_num_threads(threads)
    return chosen, description


def _time(network: nn.Module, tile: torch.Tensor, clock: Callable[[], float]) -> float:
    """Seconds of a call of a network, the shorter of two, as the first one warms up."""
    return shortest_s(lambda: _call(network, tile), warm_up=0, repeats=2, clock=clock)


@torch.inference_mode()
def _call(network: nn.Module, tile: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = network(tile)[0]
    return logits


class _ChannelsLast(nn.Module):
    """A network whose weights and inputs store the channels of a voxel side by side."""

    def __init__(self, network: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        self.network = network.to(memory_format=layout)  # type: ignore[call-overload]
        self.layout = layout

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [logits.contiguous() for logits in self.network(x.contiguous(memory_format=self.layout))]
