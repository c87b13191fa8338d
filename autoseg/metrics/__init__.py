"""The METRICS table: agreement of a prediction with its reference. Compare two masks once, then compute any metric.

    comparison = compare(prediction, reference, spacing)
    METRICS["dice"](comparison)

A new metric is one function in one file and one line in the table.
"""

from autoseg.core.registry import Table
from autoseg.metrics.comparison import Comparison, compare
from autoseg.metrics.declaration import EmptyScore, Metric, Worst, metric

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
        "hd95_in_plane": "autoseg.metrics.surface:hd95_in_plane",
        "assd": "autoseg.metrics.surface:assd",
        "nsd_1mm": "autoseg.metrics.surface:nsd_1mm",
        "nsd_2mm": "autoseg.metrics.surface:nsd_2mm",
        "volume_difference_ml": "autoseg.metrics.volume:volume_difference_ml",
        "volume_difference_percent": "autoseg.metrics.volume:volume_difference_percent",
        "volume_difference_voxels": "autoseg.metrics.volume:volume_difference_voxels",
        "lesion_f1": "autoseg.metrics.lesionwise:lesion_f1",
        "lesion_f1_faces": "autoseg.metrics.lesionwise:lesion_f1_faces",
        "lesion_f1_iou20": "autoseg.metrics.lesionwise:lesion_f1_iou20",
        "lesion_f1_wmh": "autoseg.metrics.lesionwise:lesion_f1_wmh",
        "lesion_recall": "autoseg.metrics.lesionwise:lesion_recall",
        "lesion_precision": "autoseg.metrics.lesionwise:lesion_precision",
        "lesion_count_difference": "autoseg.metrics.lesionwise:lesion_count_difference",
        "lesion_count_difference_faces": "autoseg.metrics.lesionwise:lesion_count_difference_faces",
        "lesion_recall_tiny": "autoseg.metrics.sizes:lesion_recall_tiny",
        "lesion_recall_small": "autoseg.metrics.sizes:lesion_recall_small",
        "lesion_recall_medium": "autoseg.metrics.sizes:lesion_recall_medium",
        "lesion_recall_large": "autoseg.metrics.sizes:lesion_recall_large",
        "recognition_quality": "autoseg.metrics.panoptic:recognition_quality",
        "segmentation_quality": "autoseg.metrics.panoptic:segmentation_quality",
        "panoptic_quality": "autoseg.metrics.panoptic:panoptic_quality",
        "cc_dice": "autoseg.metrics.voronoi:cc_dice",
        "lesionwise_dice": "autoseg.metrics.brats:lesionwise_dice",
        "lesionwise_hd95": "autoseg.metrics.brats:lesionwise_hd95",
        "lesionwise_dice_meningioma": "autoseg.metrics.brats:lesionwise_dice_meningioma",
        "lesionwise_hd95_meningioma": "autoseg.metrics.brats:lesionwise_hd95_meningioma",
        "lesionwise_dice_metastases": "autoseg.metrics.brats:lesionwise_dice_metastases",
        "lesionwise_hd95_metastases": "autoseg.metrics.brats:lesionwise_hd95_metastases",
        "average_precision": "autoseg.metrics.probability:average_precision",
    },
)

__all__ = ["METRICS", "Comparison", "EmptyScore", "Metric", "Worst", "compare", "metric"]
