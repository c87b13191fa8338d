"""Losses: terms, their weighted sums in the LOSSES table, and deep supervision around any of them."""

from autoseg.losses.building import LOSSES, DeepLoss, build_loss
from autoseg.losses.context import LossContext
from autoseg.losses.loss import Loss, Term

__all__ = ["LOSSES", "DeepLoss", "Loss", "LossContext", "Term", "build_loss"]
