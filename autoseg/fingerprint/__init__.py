"""Measure a dataset: ``measure_case`` measures one case, ``summarize`` all; medians of the measures for planning."""

from autoseg.fingerprint.intensities import measure_intensities, pool_intensities
from autoseg.fingerprint.lesions import SMALL_LESION_ML, measure_lesions, summarize_lesions
from autoseg.fingerprint.measures import measure_case
from autoseg.fingerprint.summary import (
    crop_to_region,
    find_identical_scans,
    median_crop_share,
    median_cropped_shape,
    median_spacing,
    summarize,
)

__all__ = [
    "SMALL_LESION_ML",
    "crop_to_region",
    "find_identical_scans",
    "measure_case",
    "measure_intensities",
    "measure_lesions",
    "median_crop_share",
    "median_cropped_shape",
    "median_spacing",
    "pool_intensities",
    "summarize",
    "summarize_lesions",
]
