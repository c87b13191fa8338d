"""Charts by matplotlib as SVG inside the page: its text, colours, links and tooltips are those of the page.

The page's policy forbids style attributes, so each becomes plain SVG attributes; the style sheet gives every colour
below its counterpart in dark mode.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from autoseg.reporting.canvas import make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 420, 270  # points; small, so that its text is still legible when a phone shrinks it
ROW = 26  # height of an interval
DOTS = 72  # points per inch
MAX_NAME = 20  # characters of a name beside an interval
DENSE_FROM = 200  # points of a curve, from which its line is thin
INK, QUIET, LINE, PAPER = "#1b1b1b", "#5c5c5c", "#d9d9d9", "#ffffff"  # as in report.css
SERIES = (  # colour, dashes, marker
    ("#0072b2", "solid", "o"),
    ("#d55e00", (0, (3.5, 1.5)), "s"),
    ("#009e73", (0, (1, 1.5)), "^"),
    ("#b86fa0", (0, (4.5, 1.5, 1, 1.5)), "D"),
    ("#b97d00", (0, (6, 2)), "o"),
    ("#2f93cf", (0, (2, 1)), "s"),
    ("#444444", (0, (0.5, 1)), "^"),
)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points (x, y) joined by a line, with the number of its colour and dashes."""

    name: str
    points: tuple[tuple[float, float], ...]
    number: int


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point that shows its name on hover.

    Attributes:
        x: None: at the left edge.
        number: of its colour and shape.
        link: fragment of the page; empty for none.
    """

    x: float | None
    y: float
    name: str
    number: int = 0
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with the bounds of its interval; None where undefined."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    selected: bool = False


def draw_curves(curves: Sequence[Curve], x_name: str, y_name: str, *, title: str, unit_axis: bool = False) -> Markup:
    """Curves over whole numbers, with a legend if there are several; ``unit_axis``: y from 0 to 1."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _make_axes(x_name, y_name)
    for curve in curves:
        colour, dashes, marker = SERIES[curve.number % len(SERIES)]
        line: dict[str, Any] = {
            "color": colour,
            "linestyle": dashes,
            "linewidth": 1 if len(curve.points) > DENSE_FROM else 2,
        }
        if len(curve.points) == 1:
            line["marker"] = marker
        axes.plot(*zip(*curve.points, strict=True), label=curve.name, **line)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if unit_axis:
        axes.set_ylim(0, 1)
    _add_legend(figure, len(curves))
    return _render(figure, title)


def draw_marks(
    marks: Sequence[Mark], x_name: str, y_name: str, *, title: str, names: Sequence[str], unit_axis: bool = False
) -> Markup:
    """Points over a logarithmic axis; those without an x are at the left edge.

    Args:
        marks: at least one has an x.
        names: of the series, for the legend.
        unit_axis: y from 0 to 1.
    """
    from matplotlib.ticker import LogFormatter

    figure, axes = _make_axes(x_name, y_name)
    axes.set_xscale("log")
    for number, name in enumerate(names):
        colour, _, marker = SERIES[number % len(SERIES)]
        axes.plot([], [], marker, color=colour, markersize=7, label=name)
    for number, mark in enumerate(marks):
        colour, _, marker = SERIES[mark.number % len(SERIES)]
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform()} if mark.x is None else {}
        axes.plot(
            [0.02 if mark.x is None else mark.x],
            [mark.y],
            marker,
            color=colour,
            markersize=7,
            markeredgecolor=PAPER,
            markeredgewidth=0.8,
            gid=f"mark-{number}",
            url=mark.link or None,
            **place,
        )
    axes.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))
    axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))
    axes.set_ylim(bottom=0, top=1 if unit_axis else None)
    _add_legend(figure, len(names))
    return _render(figure, title, tooltips={f"mark-{number}": mark.name for number, mark in enumerate(marks)})


def draw_reliability(curves: Sequence[Curve], x_name: str, y_name: str, *, title: str) -> Markup:
    """Curves over the dotted diagonal of perfectly calibrated probabilities."""
    figure, axes = _make_axes(x_name, y_name)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (2, 4)))
    for curve in curves:
        colour, dashes, marker = SERIES[curve.number % len(SERIES)]
        style: dict[str, Any] = {
            "color": colour,
            "linestyle": dashes,
            "linewidth": 2,
            "marker": marker,
            "markeredgecolor": PAPER,
        }
        axes.plot(*zip(*curve.points, strict=True), label=curve.name, **style)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _add_legend(figure, len(curves))
    return _render(figure, title)


def draw_intervals(intervals: Sequence[Interval], x_name: str, *, title: str) -> Markup:
    """One row per name: the value as a dot, its interval as a line; the selected one in colour."""
    figure, axes = _make_axes(x_name, "", height=ROW * len(intervals) + 56)
    for row, interval in enumerate(intervals):
        colour, width, size = (SERIES[0][0], 3, 10) if interval.selected else (QUIET, 2, 8)
        if interval.low is not None and interval.high is not None:
            axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=width)
        if interval.value is not None:
            axes.plot([interval.value], [row], "o", color=colour, markersize=size)
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    names = [
        interval.name if len(interval.name) <= MAX_NAME else f"{interval.name[: MAX_NAME - 1]}…"
        for interval in intervals
    ]
    axes.set_yticks(range(len(intervals)), names)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=LINE)
    axes.tick_params(axis="y", labelcolor=INK, labelsize=12)
    for number, label in enumerate(axes.get_yticklabels()):
        label.set_gid(f"name-{number}")
    return _render(
        figure, title, tooltips={f"name-{number}": interval.name for number, interval in enumerate(intervals)}
    )


def _make_axes(x_name: str, y_name: str, *, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty chart with quiet ticks, horizontal grid lines and a baseline."""
    figure = make_figure(WIDTH / DOTS, height / DOTS, background="none")
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.set_xlabel(x_name, color=INK, fontsize=12)
    axes.set_ylabel(y_name, color=INK, fontsize=12)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelsize=11)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=LINE)
    axes.set_axisbelow(True)
    return figure, axes


def _add_legend(figure: Figure, series: int) -> None:
    if series > 1:
        figure.legend(
            loc="outside lower left", ncols=min(series, 4), frameon=False, fontsize=11, labelcolor=INK, handlelength=2.6
        )


def _render(figure: Figure, title: str, *, tooltips: Mapping[str, str] | None = None) -> Markup:
    """The figure as an SVG element that fits into the page.

    Args:
        title: for screen readers; also keeps the element ids of two charts apart.
        tooltips: group id of an artist -> text shown on hover.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    for artist in figure.findobj():
        artist.set_clip_on(False)  # nothing lies outside, and clip paths are addresses
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        FigureCanvasSVG(figure).print_svg(text, metadata=nothing)
    root = ElementTree.fromstring(text.getvalue())
    used = {value[1:] for element in root.iter() for name, value in element.items() if name.endswith("}href")}
    for element in list(root.iter()):
        element.tag = _local(element.tag)
        gid = element.get("id", "")
        attributes = {_local(name): " ".join(value.split()) for name, value in element.items()}
        element.attrib.clear()
        style = attributes.pop("style", "")
        attributes |= dict(part.split(": ", 1) for part in style.split("; ") if ": " in part)
        for name in ("font-family", "font", *(["id"] if gid not in used else [])):
            attributes.pop(name, None)
        if attributes.get("transform", "").startswith("rotate(-0 "):
            del attributes["transform"]
        element.attrib.update(attributes)
        element.text = element.tail = (element.text or "").strip() or None if element.tag == "text" else None
        if gid in (tooltips or {}):
            ElementTree.SubElement(element, "title").text = (tooltips or {})[gid]
    for child in [child for child in root if child.tag in ("defs", "metadata")]:
        root.remove(child)  # the style of all elements, which report.css has
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # text and attributes are escaped


def _local(name: str) -> str:
    return name.rpartition("}")[2]
