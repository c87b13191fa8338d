"""Devices: the GPU or CPU of a command, its cores, memory and precision."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import torch

from autoseg.core.errors import MemoryShortageError, UsageError, is_memory_shortage
from autoseg.core.parallel import free_memory_bytes
from autoseg.core.records import TrainingSettings

log = logging.getLogger(__name__)

OVERHEAD = 2.0  # kept free memory may take as much again as the tensors; 1.0 to 1.45 times were measured

# glibc's <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULTS = ((_TRIM_THRESHOLD, 64 << 20), (_MMAP_THRESHOLD, 32 << 20), (_MMAP_MAX, 65536))  # what glibc adapts to


def choose_device(requested: str) -> torch.device:
    """The requested device; ``auto`` is the first GPU, or the CPU without one. Apple's GPU must be named: ``mps``.

    Raises:
        UsageError: a GPU is requested and torch sees none.
    """
    if requested == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: torch sees no Apple GPU on this machine; use --device cpu")
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if requested.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU on this machine; use --device cpu, or check the driver")
    return torch.device(requested)


def choose_devices(requested: str) -> tuple[str, ...]:
    """Devices to work on in parallel: one, or several separated by commas (``cuda:0,cuda:1``).

    Raises:
        UsageError: a name is invalid or repeated, or torch does not see the device.
    """
    names = tuple(name.strip() for name in requested.split(","))
    for name in names:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
            raise UsageError(
                f"--device: invalid device '{name}'; use auto, cpu, cuda, cuda:0,cuda:1 for several GPUs, or mps"
            )
        _, _, number = name.partition(":")
        if number and torch.cuda.is_available() and int(number) >= torch.cuda.device_count():
            raise UsageError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
    if len(set(names)) < len(names) and set(names) != {"cpu"}:
        raise UsageError(f"--device {requested}: a GPU is named twice; name each once")
    return names


def choose_rank_device(device: torch.device, local: int) -> torch.device:
    """The device of one of several processes on a machine: a GPU each, or the CPU for all; a named GPU is kept.

    Raises:
        UsageError: there are fewer GPUs than processes, or none of that number; or several share Apple's only one.
    """
    if device.type == "mps" and local > 0:
        raise UsageError("--devices: an Apple GPU trains in one process; leave --devices out")
    if device.type != "cuda":
        return device
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
    local = device.index or local
    if local >= torch.cuda.device_count():
        raise UsageError(f"--devices: torch sees {torch.cuda.device_count()} GPUs; start at most as many processes")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def name_device(device: torch.device) -> str:
    """``cpu``, ``mps`` or the GPU's name, for records and the log."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def gpu_memory_gb() -> float | None:
    """Memory of the first GPU in GB, or None without one."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory / 1e9


def free_gpu_memory_gb() -> float:
    """Memory of the first GPU, which must be there, that no program uses, in GB."""
    free, _ = torch.cuda.mem_get_info(0)
    return free / 1e9


def use_cores(*, share: int = 1) -> int:
    """Let torch use all cores of this process, or its share of them where ``share`` processes run in parallel.

    Returns:
        The number of threads.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // share)
    torch.set_num_threads(threads)
    return threads


@contextlib.contextmanager
def keep_freed_memory(device: torch.device, needed_gb: float | None, *, share: int) -> Iterator[bool]:
    """On the CPU, let the C library keep the memory of freed tensors for those of the next step.

    By default it returns every large tensor to the system and requests it again, and the system clears each page: 4 %
    of a pocket network's step, a fifth of a larger one's. Results do not change.

    Args:
        device: of the network.
        needed_gb: predicted memory of a step (1e9 bytes); None where it is unknown.
        share: number of processes that run in parallel on this machine.

    Yields:
        Whether it is kept: not on a GPU, not unless twice the need is free, and not without glibc.
    """
    library = _find_glibc()
    affordable = needed_gb is not None and needed_gb * OVERHEAD * 1e9 <= free_memory_bytes() / share
    if device.type != "cpu" or library is None or not affordable:
        yield False
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield True
    finally:
        for option, value in _DEFAULTS:
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
    """The type of convolutions; on a CPU bfloat16 where it computes that in hardware, else float32.

    Without such instructions a CPU is hundreds of times slower in half precision. Apple's GPU computes in float32.
    """
    if device.type == "mps":
        return torch.float32
    if device.type != "cuda":
        return torch.bfloat16 if settings.precision == "bfloat16" and cpu_has_bfloat16() else torch.float32
    if settings.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[settings.precision]
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers in hardware (AVX512-BF16 or AMX)."""
    facts = _cpu_facts()
    return bool(facts.get("avx512_bf16") or facts.get("amx_bf16"))


def name_processor(threads: int) -> str:
    """Model of this machine's CPU, with the threads that are used of it."""
    return f"{_cpu_facts().get('cpu_name') or 'CPU'} ({threads} threads)"


def _cpu_facts() -> dict[str, Any]:
    """Name and instructions of the CPU; empty where torch does not report them."""
    facts: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return facts


def release_memory(device: torch.device) -> None:
    """Give up what nothing uses any longer, such as the tensors of a step that failed, which its error still names."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def shortage_as_error(device: torch.device, purpose: str) -> Iterator[None]:
    """Raise memory that runs out as one sentence that names what it was for.

    Raises:
        MemoryShortageError: memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_memory_shortage(error):
            raise
        raise MemoryShortageError(f"{name_device(device)} has too little free memory for {purpose}") from error


@contextlib.contextmanager
def missing_operation_as_error(device: torch.device) -> Iterator[None]:
    """Raise an operation that torch lacks on a device as one sentence with what to do.

    Raises:
        UsageError: torch lacks it.
    """
    try:
        yield
    except NotImplementedError as error:
        name = re.search(r"aten::[\w.]+", str(error))
        if name is None or device.type == "cpu":
            raise
        raise UsageError(
            f"torch lacks the operation {name[0]} on {device.type}; let the CPU do it by setting "
            f"PYTORCH_ENABLE_MPS_FALLBACK=1 before the command, or use --device cpu"
        ) from error
