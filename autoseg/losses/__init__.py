"""Losses: the LOSSES table, and one wrapper that adds deep supervision to any of them."""

from autoseg.losses.building import LOSSES, DeepLoss, Loss, build_loss

__all__ = ["LOSSES", "DeepLoss", "Loss", "build_loss"]
