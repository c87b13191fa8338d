"""What fits where, decided before anything is computed: bytes needed against bytes free."""

from __future__ import annotations

import math
from collections.abc import Sequence

import psutil
import torch

from autoseg.core.errors import MemoryShortageError

FLOAT = 4  # bytes of a float32
SHARE = 0.8  # of the free memory that may be taken; allocators round up and fragment
VOXELS_PER_CALL = {"cpu": 2**18, "cuda": 2**23}  # beyond which a device gains nothing from a larger batch


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still take on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds in reserve is free for torch.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(psutil.virtual_memory().available)


def window_bytes(outputs: int, inputs: int, window: Sequence[int], volume: Sequence[int]) -> int:
    """What sums of logits and weights over a window, and the image, take.

    Args:
        outputs, inputs: channels of logits and image.
        window: rows that tiles of one level cover, and the whole of the other axes.
        volume: the padded image, voxels per axis.
    """
    return FLOAT * ((outputs + 1) * math.prod(window) + inputs * math.prod(volume))


def choose_place(needed: int, device: torch.device, free: dict[str, int], reserve: int) -> torch.device:
    """Where sums and image lie: on the network's device where they fit beside its work, else in the machine's memory.

    Float32 in either place: sums of half floats lose three digits over the tiles, and a voxel that is nearly
    undecided would change its class.

    Args:
        needed: bytes of both.
        device: where the networks are.
        free: device type -> free bytes.
        reserve: bytes that one call of a network takes on its device.

    Raises:
        MemoryShortageError: they fit nowhere.
    """
    if device.type != "cpu" and needed + reserve <= SHARE * free[device.type]:
        return device
    if needed <= SHARE * free["cpu"]:
        return torch.device("cpu")
    raise MemoryShortageError(
        f"the scan needs {needed / 1e9:.1f} GB of memory on the network's grid, and {free['cpu'] / 1e9:.1f} GB are "
        f"free; close other programs, or predict it on a machine with more memory"
    )


def images_per_call(tile_voxels: int, device_type: str, *, image_bytes: int, free: int) -> int:
    """How many tiles and flips go through a network at once; at least one.

    Args:
        tile_voxels: of one tile.
        device_type: ``cpu`` or ``cuda``.
        image_bytes: what one tile took on its way through the network; 0 if that was not measured.
        free: bytes on the device.
    """
    useful = VOXELS_PER_CALL[device_type] // tile_voxels
    fitting = int(SHARE * free // image_bytes) if image_bytes else useful
    return max(1, min(useful, fitting))
