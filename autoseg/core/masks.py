"""A label map as the binary channels that the network of a cascade sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def split_mask(mask: np.ndarray, members: Sequence[Sequence[int]], channels: np.ndarray) -> None:
    """Fill one binary channel per class or region.

    Args:
        mask: (*axes) integer, one value per class; may be a memory map.
        members: the label values that each channel unites.
        channels: (M,*axes) float32, filled with 0 and 1.
    """
    for values, channel in zip(members, channels, strict=True):
        np.equal(mask, values[0], out=channel)
        for value in values[1:]:
            channel[mask == value] = 1


def stack_inputs(image: np.ndarray, prior: np.ndarray | None, members: Sequence[Sequence[int]]) -> np.ndarray:
    """Network input of a whole case: the scan's channels, then those of the prior.

    Args:
        image: (C,Z,Y,X) float, preprocessed.
        prior: (Z,Y,X) integer on the same grid; only read when there are ``members``.
        members: the label values that each further channel unites; none outside a cascade.

    Returns:
        (C+M,Z,Y,X) float32, or the image itself when there is nothing to add.
    """
    if not members:
        return image
    assert prior is not None  # whoever opens a cascade's cases gives them one
    inputs = np.empty((len(image) + len(members), *image.shape[1:]), np.float32)
    inputs[: len(image)] = image
    split_mask(prior, members, inputs[len(image) :])
    return inputs
