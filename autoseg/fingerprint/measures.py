"""Measurements of one case."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoseg.core.geometry import bounding_box, nearest_axes, turn
from autoseg.core.masks import find_head
from autoseg.core.records import Case, CaseFacts, ChannelFacts, HeadFacts, Image, Label
from autoseg.core.text import six_digits
from autoseg.fingerprint.intensities import measure_intensities
from autoseg.fingerprint.lesions import measure_lesions


def measure_case(
    image: Image, label: Label | None, *, case: Case, labels: Mapping[str, int], ignore_label: int | None = None
) -> CaseFacts:
    """Measure one case on axes turned to the canonical orientation.

    Args:
        image: voxels (C,Z,Y,X) float32, scanner units.
        label: voxels (Z,Y,X) integer with the values of ``labels``, or None for a scan without reference.
        case: the case that is measured.
        labels: class name -> value; 0 is background.
        ignore_label: value that is neither foreground nor a lesion.
    """
    transpose, flips = nearest_axes(image.grid.direction)
    voxels = turn(image.voxels, transpose, flips)
    nonzero = voxels != 0
    # nnU-Net fills the mask's holes first; a hole lies inside, so the box is the same without.
    crop = bounding_box(nonzero.any(axis=0))
    spacing = tuple(image.grid.spacing[axis] for axis in transpose)
    classes = {name: value for name, value in labels.items() if value not in (0, ignore_label)}
    reference = None if label is None else turn(label.voxels, transpose, flips)
    foreground = None if reference is None else np.isin(reference, list(classes.values()))
    channels = tuple(
        ChannelFacts(
            foreground=None if foreground is None or not foreground.any() else measure_intensities(channel[foreground]),
            brain=measure_intensities(channel[inside]),
        )
        for channel, inside in zip(voxels, nonzero, strict=True)
    )
    counted = {} if reference is None else {n: int(np.count_nonzero(reference == v)) for n, v in classes.items()}
    lesions = () if reference is None else measure_lesions(reference, spacing=spacing, crop=crop, labels=classes)
    return CaseFacts(
        case=case.id,
        group=case.group,
        site=case.site,
        shape=voxels.shape[1:],
        spacing=spacing,  # type: ignore[arg-type]
        cropped_shape=tuple(stop - start for start, stop in crop),  # type: ignore[arg-type]
        head=_measure_head(voxels, foreground),
        channels=channels,
        transpose=transpose,
        label_voxels=counted,
        lesions=lesions,
    )


def _measure_head(voxels: np.ndarray, foreground: np.ndarray | None) -> HeadFacts:
    """Box and share of the head in a scan, and what of the labels (Z,Y,X bool) it leaves out."""
    head = find_head(voxels)
    labelled = 0 if foreground is None else np.count_nonzero(foreground)
    outside = 0 if foreground is None else np.count_nonzero(foreground & ~head)
    return HeadFacts(
        shape=tuple(stop - start for start, stop in bounding_box(head)),  # type: ignore[arg-type]
        share=six_digits(np.count_nonzero(head) / head.size),
        outside_share=six_digits(outside / labelled) if labelled else 0.0,
    )
