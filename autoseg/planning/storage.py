"""Rule 17: storage of preprocessed voxels: single precision while all cases fit in memory, else half precision."""

from __future__ import annotations

import math

from autoseg.core.arrays import MAPPED_ABOVE_BYTES
from autoseg.core.geometry import resampled_shape
from autoseg.core.records import CaseFacts, Fingerprint, PreprocessingSettings
from autoseg.planning.presets import Preset

FLOAT32_BYTES = 4


def find_prepared_shape(case: CaseFacts, settings: PreprocessingSettings) -> tuple[int, ...]:
    """Voxels per axis of a case once it is cropped, turned and resampled."""
    axes: tuple[int, ...] = settings.axis_order
    if settings.orientation == "stored":
        axes = tuple(case.transpose.index(axis) for axis in axes)
    shape, spacing = [case.cropped_shape[axis] for axis in axes], [case.spacing[axis] for axis in axes]
    return resampled_shape(shape, spacing, settings.spacing)


def plan_storage(
    fingerprint: Fingerprint, settings: PreprocessingSettings, preset: Preset
) -> tuple[PreprocessingSettings, str]:
    """The settings with their storage, and why.

    It depends on the dataset alone, not on the machine: the same plan gives the same numbers everywhere.
    """
    voxels = sum(math.prod(find_prepared_shape(case, settings)) for case in fingerprint.cases)
    size = voxels * len(settings.channels) * FLOAT32_BYTES
    cases = {1: "The only case takes", 2: "Both cases take"}.get(len(fingerprint.cases))
    cases = cases or f"All {len(fingerprint.cases)} cases take"
    taken, limit = f"{cases} {size / 1e9:.2g} GB as float32", f"{MAPPED_ABOVE_BYTES / 1e9:.2g} GB"
    if not preset.halves_arrays:
        return settings, f"{taken}, the type in which nnU-Net stores them."
    if size <= MAPPED_ABOVE_BYTES:
        return settings, f"{taken}; up to {limit} are kept in memory without rounding."
    return settings.model_copy(update={"storage": "float16"}), (
        f"{taken}, over the {limit} that are kept in memory; float16 halves the bytes stored and read, and changes "
        f"each value by at most 1/2048 of itself."
    )
