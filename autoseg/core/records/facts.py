"""Measurements of the fingerprint: of one case, and of all."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record


class IntensityFacts(Record):
    """Intensities of one channel inside one region of one case (or, in a fingerprint, of the dataset).

    Attributes:
        count: voxels in the region.
        mean, std, minimum, maximum: scanner units.
        percentile_00_5, median, percentile_99_5: scanner units.
        quantiles: at 2, 5, 10, 25, 75, 90, 95 and 98 %.
    """

    count: int
    mean: float
    std: float
    minimum: float
    maximum: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    quantiles: tuple[float, ...] = ()


class ChannelFacts(Record):
    """Intensities of one channel: inside the labelled foreground (None without any) and inside the brain (non-zero)."""

    foreground: IntensityFacts | None
    brain: IntensityFacts


class LesionFacts(Record):
    """One connected component (26-connectivity) of one label.

    Attributes:
        label: the label's name.
        volume_ml: its volume.
        centre: centre of mass as a fraction (0-1) of the cropped grid along each axis.
    """

    label: str
    volume_ml: float
    centre: tuple[float, float, float]


class HeadFacts(Record):
    """The head in a scan, as ``find_head`` finds it.

    Attributes:
        shape: voxels of its bounding box.
        share: of the voxels of the scan.
        outside_share: share of the labelled voxels outside it; 0 without any.
    """

    shape: tuple[int, int, int]
    share: float
    outside_share: float


class CaseFacts(Record):
    """Measurements of one case, on axes turned to the canonical orientation.

    Attributes:
        case: its id.
        group, site: as in the dataset.
        shape: voxels of the whole scan.
        spacing: mm.
        cropped_shape: voxels of the bounding box of the hole-filled non-zero mask.
        head: the head, in a scan whose background is not zero; None in measurements of version 0.1.
        transpose: the file's axis that each of these axes came from.
        channels: intensities, in the dataset's order.
        label_voxels: label name -> voxels.
        lesions: every lesion, largest first.
    """

    case: str
    group: str | None
    site: str | None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    cropped_shape: tuple[int, int, int]
    head: HeadFacts | None = None
    transpose: tuple[int, int, int] = (0, 1, 2)
    channels: tuple[ChannelFacts, ...]
    label_voxels: dict[str, int]
    lesions: tuple[LesionFacts, ...]


class LesionPositions(Record):
    """Positions of lesions inside the cropped scans, from their centres.

    Attributes:
        left_share, right_share: share of lesions whose centre lies in the patient's left and right half.
        left_volume_share, right_volume_share: of their volume.
        centre: mean of the centres along head-foot (0 is the foot's end), front-back (0 is the front) and left-right
            (0 is the patient's right).
        spread: standard deviation of the centres along the same axes.
    """

    left_share: float
    right_share: float
    left_volume_share: float
    right_volume_share: float
    centre: tuple[float, float, float]
    spread: tuple[float, float, float]


class LesionSummary(Record):
    """Summary of the lesions of a dataset.

    Attributes:
        cases: cases with a reference.
        empty_cases: cases among them without any lesion.
        count: lesions of all labels.
        per_case: median number of lesions in the cases that have some.
        most_per_case: largest number in one case.
        smallest_ml, percentile_05_ml, quartile_1_ml, median_ml, quartile_3_ml, percentile_95_ml, largest_ml: volumes.
        total_ml: of all lesions together.
        per_case_ml: median volume of all lesions of a case, in the cases that have some.
        small_share: share of lesions below 0.1 ml.
        positions: of their centres; None without lesions.
    """

    cases: int
    empty_cases: int
    count: int
    per_case: float
    most_per_case: int
    smallest_ml: float
    percentile_05_ml: float
    quartile_1_ml: float
    median_ml: float
    quartile_3_ml: float
    percentile_95_ml: float
    largest_ml: float
    total_ml: float
    per_case_ml: float
    small_share: float
    positions: LesionPositions | None


class LabelSummary(Record):
    """Frequency of one label.

    Attributes:
        cases: cases that hold it.
        case_share: of all cases with a reference.
        voxel_share: of all voxels of their cropped scans.
        lesions: its connected components.
        total_ml: their volume.
    """

    cases: int
    case_share: float
    voxel_share: float
    lesions: int
    total_ml: float


class Fingerprint(Record):
    """Measurements of a dataset; the plan is a function of this record and the budget alone.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset: its name.
        dataset_key: hash of the raw files' names, sizes and times; with another key the dataset is measured again.
        channels: names, in order.
        labels: class name -> value.
        regions: region name -> values.
        ignore_label: value excluded from loss and scores.
        lesions: summary of all lesions.
        frequencies: label name -> its frequency.
        intensities: channel name -> foreground intensities of the dataset, each case weighted alike.
        brain_intensities: channel name -> intensities of the non-zero region, each case weighted alike.
        cases: per case.
    """

    schema_version: Literal[2] = Field(default=2, alias="schema")
    dataset: str
    dataset_key: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    ignore_label: int | None = None
    lesions: LesionSummary
    frequencies: dict[str, LabelSummary] = Field(default_factory=dict)
    intensities: dict[str, IntensityFacts]
    brain_intensities: dict[str, IntensityFacts] = Field(default_factory=dict)
    cases: tuple[CaseFacts, ...]
