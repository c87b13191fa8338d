"""A dataset below ``autoseg_preprocessed``: its fingerprint, plan, folds and arrays, written and read back."""

from autoseg.preparation.arrays import arrays_folder
from autoseg.preparation.edits import Edited
from autoseg.preparation.raw import case_key, open_raw, read_plan, source_key
from autoseg.preparation.splits import FoldOptions, check_folds, read_folds

__all__ = [
    "Edited",
    "FoldOptions",
    "arrays_folder",
    "case_key",
    "check_folds",
    "open_raw",
    "read_folds",
    "read_plan",
    "source_key",
]
