"""Memory of a prediction: bytes needed against bytes free, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import psutil
import torch

from autoseg.core.errors import MemoryShortageError

FLOAT = 4  # bytes of a float32
MAX_FREE_SHARE = 0.8  # of the free memory; allocators round up and fragment
VOXELS_PER_CALL = {"cpu": 2**18, "cuda": 2**23, "mps": 2**21}  # a larger batch is not faster


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still allocate on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Memory that torch has reserved is free for torch.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(psutil.virtual_memory().available)


def window_bytes(outputs: int, inputs: int, window: Sequence[int], volume: Sequence[int]) -> int:
    """Bytes of the sums of logits and weights over a window, and of the image.

    Args:
        outputs, inputs: channels of logits and image.
        window: voxels per axis: the rows that tiles of one level cover, and all of the other axes.
        volume: the padded image, voxels per axis.
    """
    return FLOAT * ((outputs + 1) * math.prod(window) + inputs * math.prod(volume))


def choose_sum_device(needed: int, device: torch.device, free: dict[str, int], reserve: int) -> torch.device:
    """Device of the sums and the image: the network's where they fit beside its activations, else the CPU.

    They are float32 on either: half floats lose three digits over the tiles, which would change the class of
    voxels near a tie.

    Args:
        needed: bytes of both together.
        device: where the networks are.
        free: device type -> free bytes.
        reserve: bytes of one call of a network on its device.

    Raises:
        MemoryShortageError: they fit on neither.
    """
    if device.type != "cpu" and needed + reserve <= MAX_FREE_SHARE * free[device.type]:
        return device
    if needed <= MAX_FREE_SHARE * free["cpu"]:
        return torch.device("cpu")
    raise MemoryShortageError(
        f"the scan needs {needed / 1e9:.1f} GB of memory on the network's grid, but {free['cpu'] / 1e9:.1f} GB are "
        f"free; close other programs or use a machine with more memory"
    )


def images_per_call(tile_voxels: int, device_type: str, *, image_bytes: int, free: int) -> int:
    """Tiles and flips per call of a network; at least one.

    Args:
        tile_voxels: of one tile.
        device_type: ``cpu``, ``cuda`` or ``mps``.
        image_bytes: memory of one tile's forward pass; 0 if it was not measured.
        free: bytes free on the device.
    """
    useful = VOXELS_PER_CALL[device_type] // tile_voxels
    fitting = int(MAX_FREE_SHARE * free // image_bytes) if image_bytes else useful
    return max(1, min(useful, fitting))
