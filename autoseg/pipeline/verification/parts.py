"""The parts of a verification in the order in which they run, quick ones first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from autoseg.core.records import VerifiedLine
from autoseg.networks import NETWORKS
from autoseg.pipeline.verification.memory import verify_memory
from autoseg.pipeline.verification.numbers import verify_numbers, verify_openvino, verify_precision, verify_threads
from autoseg.pipeline.verification.prediction import verify_prediction
from autoseg.pipeline.verification.recovery import verify_devices, verify_killed, verify_shortage, verify_stopped
from autoseg.pipeline.verification.speed import verify_first_step, verify_loading, verify_step
from autoseg.pipeline.verification.trainings import verify_learning
from autoseg.pipeline.verification.workplace import Workplace


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part.

    Attributes:
        name: unique; a key of the record.
        title: of its section of the table, which neighbouring parts may share.
        run: verifies, and returns the lines of the table.
    """

    name: str
    title: str
    run: Callable[[Workplace], list[VerifiedLine]]


def list_parts(device: torch.device, budgets_gb: tuple[float, ...]) -> list[Part]:
    """The parts of a device.

    Args:
        device: to verify.
        budgets_gb: memory budgets that it can hold, smallest first.
    """
    speed, recovery, numbers = "Speed", "Stops and shortages", "Numbers"
    parts = [
        Part(name="numbers", title=numbers, run=verify_numbers),
        Part(name="half precision", title=numbers, run=verify_precision),
        Part(name="resume after a stop", title=recovery, run=verify_stopped),
        Part(name="resume after a kill", title=recovery, run=verify_killed),
        Part(name="out of memory", title=recovery, run=verify_shortage),
        Part(name="several processes", title=recovery, run=verify_devices),
        Part(name="learning", title="Learning", run=verify_learning),
        Part(name="first step", title=speed, run=verify_first_step),
        Part(name="step", title=speed, run=verify_step),
        Part(name="loading", title=speed, run=verify_loading),
        Part(name="prediction", title=speed, run=verify_prediction),
    ]
    if device.type == "cpu":
        parts.insert(2, Part(name="openvino", title=numbers, run=verify_openvino))
        parts.append(Part(name="threads", title=speed, run=verify_threads))
    parts += [
        Part(
            name=f"memory {network} {budget_gb:g} GB",
            title="Memory of a training step, measured of predicted GB",
            run=partial(verify_memory, network=network, budget_gb=budget_gb),
        )
        for budget_gb in budgets_gb
        for network in NETWORKS
    ]
    return parts
