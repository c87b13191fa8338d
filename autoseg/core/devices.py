"""Device of a command, and its memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
from collections.abc import Iterator

import torch

from autoseg.core.errors import UsageError
from autoseg.core.parallel import free_memory_bytes
from autoseg.core.records import TrainingSettings

log = logging.getLogger(__name__)

KEPT_SHARE = 2.0  # memory that lies free between tensors may take as much again; 1.0 to 1.45 times were measured

# glibc's <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_USUAL = ((_TRIM_THRESHOLD, 64 << 20), (_MMAP_THRESHOLD, 32 << 20), (_MMAP_MAX, 65536))  # where it ends up by itself


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
        UsageError: a name is not a device, one is named twice, or torch does not see it.
    """
    names = tuple(name.strip() for name in wanted.split(","))
    for name in names:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
            raise UsageError(
                f"--device: invalid device '{name}'; use auto, cpu, cuda, or cuda:0,cuda:1 for several GPUs"
            )
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
    """Name of a device for records: ``cpu`` or the GPU's name."""
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


@contextlib.contextmanager
def memory_kept(device: torch.device, needed_gb: float | None, *, share: int) -> Iterator[bool]:
    """Have the C library keep the memory of tensors that are gone, for those of the next step, on the CPU.

    By itself it gives every large tensor back to the system and requests it again, and the system clears each page
    again: 4 % of a pocket network's step, a fifth of a larger one's. What is computed does not change by it.

    Args:
        device: where the network is computed.
        needed_gb: of a step, as it was predicted (1e9 bytes); None where nobody knows.
        share: processes that work side by side on this machine.

    Yields:
        Whether it is kept: not on a GPU, not where twice the need is not free, and not without glibc.
    """
    library = _find_glibc()
    affordable = needed_gb is not None and needed_gb * KEPT_SHARE * 1e9 <= free_memory_bytes() / share
    if device.type != "cpu" or library is None or not affordable:
        yield False
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield True
    finally:
        for option, value in _USUAL:
            library.mallopt(option, value)
        library.malloc_trim(0)


def _find_glibc() -> ctypes.CDLL | None:
    """The C library of this process, where it is glibc."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # no such thing on Windows
        return None
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None


def choose_precision(settings: TrainingSettings, device: torch.device) -> torch.dtype:
    """The type that convolutions are computed in; a CPU gains nothing from a half one."""
    if settings.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[settings.precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def is_memory_shortage(error: RuntimeError) -> bool:
    """Whether torch says that memory ran out: a GPU's has an error of its own, a CPU's only a text."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
