"""Intensities to numbers a network likes, before resampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.records import ChannelNormalization


def normalize(voxels: np.ndarray, mask: np.ndarray, channels: Sequence[ChannelNormalization]) -> np.ndarray:
    """Scale each channel as planned.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z (z-score per image; CT by dataset statistics).

    Args:
        voxels: (C,Z,Y,X) float32, scanner units.
        mask: (Z,Y,X) bool, the hole-filled non-zero region.
        channels: one scheme per channel.

    Returns:
        (C,Z,Y,X) float32.
    """
    out = np.empty(voxels.shape, np.float32)
    for channel, scaled, settings in zip(voxels, out, channels, strict=True):
        _normalize_channel(channel, mask, settings, scaled)
    return out


def _normalize_channel(channel: np.ndarray, mask: np.ndarray, settings: ChannelNormalization, out: np.ndarray) -> None:
    if settings.scheme == "zscore":
        used = channel[mask] if settings.inside_mask else channel
        mean, std = used.mean(dtype=np.float64), max(float(used.std(dtype=np.float64)), 1e-8)
        np.subtract(channel, np.float32(mean), out=out)
        out /= np.float32(std)
        if settings.inside_mask:
            out[~mask] = 0
    elif settings.scheme == "ct":
        assert settings.mean is not None and settings.std is not None  # checked by the record
        np.clip(channel, settings.lower, settings.upper, out=out)
        out -= np.float32(settings.mean)
        out /= np.float32(max(settings.std, 1e-8))
    elif settings.scheme == "rescale":
        low, high = float(channel.min()), float(channel.max())
        np.subtract(channel, np.float32(low), out=out)
        out /= np.float32(max(high - low, 1e-8))
    else:
        np.multiply(channel, np.float32(1 / 255 if settings.scheme == "rgb" else 1), out=out)
