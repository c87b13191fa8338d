"""Lesions of a predicted mask, as ``autoseg_predict --report`` lists them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.core.records.base import Record


class PredictedLesion(Record):
    """One connected component (26-connectivity) of the mask of one label or region.

    Attributes:
        voxels: their number.
        volume_ml: their volume.
        centre: centre of mass in the scan's world, (x,y,z) mm, LPS.
        mean_probability: of the label or region, over its voxels.
    """

    voxels: int
    volume_ml: float
    centre: tuple[float, float, float]
    mean_probability: float


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


class CaseLesions(Record):
    """Predicted lesions of one case.

    Attributes:
        schema_version: format version (``schema`` on disk).
        case: its id.
        model: key of the model that made the mask, as in the mask's record.
        labels: label or region name -> its lesions.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    case: str
    model: str
    labels: dict[str, LabelLesions]
