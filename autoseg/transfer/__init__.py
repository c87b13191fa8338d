"""Transfer: import models of nnU-Net v2 exactly, and adapt weights of other models to a planned network."""

from autoseg.transfer.model_files import ModelFiles, open_model_files
from autoseg.transfer.models import FoundModel, ImportedFold, find_models, read_folds

__all__ = ["FoundModel", "ImportedFold", "ModelFiles", "find_models", "open_model_files", "read_folds"]
