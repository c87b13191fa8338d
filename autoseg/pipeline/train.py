"""``autoseg_train``. Experiments train, too, so the command is a function of the room below."""

from autoseg.folds.training import train

__all__ = ["train"]
