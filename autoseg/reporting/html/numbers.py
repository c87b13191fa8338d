"""Numbers as text for people; an undefined one is a dash."""

from __future__ import annotations

from autoseg.core.records import Statistics
from autoseg.metrics import METRICS

DASH = "–"


def unit_of(metric: str) -> str:
    """Unit of a metric; empty for a ratio and for an unknown metric."""
    return METRICS[metric].unit if metric in METRICS else ""


def with_unit(name: str, metric: str) -> str:
    """A name, followed by the metric's unit in parentheses if it has one."""
    return f"{name} ({unit_of(metric)})" if unit_of(metric) else name


def format_value(value: float | None, metric: str = "") -> str:
    """Three decimals for a ratio, else two."""
    if value is None:
        return DASH
    return f"{value:.2f}" if unit_of(metric) else f"{value:.3f}"


def format_range(low: float | None, high: float | None, metric: str = "") -> str:
    """``0.812 to 0.871``."""
    return DASH if low is None or high is None else f"{format_value(low, metric)} to {format_value(high, metric)}"


def format_volume(ml: float) -> str:
    """Three significant digits, at least whole ml."""
    return "0" if ml == 0 else f"{ml:.0f}" if ml >= 100 else f"{ml:.3g}"


def format_p(value: float | None) -> str:
    """Three decimals of a p value."""
    return DASH if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def count(amount: int, noun: str) -> str:
    """``1 case``, ``5 cases``."""
    return f"{amount} {noun}{'s'[: amount != 1]}"


def interval_of(statistics: Statistics) -> tuple[float | None, float | None]:
    """Bounds of the 95 % interval of the mean; (None, None) if there is none."""
    return (None, None) if statistics.interval is None else statistics.interval
