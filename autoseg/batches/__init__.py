"""Preprocessed cases -> endless augmented batches. Batch k is a pure function of (seed, k)."""

from autoseg.batches.loading import Batches

__all__ = ["Batches"]
