"""Charts as SVG inside the page: no library, and nothing to load. Series differ in colour and in dashes or shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.reporting.html.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, draw_frame, place_x, place_y
from autoseg.reporting.html.markup import Markup, element

SERIES = 7  # colours and dashes of the style sheet, which then begin again
DENSE_FROM = 200  # points of a curve, from which its line is thin


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points joined by a line.

    Attributes:
        name: in the legend.
        points: (x, y).
        number: which colour and dash.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    number: int


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point with a name that shows when it is pointed at.

    Attributes:
        number: which colour and shape.
        link: the fragment of the page it leads to; empty for none.
        edge: drawn at the low end of x, which it has no value for.
    """

    x: float
    y: float
    name: str
    number: int = 0
    link: str = ""
    edge: bool = False


@dataclass(frozen=True, kw_only=True)
class Span:
    """A value with its interval; None where it is not defined."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    chosen: bool = False


def draw_curves(curves: Sequence[Curve], across: Axis, up: Axis, *, title: str) -> Markup:
    """Lines over one axis, with a legend where there are several."""
    lines = []
    for curve in curves:
        path = " ".join(f"{place_x(across, x)},{place_y(up, y)}" for x, y in curve.points)
        lines.append(element("polyline", points=path, class_=_curve_class(curve)))
        if len(curve.points) == 1:
            lines.append(
                _draw_shape(place_x(across, curve.points[0][0]), place_y(up, curve.points[0][1]), curve.number)
            )
    return _wrap(title, [*draw_frame(across, up), *lines], _list_curves(curves))


def draw_marks(marks: Sequence[Mark], across: Axis, up: Axis, *, title: str, names: Sequence[str]) -> Markup:
    """Points, each with its name; those without an x lie in a band of their own at the left."""
    parts = draw_frame(across, up)
    for mark in marks:
        x = LEFT + 6.0 if mark.edge else place_x(across, mark.x)
        shape = _draw_shape(x, place_y(up, mark.y), mark.number, element("title", mark.name))
        parts.append(element("a", shape, href=mark.link) if mark.link else shape)
    shown = [(name, _draw_shape(8, 6, number)) for number, name in enumerate(names)] if len(names) > 1 else []
    return _wrap(title, parts, _list_legend(shown))


def draw_reliability(curves: Sequence[Curve], across: Axis, up: Axis, *, title: str) -> Markup:
    """Curves over the diagonal on which probabilities would be what they say."""
    ends = {"x1": place_x(across, 0), "y1": place_y(up, 0), "x2": place_x(across, 1), "y2": place_y(up, 1)}
    parts = [*draw_frame(across, up), element("line", class_="ideal", **ends)]
    for curve in curves:
        places = [(place_x(across, x), place_y(up, y)) for x, y in curve.points]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(element("polyline", points=path, class_=f"curve s{curve.number}"))
        parts += [_draw_shape(x, y, curve.number) for x, y in places]
    return _wrap(title, parts, _list_curves(curves))


def draw_spans(spans: Sequence[Span], across: Axis, *, title: str) -> Markup:
    """One row per name: the value as a dot, its interval as a line; the chosen one in colour."""
    row, left = 26, 150
    bottom = TOP + row * len(spans)
    width = WIDTH - left - RIGHT
    parts = []
    for value in across.ticks():
        x = round(left + across.share(value) * width, 1)
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=bottom))
        parts.append(element("text", f"{value:.6g}", class_="tick", x=x, y=bottom + 16, text_anchor="middle"))
    for number, span in enumerate(spans):
        y = TOP + row * (number + 0.5)
        kind = "span chosen" if span.chosen else "span"
        short = span.name if len(span.name) <= 20 else f"{span.name[:19]}…"
        label = element("text", element("title", span.name), short, x=left - 8, y=y + 4, text_anchor="end")
        parts.append(element("g", label, class_="name"))
        if span.low is not None and span.high is not None:
            ends = [round(left + across.share(value) * width, 1) for value in (span.low, span.high)]
            parts.append(element("line", class_=kind, x1=ends[0], x2=ends[1], y1=y, y2=y))
        if span.value is not None:
            x = round(left + across.share(span.value) * width, 1)
            parts.append(element("circle", class_=kind, cx=x, cy=y, r=5 if span.chosen else 4))
    parts.append(element("text", across.name, class_="name", x=left + width / 2, y=bottom + 34, text_anchor="middle"))
    return _wrap(title, parts, None, height=bottom + BOTTOM)


def _curve_class(curve: Curve) -> str:
    kind = f"curve s{curve.number % SERIES}"
    return f"{kind} dense" if len(curve.points) > DENSE_FROM else kind


def _wrap(title: str, parts: Sequence[Markup], legend: Markup | None, *, height: float = HEIGHT) -> Markup:
    """The drawing with its title and legend; the title is also what a screen reader says."""
    drawing = element("svg", parts, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=title)
    return element("figure", element("figcaption", title), drawing, legend, class_="chart")


def _list_curves(curves: Sequence[Curve]) -> Markup | None:
    if len(curves) < 2:
        return None
    samples = [
        (
            curve.name,
            element("line", class_=f"curve s{curve.number % SERIES}", x1=0, x2=26, y1=6, y2=6),
        )
        for curve in curves
    ]
    return _list_legend(samples, width=26)


def _list_legend(samples: Sequence[tuple[str, Markup]], *, width: int = 16) -> Markup | None:
    if not samples:
        return None
    return element(
        "ul",
        [
            element(
                "li",
                element("svg", sample, viewBox=f"0 0 {width} 12", width=width, height=12, aria_hidden="true"),
                name,
            )
            for name, sample in samples
        ],
        class_="legend",
    )


def _draw_shape(x: float, y: float, number: int, *inside: Markup) -> Markup:
    """A circle, square, triangle or diamond around a place."""
    kind = f"mark s{number % SERIES}"
    shape = number % 4
    if shape == 0:
        return element("circle", *inside, class_=kind, cx=x, cy=y, r=4)
    if shape == 1:
        return element("rect", *inside, class_=kind, x=round(x - 3.5, 1), y=round(y - 3.5, 1), width=7, height=7)
    corners = ((0, -4.5), (4.5, 3.5), (-4.5, 3.5)) if shape == 2 else ((0, -5), (5, 0), (0, 5), (-5, 0))
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return element("polygon", *inside, class_=kind, points=points)
