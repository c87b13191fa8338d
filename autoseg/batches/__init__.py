"""Preprocessed cases -> endless augmented batches. Batch k is a pure function of (seed, k)."""

from autoseg.batches.caching import cache_in_memory, cache_on_device
from autoseg.batches.loading import Batches
from autoseg.batches.staging import StagedBatches
from autoseg.batches.timing import Timing, time_batches

__all__ = ["Batches", "StagedBatches", "Timing", "cache_in_memory", "cache_on_device", "time_batches"]
