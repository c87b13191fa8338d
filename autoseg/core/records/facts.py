"""What the fingerprint measures: of one case, and of all."""

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
        quantiles: at 2, 5, 10, 25, 75, 90, 95 and 98 %, from which cases are pooled; empty for a dataset.
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


class CaseFacts(Record):
    """Measurements of one case, on axes turned to the canonical orientation.

    Attributes:
        case: its id.
        group, site: as in the dataset.
        shape: voxels of the whole scan.
        spacing: mm.
        cropped_shape: voxels of the bounding box of the hole-filled non-zero mask.
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
    transpose: tuple[int, int, int] = (0, 1, 2)
    channels: tuple[ChannelFacts, ...]
    label_voxels: dict[str, int]
    lesions: tuple[LesionFacts, ...]


class Fingerprint(Record):
    """Measurements of a dataset; the plan is a function of this record and the budget alone.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset: its name.
        dataset_key: hash of the raw files' names, sizes and times; another key means measure again.
        channels: names, in order.
        labels: class name -> value.
        regions: region name -> values.
        ignore_label: value left out of loss and scores.
        cases: per case.
        intensities: channel name -> foreground intensities of the dataset, each case weighted alike.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    dataset_key: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    ignore_label: int | None = None
    cases: tuple[CaseFacts, ...]
    intensities: dict[str, IntensityFacts]
