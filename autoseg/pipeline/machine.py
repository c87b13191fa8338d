"""Which device a command runs on, and how much memory it has."""

from __future__ import annotations

import logging
import os

import torch

from autoseg.core.errors import UsageError

log = logging.getLogger(__name__)


def choose_device(wanted: str) -> torch.device:
    """``auto`` takes the first GPU where there is one.

    Raises:
        UsageError: a GPU is asked for and torch sees none.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU on this machine; use --device cpu, or check the driver")
    return torch.device(wanted)


def name_device(device: torch.device) -> str:
    """What to write into records: ``cpu`` or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def gpu_memory_gb() -> float | None:
    """Memory of the first GPU in GB, or None without one."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory / 1e9


def use_all_cores() -> int:
    """Give torch every core this process may use; returns how many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(cores)
    return cores
