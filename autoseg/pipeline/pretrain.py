"""``autoseg_pretrain``: training with another task; see ``folds``."""

from autoseg.folds.pretraining import pretrain

__all__ = ["pretrain"]
