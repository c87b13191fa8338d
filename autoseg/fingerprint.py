"""Measure a dataset: ``measure_case`` one case, ``summarize`` all of them, and what a plan asks of the measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from autoseg.core.geometry import bounding_box, box_slices, nearest_axes, turn
from autoseg.core.records import (
    Case,
    CaseFacts,
    ChannelFacts,
    Dataset,
    Fingerprint,
    Image,
    IntensityFacts,
    Label,
    LesionFacts,
)

SMALL_LESION_ML = 0.1
# Where IntensityFacts knows a region's distribution: minimum, 0.5 %, quantiles, median, quantiles, 99.5 %, maximum.
_LEVELS = np.array([0, 0.5, 2, 5, 10, 25, 50, 75, 90, 95, 98, 99.5, 100]) / 100
_NAMED_LEVELS = (0, 1, 6, 11, 12)
_QUANTILES = [i for i in range(len(_LEVELS)) if i not in _NAMED_LEVELS]


def measure_case(
    image: Image, label: Label | None, *, case: Case, labels: Mapping[str, int], ignore_label: int | None = None
) -> CaseFacts:
    """Measure one case on axes turned to the canonical orientation.

    Args:
        image: voxels (C,Z,Y,X) float32, scanner units.
        label: voxels (Z,Y,X) integer with the values of ``labels``, or None for a scan without reference.
        case: whose facts these are.
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
    found = () if reference is None else measure_lesions(reference, spacing=spacing, crop=crop, labels=classes)
    return CaseFacts(
        case=case.id,
        group=case.group,
        site=case.site,
        shape=voxels.shape[1:],
        spacing=spacing,  # type: ignore[arg-type]
        cropped_shape=tuple(stop - start for start, stop in crop),  # type: ignore[arg-type]
        channels=channels,
        transpose=transpose,
        label_voxels=counted,
        lesions=found,
    )


def measure_intensities(values: np.ndarray) -> IntensityFacts:
    """Mean, spread and quantiles of a region; all 0 when it is empty.

    Args:
        values: (N,) float32, scanner units.
    """
    if values.size == 0:
        return _intensities(0, 0.0, 0.0, np.zeros(len(_LEVELS)))
    levels = np.quantile(values, _LEVELS)
    mean = float(values.mean(dtype=np.float64))
    return _intensities(values.size, mean, float(values.std(dtype=np.float64)), levels)


def _intensities(count: int, mean: float, std: float, levels: np.ndarray, *, pooled: bool = False) -> IntensityFacts:
    minimum, low, median, high, maximum = (float(levels[i]) for i in _NAMED_LEVELS)
    return IntensityFacts(
        count=count,
        mean=mean,
        std=std,
        minimum=minimum,
        maximum=maximum,
        percentile_00_5=low,
        median=median,
        percentile_99_5=high,
        # Five digits keep a case's quantiles on one line of the file.
        quantiles=() if pooled else tuple(float(f"{levels[i]:.5g}") for i in _QUANTILES),
    )


def measure_lesions(
    reference: np.ndarray,
    *,
    spacing: Sequence[float],
    crop: Sequence[tuple[int, int]],
    labels: Mapping[str, int],
) -> tuple[LesionFacts, ...]:
    """Every 26-connected component of one label, largest first.

    Args:
        reference: (Z,Y,X) integer, class values.
        spacing: mm.
        crop: (start, stop) per axis of the grid that centres are fractions of.
        labels: class name -> value, without background.
    """
    wanted = np.isin(reference, list(labels.values()))
    if not wanted.any():
        return ()
    box = bounding_box(wanted)
    inside = np.ascontiguousarray(np.where(wanted, reference, 0)[box_slices(box)].astype(np.uint16))
    components, count = cc3d.connected_components(inside, connectivity=26, return_N=True)
    measured = cc3d.statistics(components)
    value_of = np.zeros(count + 1, np.int64)
    taken = components > 0
    value_of[components[taken]] = inside[taken]
    start = np.array([c for c, _ in crop])
    size = np.array([stop - start for start, stop in crop])
    # + 0.5: a voxel's centre lies half a voxel behind its index.
    centres = (measured["centroids"] + np.array([b for b, _ in box]) - start + 0.5) / size
    names = {value: name for name, value in labels.items()}
    voxel_ml = math.prod(spacing) / 1000
    order = np.argsort(-measured["voxel_counts"][1:].astype(np.int64), kind="stable") + 1
    return tuple(
        LesionFacts(
            label=names[int(value_of[i])],
            volume_ml=float(f"{measured['voxel_counts'][i] * voxel_ml:.6g}"),
            centre=tuple(round(float(c), 3) for c in np.clip(centres[i], 0, 1)),  # type: ignore[arg-type]
        )
        for i in order
    )


def summarize(dataset: Dataset, dataset_key: str, facts: Iterable[CaseFacts]) -> Fingerprint:
    """Put the facts of all cases together, sorted by case.

    Args:
        dataset: what was measured.
        dataset_key: hash of its raw files.
        facts: per case, in any order.
    """
    cases = tuple(sorted(facts, key=lambda case: case.case))
    intensities = {}
    for index, channel in enumerate(dataset.channels):
        known = [case.channels[index].foreground for case in cases]
        measured = [facts for facts in known if facts is not None]
        if measured:
            intensities[channel] = pool_intensities(measured)
    return Fingerprint(
        dataset=dataset.name,
        dataset_key=dataset_key,
        channels=dataset.channels,
        labels=dataset.labels,
        regions=dataset.regions,
        ignore_label=dataset.ignore_label,
        cases=cases,
        intensities=intensities,
    )


def pool_intensities(cases: Sequence[IntensityFacts]) -> IntensityFacts:
    """Intensities of a dataset, each case weighted alike however large its foreground.

    The variance is the mean variance within cases plus the variance of their means. The quantiles are those of the
    mean of the cases' distribution functions, each taken as straight lines between its measured quantiles.

    Source: nnU-Net, doi:10.1038/s41592-020-01008-z, pools equally many foreground voxels of each case.
    """
    means = np.array([case.mean for case in cases])
    variance = np.mean(np.array([case.std for case in cases]) ** 2) + means.var()
    sketches = [_sketch(case) for case in cases]
    at = np.unique(np.concatenate(sketches))
    share = np.mean([_distribution(sketch, at) for sketch in sketches], axis=0)
    levels = np.interp(_LEVELS, share, at)
    levels[0], levels[-1] = at[0], at[-1]
    count = sum(case.count for case in cases)
    return _intensities(count, float(means.mean()), float(np.sqrt(variance)), levels, pooled=True)


def _sketch(case: IntensityFacts) -> np.ndarray:
    sketch = np.zeros(len(_LEVELS))
    named = (case.minimum, case.percentile_00_5, case.median, case.percentile_99_5, case.maximum)
    sketch[list(_NAMED_LEVELS)] = named
    sketch[_QUANTILES] = case.quantiles
    return np.maximum.accumulate(sketch)  # the rounding may have swapped neighbours


def _distribution(sketch: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The share of voxels at or below each value; where values tie, the largest share."""
    values, first = np.unique(sketch[::-1], return_index=True)
    return np.interp(at, values, _LEVELS[::-1][first], left=0.0)


def median_spacing(fingerprint: Fingerprint) -> tuple[float, ...]:
    """Per-axis median spacing in mm."""
    return _medians([case.spacing for case in fingerprint.cases])


def median_cropped_shape(fingerprint: Fingerprint) -> tuple[float, ...]:
    """Per-axis median of the cropped shapes in voxels; halves where the number of cases is even."""
    return _medians([case.cropped_shape for case in fingerprint.cases])


def median_crop_share(fingerprint: Fingerprint) -> float:
    """The median over cases of the crop's share of the scan's volume."""
    shares = [math.prod(case.cropped_shape) / math.prod(case.shape) for case in fingerprint.cases]
    return float(np.median(shares))


def _medians(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(float(n) for n in np.median(np.asarray(rows, dtype=float), axis=0))


@dataclass(frozen=True, kw_only=True)
class LesionSummary:
    """The lesions of a dataset in a few numbers.

    Attributes:
        cases: cases with a reference.
        empty_cases: those of them without any lesion.
        count: lesions of all labels.
        per_case: median number of lesions in the cases that have some.
        smallest_ml, median_ml, largest_ml: volumes; 0 when there is no lesion.
        small_share: share of lesions below ``SMALL_LESION_ML``.
    """

    cases: int
    empty_cases: int
    count: int
    per_case: float
    smallest_ml: float
    median_ml: float
    largest_ml: float
    small_share: float


def summarize_lesions(fingerprint: Fingerprint) -> LesionSummary:
    """Count the lesions, their volumes and the empty cases."""
    labelled = [case for case in fingerprint.cases if case.label_voxels]
    counts = [len(case.lesions) for case in labelled]
    volumes = np.array([lesion.volume_ml for case in labelled for lesion in case.lesions])
    some = volumes if volumes.size else np.zeros(1)
    return LesionSummary(
        cases=len(labelled),
        empty_cases=counts.count(0),
        count=int(volumes.size),
        per_case=float(np.median([n for n in counts if n] or [0])),
        smallest_ml=float(some.min()),
        median_ml=float(np.median(some)),
        largest_ml=float(some.max()),
        small_share=float(np.mean(volumes < SMALL_LESION_ML)) if volumes.size else 0.0,
    )
