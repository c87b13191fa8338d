"""Networks over a whole scan: tiles, flips, folds, and the mean of their logits."""

from autoseg.prediction.sliding import predict_logits
from autoseg.prediction.tiles import gaussian_weight, tile_starts

__all__ = ["gaussian_weight", "predict_logits", "tile_starts"]
