"""Case caches: preprocessed cases on disk, in memory, or on the training device while batches are drawn from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from autoseg.batches.engines import Volume
from autoseg.core.records import PreparedCase

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.5  # of the free memory; the rest is for batches, other programs and files that are read again
DEVICE_SHARE = 0.5  # of what training leaves free on its device; the rest is for batches and a margin


def cache_in_memory(cases: Sequence[PreparedCase], free_bytes: int) -> list[PreparedCase]:
    """Read cases that are mapped from disk into memory, once, if they all fit in half of what is free.

    Args:
        cases: as they were opened.
        free_bytes: that this process may take.

    Returns:
        The same cases, with the same numbers.
    """
    mapped = [array for case in cases for array in _list_arrays(case) if isinstance(array, np.memmap)]
    if not mapped:
        return list(cases)
    needed = sum(array.nbytes for array in mapped)
    size, free = f"{len(cases)} training cases ({needed / 1e9:.2f} GB)", f"{free_bytes / 1e9:.2f} GB"
    if needed > MEMORY_SHARE * free_bytes:
        log.info("%s are read from disk as they are needed: more than half of the %s of free memory", size, free)
        return list(cases)
    log.info("reading %s into memory, of which %s are free", size, free)
    return [replace(case, image=_read(case.image), label=_read(case.label), prior=_read(case.prior)) for case in cases]


def cache_on_device(
    cases: Sequence[PreparedCase], device: torch.device, *, free_bytes: int, reserved_bytes: int
) -> list[Volume] | None:
    """Copy images and labels to the device that trains, if they all fit in half of what training leaves free there.

    Args:
        cases: labelled; with the same numbers afterwards.
        device: where to.
        free_bytes: on the device.
        reserved_bytes: what a training step takes of them.

    Returns:
        A volume per case, or None where they do not fit.
    """
    needed = sum(case.image.nbytes + (0 if case.label is None else case.label.nbytes) for case in cases)
    left = max(free_bytes - reserved_bytes, 0)
    sizes = f"{len(cases)} training cases ({needed / 1e9:.2f} GB)"
    if needed > DEVICE_SHARE * left:
        log.info(
            "%s are not copied to the GPU: more than half of the %.2f GB that training leaves free", sizes, left / 1e9
        )
        return None
    log.info("copying %s to the GPU, where training leaves %.2f GB free", sizes, left / 1e9)
    # torch.tensor copies, which a map of a file, that nobody may write to, needs.
    return [
        Volume(image=torch.tensor(case.image, device=device), label=torch.tensor(case.label, device=device))
        for case in cases
    ]


def _list_arrays(case: PreparedCase) -> list[np.ndarray]:
    return [array for array in (case.image, case.label, case.prior) if array is not None]


def _read(array):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A copy in memory of what is mapped; anything else, None too, as it is."""
    return np.array(array) if isinstance(array, np.memmap) else array
