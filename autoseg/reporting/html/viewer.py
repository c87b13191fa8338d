"""Slices of a case to leaf through: the scan as pictures, the masks as outlines that stay sharp when magnified."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from autoseg.reporting.canvas import render_jpeg
from autoseg.reporting.cases import classify_voxels
from autoseg.reporting.html.content import Picture
from autoseg.reporting.html.markup import Markup, element
from autoseg.reporting.html.numbers import show_value, show_volume, unit_of
from autoseg.reporting.outlines import render_path, trace_outline
from autoseg.reporting.slices import Slices, find_field

LARGEST = 320  # pixels of a picture's longer side
MOST_CHANNELS = 4
OUTCOMES = (  # number in classify_voxels, class of the style sheet, name in the legend, name in a caption
    (1, "tp", "true positive", "found"),
    (2, "fp", "false positive", "too much"),
    (3, "fn", "false negative", "missed"),
    (4, "wl", "wrong label", "of another label"),
)
SIDES = (("R", "L"), ("R", "L"), ("A", "P"))  # what lies left and right in the picture, by the axis that was cut


def draw_viewer(picture: Picture, number: int) -> Markup:
    """One case with its slider; the fullest slice is shown first, and alone where no script runs.

    Args:
        number: of the viewer on the page.
    """
    stack, case = picture.stack, picture.scores
    first = find_fullest(stack)
    slices = [_draw_slice(picture, index, shown=index == first) for index in range(len(stack.numbers))]
    left, right = SIDES[stack.axis]
    stage = element(
        "div",
        slices,
        element("span", left, class_="side left", aria_hidden="true"),
        element("span", right, class_="side right", aria_hidden="true"),
        class_="stage",
    )
    title = element("h3", f"{picture.role}: {case.case}", id=f"viewer-{number}")
    scores = [element("p", _write_scores(label, case.scores[label], picture), class_="fine") for label in case.scores]
    controls = _draw_controls(picture.channels, len(slices), first)
    return element("article", title, scores, stage, controls, class_="viewer", aria_labelledby=f"viewer-{number}")


def draw_key(pictures: Sequence[Picture]) -> Markup:
    """What colours and lines mean."""
    wrong = any((classify_voxels(p.stack.prediction, _reference(p.stack)) == 4).any() for p in pictures)
    fills = [
        (name, element("rect", class_=kind, x=2, y=1, width=22, height=10))
        for _, kind, name, _ in (OUTCOMES if wrong else OUTCOMES[:-1])
    ]
    lines = [
        (name, element("line", class_=kind, x1=2, x2=24, y1=6, y2=6))
        for name, kind in (("outline of the reference", "reference"), ("outline of the prediction", "prediction"))
    ]
    return element(
        "ul",
        [
            element(
                "li",
                element("svg", sample, viewBox="0 0 26 12", width=26, height=12, aria_hidden="true", class_="swatch"),
                name,
            )
            for name, sample in [*fills, *lines]
        ],
        class_="legend",
    )


def find_fullest(stack: Slices) -> int:
    """The slice with most of the reference, or of the prediction where that is empty, or the middle one."""
    reference = _reference(stack)
    areas = np.count_nonzero(reference if reference.any() else stack.prediction, axis=(1, 2))
    return int(np.argmax(areas)) if areas.any() else len(areas) // 2


def _draw_slice(picture: Picture, index: int, *, shown: bool) -> Markup:
    stack = picture.stack
    predicted, referenced = stack.prediction[index], _reference(stack)[index]
    outcome = classify_voxels(predicted, referenced)
    height, width = (n * mm for n, mm in zip(outcome.shape, stack.pixel, strict=True))
    scans = [
        element(
            "image",
            href=f"data:image/jpeg;base64,{base64.b64encode(render_jpeg(scan, largest=LARGEST)).decode()}",
            width=f"{width:.6g}",
            height=f"{height:.6g}",
            preserveAspectRatio="none",
            data_channel=number,
            display=None if number == 0 else "none",
        )
        for number, scan in enumerate(stack.image[:MOST_CHANNELS, index])
    ]
    fills = [_draw_fill(outcome == number, kind) for number, kind, _, _ in OUTCOMES]
    outlines = [_draw_labels(referenced, "reference"), _draw_labels(predicted, "prediction")]
    scale = f"scale({stack.pixel[1]:.6g} {stack.pixel[0]:.6g})"
    masks = element("g", fills, outlines, class_="masks", transform=scale)
    caption = _describe_slice(outcome, stack, index)
    whole = f"0 0 {width:.6g} {height:.6g}"
    drawing = element(
        "svg",
        scans,
        masks,
        viewBox=whole,
        data_whole=whole,
        data_field=_find_view(outcome, stack.pixel),
        role="img",
        aria_label=f"case {picture.scores.case}, {caption}",
    )
    return element(
        "figure", drawing, element("figcaption", caption), class_="slice key" if shown else "slice", hidden=not shown
    )


def _describe_slice(outcome: np.ndarray, stack: Slices, index: int) -> str:
    number, of = stack.numbers[index]
    pixel_cm2 = stack.pixel[0] * stack.pixel[1] / 100
    counts = np.bincount(outcome.ravel(), minlength=5)
    found = [f"{counts[value] * pixel_cm2:.2f} cm² {word}" for value, _, _, word in OUTCOMES if counts[value]]
    return f"slice {number + 1} of {of}: {', '.join(found) or 'no lesion in either mask'}"


def _find_view(outcome: np.ndarray, pixel: tuple[float, float]) -> str | None:
    field = find_field(outcome > 0, pixel)
    if field is None:
        return None
    (top, bottom), (left, right) = field
    values = (left * pixel[1], top * pixel[0], (right - left) * pixel[1], (bottom - top) * pixel[0])
    return " ".join(f"{value:.6g}" for value in values)


def _draw_fill(mask: np.ndarray, kind: str) -> Markup | None:
    return element("path", d=render_path(trace_outline(mask)), class_=kind) if mask.any() else None


def _draw_labels(labels: np.ndarray, kind: str) -> Markup | None:
    values = [value for value in np.unique(labels) if value]
    if not values:
        return None
    return element("path", d="".join(render_path(trace_outline(labels == value)) for value in values), class_=kind)


def _draw_controls(channels: Sequence[str], slices: int, first: int) -> Markup:
    slider = element("input", type="range", min=0, max=slices - 1, step=1, value=first, aria_label="slice")
    options = [element("option", name, value=number) for number, name in enumerate(channels[:MOST_CHANNELS])]
    choice = element("label", "channel", element("select", options)) if len(options) > 1 else None
    masks = element("label", element("input", type="checkbox", checked=True, data_act="masks"), "masks")
    magnify = element("label", element("input", type="checkbox", data_act="magnify"), "magnify lesions")
    return element("div", slider, choice, masks, magnify, class_="controls needs-script")


def _write_scores(label: str, scores: dict[str, float | None], picture: Picture) -> str:
    volumes = picture.scores.reference_volume_ml.get(label), picture.scores.prediction_volume_ml.get(label)
    shown = [
        f"{name} {show_value(value, name)} {unit_of(name)}".rstrip()
        for name, value in scores.items()
        if name in ("dice", "hd95", "lesion_f1")
    ]
    known = [show_volume(volume) for volume in volumes if volume is not None]
    shown += [f"reference {known[0]} ml, prediction {known[1]} ml"] if len(known) == 2 else []
    return f"{label}: {', '.join(shown)}"


def _reference(stack: Slices) -> np.ndarray:
    return np.zeros_like(stack.prediction) if stack.reference is None else stack.reference
