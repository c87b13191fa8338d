"""Random changes of a patch: parameters are drawn first, then applied, so image and label cannot disagree."""

from autoseg.batches.augmentation.draws import Change, draw_change
from autoseg.batches.augmentation.intensity import change_intensity
from autoseg.batches.augmentation.masks import change_masks
from autoseg.batches.augmentation.spatial import cut_label, cut_patch

__all__ = ["Change", "change_intensity", "change_masks", "cut_label", "cut_patch", "draw_change"]
