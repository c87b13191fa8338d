"""Preprocessed cases -> endless augmented batches. Batch k is a pure function of (seed, k)."""

from autoseg.batches.loading import Batches
from autoseg.batches.residency import hold_in_memory, hold_on_device
from autoseg.batches.timing import Timing, time_batches

__all__ = ["Batches", "Timing", "hold_in_memory", "hold_on_device", "time_batches"]
