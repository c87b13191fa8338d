"""Prediction of large scans by ``autoseg_predict``, from files to files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from autoseg.core.images import read_voxels
from autoseg.core.records import VerifiedLine
from autoseg.options import PredictOptions, TrainOptions
from autoseg.pipeline.predict import predict
from autoseg.pipeline.train import train
from autoseg.pipeline.verification.workplace import LARGE, Workplace

ADVICE = "predict with --engine torch or --device cpu, and report this line"


def verify_prediction(place: Workplace) -> list[VerifiedLine]:
    """Predict large scans with a model of a few steps: seconds a case, the device's share of them, and the masks."""
    plan = place.plan_large()
    name, device = plan.recommended, str(place.device)
    length = {"epochs": 1, "steps_per_epoch": 2}
    options = TrainOptions(dataset=LARGE, configuration=name, fold="all", device=device, restart=True, **length)  # type: ignore[arg-type]
    train(place.store, options, progress=place.progress)
    scans, masks = place.scans_folder(), place.store.root / "masks"
    for path in masks.glob("*"):  # of an earlier call
        path.unlink()
    timer = NetworkTimer(place.device)
    began = time.perf_counter()
    with timer.running():
        mask_paths = predict(
            place.store,
            PredictOptions(scans=scans, output=masks, dataset=LARGE, configuration=name, device=device),
            progress=place.progress,
        )
    seconds = time.perf_counter() - began
    wrong = [path.name for path in mask_paths if read_voxels(path)[0].shape != place.scale.scan]
    is_good = len(mask_paths) == place.scale.scans and not wrong
    shape = "x".join(map(str, place.scale.scan[::-1]))
    share, each_s = timer.seconds() / seconds, seconds / max(len(mask_paths), 1)
    misshapen = f"; {len(wrong)} masks have another shape than their scan" if wrong else ""
    return [
        VerifiedLine(
            name=f"{name} prediction",
            verdict="ok" if is_good else "failed",
            result=f"{len(mask_paths)} scans of {shape}, {len(plan.channels)} channels: {each_s:.3g} s each from file "
            f"to file; the network computes {100 * share:.0f} % of the time{misshapen}",
            advice="" if is_good else ADVICE,
            numbers={"scans": len(mask_paths), "seconds": seconds, "network_share": share},
        )
    ]


class NetworkTimer:
    """Time that networks compute, by events on a GPU and by the clock on a CPU; hooks of torch note each call.

    Args:
        device: of the networks.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"
        self.depth = 0
        self.calls: list[tuple[Any, Any]] = []
        self.begun: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Note every outermost call of a module within the block; networks are called by one thread."""
        hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def seconds(self) -> float:
        """Sum over all calls."""
        if not self.on_gpu:
            return math.fsum(end - start for start, end in self.calls)
        torch.cuda.synchronize(self.device)
        return math.fsum(start.elapsed_time(end) for start, end in self.calls) / 1000

    def _enter(self, module: nn.Module, inputs: object) -> None:
        if self.depth == 0:
            self.begun = self._now()
        self.depth += 1

    def _leave(self, module: nn.Module, inputs: object, output: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.calls.append((self.begun, self._now()))

    def _now(self) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event
