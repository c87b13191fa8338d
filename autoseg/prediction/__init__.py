"""Networks over a whole scan: tiles, flips, folds, and the mean of their logits, back on the scan's own grid."""

from autoseg.prediction.case import (
    add_prior,
    case_rows,
    mask_restorer,
    predict_mask,
    predict_probabilities,
    prepare_scan,
)
from autoseg.prediction.loaded import LoadedModel, open_model, predict_scan
from autoseg.prediction.sliding import predict_logits, predict_rows
from autoseg.prediction.tiles import gaussian_weight, tile_starts

__all__ = [
    "LoadedModel",
    "add_prior",
    "case_rows",
    "gaussian_weight",
    "mask_restorer",
    "open_model",
    "predict_logits",
    "predict_mask",
    "predict_probabilities",
    "predict_rows",
    "predict_scan",
    "prepare_scan",
    "tile_starts",
]
