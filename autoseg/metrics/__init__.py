"""The METRICS table: how well a prediction agrees with the reference. Compare two masks once, then ask cheaply.

    comparison = compare(prediction, reference, spacing)
    METRICS["dice"](comparison)

A new metric is one function in one file and one line in the table.
"""

from autoseg.core.registry import Table
from autoseg.metrics.comparison import Comparison, compare
from autoseg.metrics.declaration import EmptyScore, Metric, metric

METRICS: Table[Metric] = Table(
    "metric",
    {
        "dice": "autoseg.metrics.overlap:dice",
        "iou": "autoseg.metrics.overlap:iou",
        "precision": "autoseg.metrics.overlap:precision",
        "sensitivity": "autoseg.metrics.overlap:sensitivity",
        "specificity": "autoseg.metrics.overlap:specificity",
        "accuracy": "autoseg.metrics.overlap:accuracy",
        "hd95": "autoseg.metrics.surface:hd95",
        "hd95_pooled": "autoseg.metrics.surface:hd95_pooled",
        "assd": "autoseg.metrics.surface:assd",
        "nsd_2mm": "autoseg.metrics.surface:nsd_2mm",
        "volume_difference_ml": "autoseg.metrics.volume:volume_difference_ml",
        "volume_difference_percent": "autoseg.metrics.volume:volume_difference_percent",
        "lesion_f1": "autoseg.metrics.lesionwise:lesion_f1",
        "lesion_count_difference": "autoseg.metrics.lesionwise:lesion_count_difference",
    },
)

__all__ = ["METRICS", "Comparison", "EmptyScore", "Metric", "compare", "metric"]
