"""Random changes of a patch: parameters are drawn first, then applied, so image and label cannot disagree."""

from autoseg.batches.augmentation.draws import Change, draw_change
from autoseg.batches.augmentation.intensity import change_intensity
from autoseg.batches.augmentation.masks import change_masks
from autoseg.batches.augmentation.spatial import cut_label, cut_patch, find_box
from autoseg.batches.augmentation.tensor_intensity import change_tensors
from autoseg.batches.augmentation.tensor_spatial import cut_tensors

__all__ = [
    "Change",
    "change_intensity",
    "change_masks",
    "change_tensors",
    "cut_label",
    "cut_patch",
    "cut_tensors",
    "draw_change",
    "find_box",
]
