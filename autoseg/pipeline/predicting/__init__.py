"""``autoseg_predict``: masks of new scans, each on its scan's own grid."""

from autoseg.pipeline.predicting.choosing import choose_model
from autoseg.pipeline.predicting.command import predict
from autoseg.pipeline.predicting.options import PredictionOptions

__all__ = ["PredictionOptions", "choose_model", "predict"]
