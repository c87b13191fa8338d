"""Scan -> network's grid, and back: both directions of every step in the same place."""

from autoseg.preprocessing.forward import find_lesions, nonzero_mask, prepare_case, prepare_label
from autoseg.preprocessing.inverse import LogitRestorer

__all__ = [
    "LogitRestorer",
    "find_lesions",
    "nonzero_mask",
    "prepare_case",
    "prepare_label",
]
