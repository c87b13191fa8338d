"""Networks over a whole scan: tiles, flips, folds, and the mean of their logits."""

from autoseg.prediction.case import predict_case, predict_scan
from autoseg.prediction.sliding import predict_logits
from autoseg.prediction.tiles import gaussian_weight, tile_starts

__all__ = ["gaussian_weight", "predict_case", "predict_logits", "predict_scan", "tile_starts"]
