"""Which device a command runs on, and how much memory it has."""

from __future__ import annotations

import logging
import os
import re

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


def choose_devices(wanted: str) -> tuple[str, ...]:
    """Devices to work on side by side: one, or several with commas between (``cuda:0,cuda:1``).

    Raises:
        UsageError: a name is no device, one is named twice, or torch does not see it.
    """
    names = tuple(name.strip() for name in wanted.split(","))
    for name in names:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
            raise UsageError(f"--device: '{name}' is no device; use auto, cpu, cuda, or cuda:0,cuda:1 for several GPUs")
        _, _, number = name.partition(":")
        if number and torch.cuda.is_available() and int(number) >= torch.cuda.device_count():
            raise UsageError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
    if len(set(names)) < len(names) and set(names) != {"cpu"}:
        raise UsageError(f"--device {wanted}: a GPU is named twice; name each once")
    return names


def choose_rank_device(device: torch.device, local: int) -> torch.device:
    """The device of one of several processes on a machine: a GPU each, or the CPU for all; a GPU that was named stays.

    Raises:
        UsageError: there are fewer GPUs than processes, or none of that number.
    """
    if device.type != "cuda":
        return device
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
    local = device.index or local
    if local >= torch.cuda.device_count():
        raise UsageError(f"--devices: torch sees {torch.cuda.device_count()} GPUs; start as many processes at most")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


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
    return use_cores(share=1)


def use_cores(*, share: int) -> int:
    """Give torch this process's part of the cores, where ``share`` processes work side by side; returns how many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = max(1, cores // share)
    torch.set_num_threads(own)
    return own
