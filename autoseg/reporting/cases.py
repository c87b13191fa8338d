"""One case as a picture: the scan, the reference, the prediction, and where they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autoseg.core.geometry import Box
from autoseg.metrics import METRICS
from autoseg.reporting.canvas import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, make_figure, render_png
from autoseg.reporting.outlines import trace_outline
from autoseg.reporting.slices import Slices, cut_slices, find_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 3
LABEL_COLOURS = (YELLOW, ORANGE, "#FFFFFF", PURPLE)  # none of them means agreement or error
AGREEMENT = (  # name in the legend, colour
    ("true positive", GREEN),
    ("false positive", VERMILLION),
    ("false negative", SKY),
    ("wrong label", BLUE),
)
INK, PAPER, QUIET = "#FFFFFF", "#000000", "#B0B0B0"
LEFT, GUTTER, HEADER, FOOTER = 0.35, 0.05, 0.75, 0.2  # inches
Values = Mapping[str, float | None]


def draw_case(
    image: np.ndarray,
    reference: np.ndarray | None,
    prediction: np.ndarray,
    *,
    spacing: Sequence[float],
    channels: Sequence[str],
    title: str,
    scores: Values | Mapping[str, Values] | None = None,
    lines: Sequence[str] = (),
) -> bytes:
    """Scan, reference and prediction side by side on the slices with the most lesion, as PNG.

    Axes must run I->S, A->P, R->L (``geometry.turn`` after ``nearest_axes``): then the picture is upright and, as
    radiologists see it, the patient's right is on the left.

    Args:
        image: (C,Z,Y,X) float, any units; lesions are drawn over the first channel.
        reference: (Z,Y,X) integer, or None when there is none.
        prediction: (Z,Y,X) integer.
        spacing: mm along (z,y,x).
        channels: C names.
        title: first line of the picture.
        scores: metric -> value of the one label, or label -> metric -> value; written below.
        lines: written below, too.
    """
    slices = cut_slices(image, reference, prediction, spacing, limit=ROWS)
    names = [*channels, *(["Reference"] if reference is not None else []), "Prediction"]
    names += ["Agreement"] if reference is not None else []
    lines = [*_write_scores(scores or {}), *lines]
    figure, panels = _lay_out(slices, names, footer=FOOTER + 0.2 * len(lines))
    colours = _colour_labels(prediction, reference)

    for row, axes in enumerate(panels):
        _draw_row(slices, row, axes, colours)
        index, count = slices.numbers[row]
        axes[0].set_ylabel(f"slice {index + 1} of {count}", color=QUIET, fontsize=7)
    for axis, name in zip(panels[0], names, strict=True):
        axis.set_title(name, color=INK, fontsize=9, pad=4)
    _write_margins(figure, title, lines)
    _draw_legend(figure, slices, colours)
    return render_png(figure)


def classify_voxels(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Agreement of each voxel with the reference.

    Args:
        prediction: (*axes) integer.
        reference: (*axes) integer.

    Returns:
        (*axes) uint8: 0 background, then as in AGREEMENT: 1 true positive, 2 false positive, 3 false negative,
        4 lesion in both but with another label.
    """
    outcome = np.zeros(prediction.shape, np.uint8)
    outcome[(prediction > 0) & (reference == 0)] = 2
    outcome[(prediction == 0) & (reference > 0)] = 3
    outcome[(prediction > 0) & (reference > 0)] = 4
    outcome[(prediction > 0) & (reference == prediction)] = 1
    return outcome


def _draw_row(slices: Slices, row: int, axes: Sequence[Axes], colours: Mapping[int, str]) -> None:
    """One slice: each channel, then the masks over the first channel."""
    scans, masks = slices.image[:, row], axes[len(slices.image) :]
    for axis, scan in zip(axes, [*scans, *([scans[0]] * len(masks))], strict=True):
        _show_scan(axis, scan, slices.pixel)
    predicted = slices.prediction[row]
    if slices.reference is None:
        _show_contours(masks[0], predicted, slices.pixel, colours)
        return
    referenced = slices.reference[row]
    _show_contours(masks[0], referenced, slices.pixel, colours)
    _show_contours(masks[1], predicted, slices.pixel, colours)
    outcome = classify_voxels(predicted, referenced)
    _show_outcome(masks[2], outcome, slices.pixel)
    field = find_field(outcome > 0, slices.pixel)
    if field is not None:
        _magnify(masks[2], field, slices.pixel)
        _frame(masks[1], field, slices.pixel)


def _show_scan(axis: Axes, scan: np.ndarray, pixel: tuple[float, float]) -> None:
    axis.imshow(scan, cmap="gray", vmin=0, vmax=1, extent=_extent(scan, pixel), interpolation="bilinear")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _show_contours(axis: Axes, labels: np.ndarray, pixel: tuple[float, float], colours: Mapping[int, str]) -> None:
    for value, colour in colours.items():
        _outline(axis, labels == value, pixel, colour)
    if not labels.any():
        axis.text(0.5, 0.02, "empty", transform=axis.transAxes, color=QUIET, fontsize=7, ha="center", va="bottom")


def _show_outcome(axis: Axes, outcome: np.ndarray, pixel: tuple[float, float]) -> None:
    """True positives, false positives, ... each filled thinly and outlined."""
    from matplotlib.colors import to_rgba

    palette = np.array([(0, 0, 0, 0), *(to_rgba(colour, 0.55) for _, colour in AGREEMENT)])
    axis.imshow(palette[outcome], extent=_extent(outcome, pixel), interpolation="nearest")
    for number, (_, colour) in enumerate(AGREEMENT, start=1):
        _outline(axis, outcome == number, pixel, colour)


def _outline(axis: Axes, mask: np.ndarray, pixel: tuple[float, float], colour: str) -> None:
    """Along the edges of the pixels; a single one is a square of its true size."""
    from matplotlib.collections import LineCollection

    paths = [np.vstack([path, path[:1]]) * (pixel[1], pixel[0]) for path in trace_outline(mask)]
    axis.add_collection(LineCollection(paths, colors=colour, linewidths=0.9, capstyle="round"), autolim=False)


def _magnify(axis: Axes, field: Box, pixel: tuple[float, float]) -> None:
    (top, bottom), (left, right) = field
    axis.set_xlim(left * pixel[1], right * pixel[1])
    axis.set_ylim(bottom * pixel[0], top * pixel[0])


def _frame(axis: Axes, field: Box, pixel: tuple[float, float]) -> None:
    """Region of the magnified panel."""
    from matplotlib.patches import Rectangle

    (top, bottom), (left, right) = field
    width, height = (right - left) * pixel[1], (bottom - top) * pixel[0]
    corner = (left * pixel[1], top * pixel[0])
    for colour, style in ((PAPER, "-"), (INK, (0, (4, 3)))):  # dark below white: seen on any tissue
        frame = Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=0.9, linestyle=style)
        axis.add_patch(frame)


def _extent(pixels: np.ndarray, pixel: tuple[float, float]) -> tuple[float, float, float, float]:
    """Left, right, bottom and top in mm, the first row on top."""
    height, width = pixels.shape[:2]
    return 0.0, width * pixel[1], height * pixel[0], 0.0


def _lay_out(slices: Slices, names: Sequence[str], *, footer: float) -> tuple[Figure, list[list[Axes]]]:
    """A grid of panels that keep the true proportions of the slices."""
    rows, columns = len(slices.numbers), len(names)
    height_mm, width_mm = (n * mm for n, mm in zip(slices.prediction.shape[1:], slices.pixel, strict=True))
    width = min(2.4, 13 / columns)
    height = min(width * height_mm / width_mm, 1.6 * width)
    total = LEFT + columns * (width + GUTTER) + 0.1, HEADER + rows * (height + GUTTER) + footer
    figure = make_figure(*total, background=PAPER)
    panels = []
    for row in range(rows):
        bottom = total[1] - HEADER - (row + 1) * height - row * GUTTER
        lefts = (LEFT + column * (width + GUTTER) for column in range(columns))
        panels.append(
            [
                figure.add_axes((left / total[0], bottom / total[1], width / total[0], height / total[1]))
                for left in lefts
            ]
        )
    return figure, panels


def _write_margins(figure: Figure, title: str, lines: Sequence[str]) -> None:
    width, height = figure.get_size_inches()
    figure.text(LEFT / width, 1 - 0.3 / height, title, color=INK, fontsize=11, va="center", weight="bold")
    for number, line in enumerate(reversed(lines)):
        place = (LEFT / width, (0.12 + 0.2 * number) / height)
        figure.text(*place, line, color=QUIET, fontsize=7, va="bottom")


def _draw_legend(figure: Figure, slices: Slices, colours: Mapping[int, str]) -> None:
    """Legend of the colours; labels are named only if there are several."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = []
    if len(colours) > 1:
        handles += [Line2D([], [], color=colour, label=f"label {value}") for value, colour in colours.items()]
    if slices.reference is not None:
        outcome = classify_voxels(slices.prediction, slices.reference)
        shown = AGREEMENT if (outcome == len(AGREEMENT)).any() else AGREEMENT[:-1]  # a wrong label is rare
        handles += [Patch(color=colour, label=name) for name, colour in shown]
    if not handles:
        return
    _, height = figure.get_size_inches()
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(0.995, 1 - 0.12 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=7.5,
        labelcolor=INK,
        handlelength=1.0,
        columnspacing=1.2,
    )


def _write_scores(scores: Values | Mapping[str, Values]) -> list[str]:
    """One line per label."""
    lines = [
        f"{label}:  {_write_values(metric_values)}"
        for label, metric_values in scores.items()
        if isinstance(metric_values, Mapping)
    ]
    single = {name: value for name, value in scores.items() if not isinstance(value, Mapping)}
    return [*lines, _write_values(single)] if single else lines


def _write_values(values: Values) -> str:
    """Each metric with its value and unit."""
    parts = []
    for name, value in values.items():
        unit = METRICS[name].unit if name in METRICS else ""
        parts.append(f"{name} undefined" if value is None else f"{name} {value:.2f} {unit}".rstrip())
    return "   ".join(parts)


def _colour_labels(prediction: np.ndarray, reference: np.ndarray | None) -> dict[int, str]:
    """A colour for each value of either mask but the background."""
    masks = [prediction] if reference is None else [prediction, reference]
    values = sorted({int(value) for mask in masks for value in np.unique(mask)} - {0})
    return {value: LABEL_COLOURS[i % len(LABEL_COLOURS)] for i, value in enumerate(values)}
