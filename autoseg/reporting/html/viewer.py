"""Slices of a case to browse: the scan as JPEG, the masks as outlines that stay sharp when magnified."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.reporting.canvas import render_jpeg
from autoseg.reporting.cases import classify_voxels
from autoseg.reporting.html.content import Picture
from autoseg.reporting.html.numbers import format_value, format_volume, unit_of
from autoseg.reporting.outlines import render_path, trace_outline
from autoseg.reporting.slices import Slices, find_field

MAX_PIXELS = 320  # of a picture's longer side
MAX_CHANNELS = 4
SHOWN_METRICS = ("dice", "hd95", "lesion_f1")
OUTCOMES = (  # number in classify_voxels, class of the style sheet, name
    (1, "tp", "true positive"),
    (2, "fp", "false positive"),
    (3, "fn", "false negative"),
    (4, "wl", "wrong label"),
)
SIDES = (("R", "L"), ("R", "L"), ("A", "P"))  # left and right in the picture, by the axis of the slices


@dataclass(frozen=True, kw_only=True)
class SliceView:
    """One slice as the template draws it.

    Attributes:
        scans: JPEG in base64, one per channel.
        fills: (class, path data) of each outcome.
        outlines: (class, path data) of reference and prediction.
        field: view box around the lesions; None where it would hardly magnify.
    """

    scans: tuple[str, ...]
    fills: tuple[tuple[str, str], ...]
    outlines: tuple[tuple[str, str], ...]
    field: str | None
    caption: str


@dataclass(frozen=True, kw_only=True)
class CaseView:
    """One case as the template draws it.

    Attributes:
        title: role and name.
        scores: one line per label.
        sides: letters at the left and the right.
        size: mm (width, height).
        pixel: mm (width, height).
        first: index of the slice that is open at first, and alone on paper and without script.
    """

    title: str
    case: str
    scores: tuple[str, ...]
    channels: tuple[str, ...]
    sides: tuple[str, str]
    size: tuple[float, float]
    pixel: tuple[float, float]
    slices: tuple[SliceView, ...]
    first: int


def view_case(picture: Picture) -> CaseView:
    """Everything that the template needs of a case."""
    stack, scores = picture.stack, picture.scores
    height, width = (voxels * mm for voxels, mm in zip(stack.prediction.shape[1:], stack.pixel, strict=True))
    return CaseView(
        title=f"{picture.role}: {scores.case}",
        case=scores.case,
        scores=tuple(_describe_scores(label, scores.scores[label], picture) for label in scores.scores),
        channels=picture.channels[:MAX_CHANNELS],
        sides=SIDES[stack.axis],
        size=(width, height),
        pixel=(stack.pixel[1], stack.pixel[0]),
        slices=tuple(_view_slice(stack, index) for index in range(len(stack.numbers))),
        first=find_fullest(stack),
    )


def list_outcomes(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """(class, name) of the outcomes for the legend; a wrong label only where there is one."""
    wrong = any((classify_voxels(p.stack.prediction, _reference(p.stack)) == 4).any() for p in pictures)
    return [(kind, name) for _, kind, name in (OUTCOMES if wrong else OUTCOMES[:-1])]


def find_fullest(stack: Slices) -> int:
    """Slice with the largest reference area, or prediction area where the reference is empty, or the middle one."""
    reference = _reference(stack)
    areas = np.count_nonzero(reference if reference.any() else stack.prediction, axis=(1, 2))
    return int(np.argmax(areas)) if areas.any() else len(areas) // 2


def _view_slice(stack: Slices, index: int) -> SliceView:
    prediction, reference = stack.prediction[index], _reference(stack)[index]
    outcome = classify_voxels(prediction, reference)
    number, of = stack.numbers[index]
    pixel_cm2 = stack.pixel[0] * stack.pixel[1] / 100
    counts = np.bincount(outcome.ravel(), minlength=5)
    areas = [f"{name} {counts[value] * pixel_cm2:.2f} cm²" for value, _, name in OUTCOMES if counts[value]]
    return SliceView(
        scans=tuple(
            base64.b64encode(render_jpeg(scan, largest=MAX_PIXELS)).decode()
            for scan in stack.image[:MAX_CHANNELS, index]
        ),
        fills=tuple((kind, _path(outcome, [value])) for value, kind, _ in OUTCOMES if counts[value]),
        outlines=tuple(
            (kind, _path(labels, np.unique(labels[labels > 0]).tolist()))
            for kind, labels in (("reference", reference), ("prediction", prediction))
            if labels.any()
        ),
        field=_view_box(outcome, stack.pixel),
        caption=f"slice {number + 1} of {of}: {', '.join(areas) or 'no lesion in either mask'}",
    )


def _path(labels: np.ndarray, values: Sequence[int]) -> str:
    return "".join(render_path(trace_outline(labels == value)) for value in values)


def _view_box(outcome: np.ndarray, pixel: tuple[float, float]) -> str | None:
    field = find_field(outcome > 0, pixel)
    if field is None:
        return None
    (top, bottom), (left, right) = field
    values = (left * pixel[1], top * pixel[0], (right - left) * pixel[1], (bottom - top) * pixel[0])
    return " ".join(f"{value:.6g}" for value in values)


def _describe_scores(label: str, scores: dict[str, float | None], picture: Picture) -> str:
    parts = [
        f"{name} {format_value(value, name)} {unit_of(name)}".rstrip()
        for name, value in scores.items()
        if name in SHOWN_METRICS
    ]
    volumes = picture.scores.reference_volume_ml.get(label), picture.scores.prediction_volume_ml.get(label)
    if volumes[0] is not None and volumes[1] is not None:
        parts.append(f"reference {format_volume(volumes[0])} ml, prediction {format_volume(volumes[1])} ml")
    return f"{label}: {', '.join(parts)}"


def _reference(stack: Slices) -> np.ndarray:
    return np.zeros_like(stack.prediction) if stack.reference is None else stack.reference
