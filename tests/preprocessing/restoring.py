"""Whole volumes back on the scan's own grid, in one call."""

from collections.abc import Sequence

import numpy as np

from autoseg.core.records import Label, Placement, PreprocessingSettings
from autoseg.preprocessing import LogitRestorer
from autoseg.preprocessing.inverse import _place, _separate_axis
from autoseg.preprocessing.resampling import resample_label


def restore_label(voxels: np.ndarray, placement: Placement, settings: PreprocessingSettings) -> Label:
    """A label on the network's grid -> on the scan's own grid.

    Args:
        voxels: (Z,Y,X) integer on the preprocessed grid.
    """
    resized = resample_label(
        voxels, placement.cropped_shape, order=settings.label_order, separate_axis=_separate_axis(placement, settings)
    )
    return _place(resized, placement)


def restore_logits(
    logits: np.ndarray, placement: Placement, settings: PreprocessingSettings, *, values: Sequence[int], overlap: bool
) -> Label:
    """Network outputs -> the winning label value of every voxel of the scan's own grid.

    Args:
        logits: (K,Z,Y,X) float32 on the preprocessed grid.
        values, overlap: as for ``LogitRestorer``.
    """
    restorer = LogitRestorer(placement, settings, values=values, overlap=overlap)
    restorer.add(logits)
    return restorer.finish()


def restore_probabilities(
    logits: np.ndarray, placement: Placement, settings: PreprocessingSettings, *, overlap: bool
) -> np.ndarray:
    """Network outputs -> probabilities on the scan's own grid; outside the crop background has probability one.

    Args:
        logits: (K,Z,Y,X) float32 on the preprocessed grid.

    Returns:
        (K,Z,Y,X) float32 in the scan's own axis order; sums to one over K unless ``overlap``.
    """
    restorer = LogitRestorer(
        placement, settings, values=range(len(logits)), overlap=overlap, probabilities=np.dtype(np.float32)
    )
    restorer.add(logits)
    restorer.finish()
    assert restorer.probabilities is not None  # asked for above
    return restorer.probabilities
