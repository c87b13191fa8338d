"""Intensity normalisation, before resampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.records import ChannelNormalization


def normalize(voxels: np.ndarray, mask: np.ndarray, channels: Sequence[ChannelNormalization]) -> np.ndarray:
    """Scale each channel as planned.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z (z-score per image; CT by dataset statistics).

    Args:
        voxels: (C,Z,Y,X) float32, scanner units.
        mask: (Z,Y,X) bool, the region that the scan was cropped to: not zero, or head, holes filled.
        channels: one scheme per channel.

    Returns:
        (C,Z,Y,X) float32.
    """
    out = np.array(voxels, np.float32, order="C")  # the crop, which is not a contiguous part of the scan
    inside = np.flatnonzero(mask)
    outside = ~mask
    for channel, settings in zip(out, channels, strict=True):
        _normalize_channel(channel, inside, outside, settings)
    return out


def _normalize_channel(
    channel: np.ndarray, inside: np.ndarray, outside: np.ndarray, settings: ChannelNormalization
) -> None:
    """In place.

    Args:
        channel: (Z,Y,X) float32, contiguous.
        inside: (N,) indices of the mask's voxels.
        outside: (Z,Y,X) bool, the other voxels.
    """
    if settings.scheme == "zscore":
        used = channel.reshape(-1)[inside] if settings.inside_mask else channel
        mean, std = used.mean(dtype=np.float64), max(float(used.std(dtype=np.float64)), 1e-8)
        channel -= np.float32(mean)
        channel /= np.float32(std)
        if settings.inside_mask:
            np.copyto(channel, 0, where=outside)
    elif settings.scheme == "ct":
        assert settings.mean is not None and settings.std is not None  # checked by the record
        np.clip(channel, settings.lower, settings.upper, out=channel)
        channel -= np.float32(settings.mean)
        channel /= np.float32(max(settings.std, 1e-8))
    elif settings.scheme == "rescale":
        low, high = float(channel.min()), float(channel.max())
        channel -= np.float32(low)
        channel /= np.float32(max(high - low, 1e-8))
    elif settings.scheme == "rgb":
        channel *= np.float32(1 / 255)
