"""Models trained elsewhere -> a plan and weights of ours: nnU-Net v2's, exactly, or one sentence on why not."""

from autoseg.transfer.models import FoundModel, ImportedFold, find_models, read_folds
from autoseg.transfer.source import ModelSource, open_source

__all__ = ["FoundModel", "ImportedFold", "ModelSource", "find_models", "open_source", "read_folds"]
