"""How networks run on a device: in which type, and how a shortage of memory shows."""

from __future__ import annotations

import torch

from autoseg.core.records import TrainingSettings


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
