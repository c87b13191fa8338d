"""The frame of a chart: from values to places, round ticks, and grid lines; SVG that follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.reporting.html.markup import Markup, element

WIDTH, HEIGHT = 420, 270  # small, so that its text can still be read when a phone shrinks it
LEFT, RIGHT, TOP, BOTTOM = 48, 20, 12, 40


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a chart.

    Attributes:
        name: written beside it.
        low, high: values at its ends; both above 0 if logarithmic.
        logarithmic: whether equal ratios are equal lengths.
    """

    name: str
    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one; values beyond stay at the end."""
        if self.logarithmic:
            low, high, value = math.log10(self.low), math.log10(self.high), math.log10(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        step = round_step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_step(span: float, *, parts: int = 5) -> float:
    """The step of 1, 2 or 5 times a power of ten that makes about this many parts."""
    raw = span / parts
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)


def span_axis(name: str, values: Sequence[float], *, least: float | None = None) -> Axis:
    """An axis around all values, with round ends.

    Args:
        values: at least one.
        least: the axis begins here at the latest.
    """
    low, high = min(values), max(values)
    low = low if least is None else min(low, least)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    step = round_step(high - low)
    return Axis(name=name, low=math.floor(low / step + 1e-9) * step, high=math.ceil(high / step - 1e-9) * step)


def log_axis(name: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis of whole powers of ten around all values, which lie above 0."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(name=name, low=10.0**low, high=10.0 ** max(high, low + 1), logarithmic=True)


def place_x(axis: Axis, value: float) -> float:
    """Across the chart."""
    return round(LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT), 1)


def place_y(axis: Axis, value: float) -> float:
    """Down the chart."""
    return round(HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM), 1)


def draw_frame(across: Axis, up: Axis) -> list[Markup]:
    """Grid lines, ticks and the names of both axes."""
    bottom, parts = HEIGHT - BOTTOM, []
    for value in up.ticks():
        y = place_y(up, value)
        parts.append(element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        parts.append(element("text", f"{value:.6g}", class_="tick", x=LEFT - 6, y=y + 4, text_anchor="end"))
    for value in across.ticks():
        x = place_x(across, value)
        parts.append(element("line", class_="rule", x1=x, x2=x, y1=bottom, y2=bottom + 4))
        parts.append(element("text", f"{value:.6g}", class_="tick", x=x, y=bottom + 16, text_anchor="middle"))
    parts.append(element("line", class_="rule", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom))
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + bottom) / 2
    parts.append(element("text", across.name, class_="name", x=middle_x, y=HEIGHT - 6, text_anchor="middle"))
    turned = f"translate(12 {middle_y}) rotate(-90)"
    parts.append(element("text", up.name, class_="name", transform=turned, text_anchor="middle"))
    return parts
