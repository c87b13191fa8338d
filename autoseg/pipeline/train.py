"""``autoseg_train``. Experiments train, too, so the function is in ``folds``."""

from autoseg.folds.training import train

__all__ = ["train"]
