"""``autoseg_plan``: fingerprint, plan, folds and preprocessed arrays of a dataset, and what they are read back with."""

from autoseg.pipeline.planning.dataset import Planned, plan_dataset, read_plan, show_plan
from autoseg.pipeline.planning.edited import Edited
from autoseg.pipeline.planning.preparing import arrays_folder
from autoseg.pipeline.planning.raw import case_key, open_raw, source_key
from autoseg.pipeline.planning.splitting import FoldsWanted, check_folds, read_folds

__all__ = [
    "Edited",
    "FoldsWanted",
    "Planned",
    "arrays_folder",
    "case_key",
    "check_folds",
    "open_raw",
    "plan_dataset",
    "read_folds",
    "read_plan",
    "show_plan",
    "source_key",
]
