"""``autoseg_pretrain``: a training with another task, in the same room."""

from autoseg.folds.pretraining import pretrain

__all__ = ["pretrain"]
