"""Lesions of a predicted mask, as ``autoseg_predict --report`` lists them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record
from autoseg.core.records.experiment import Doubt

Side = Literal["", "left", "right", "midline"]


class PredictedLesion(Record):
    """One connected component (26-connectivity) of the mask of one label or region.

    Attributes:
        voxels: their number.
        volume_ml: their volume.
        centre: centre of mass in the scan's world, (x,y,z) mm, LPS.
        mean_probability: of the label or region, over its voxels.
        side: of the head that its centre lies in; empty where the scan does not state its orientation, and in records
            of version 0.1.
    """

    voxels: int
    volume_ml: float
    centre: tuple[float, float, float]
    mean_probability: float
    side: Side = ""


class LabelLesions(Record):
    """Predicted lesions of one label or region in one case.

    Attributes:
        volume_ml: of the whole mask.
        mean_probability: over the voxels of the mask; None where it is empty.
        lesions: largest first.
    """

    volume_ml: float
    mean_probability: float | None
    lesions: tuple[PredictedLesion, ...]


class PlaneView(Record):
    """One slice as a page draws it.

    Attributes:
        scans: JPEG in base64, one per channel.
        outlines: (number of the label's colour, path data).
        sides: letters at the left and the right; empty where the scan does not state its orientation.
        size, pixel: mm (width, height).
        caption: plane and number of the slice.
    """

    scans: tuple[str, ...]
    outlines: tuple[tuple[int, str], ...]
    sides: tuple[str, str]
    size: tuple[float, float]
    pixel: tuple[float, float]
    caption: str


class CaseLesions(Record):
    """Predicted lesions of one case.

    Attributes:
        schema_version: format version (``schema`` on disk).
        case: its id.
        model: key of the model that made the mask, as in the mask's record.
        labels: label or region name -> its lesions.
        doubt: by the probabilities alone, without a reason; None in records of version 0.1.
        planes: slices for the page; none in records of version 0.1.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    case: str
    model: str
    labels: dict[str, LabelLesions]
    doubt: Doubt | None = None
    planes: tuple[PlaneView, ...] = ()
