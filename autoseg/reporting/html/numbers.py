"""Numbers as a person reads them; what is not defined is a dash."""

from __future__ import annotations

from autoseg.core.records import Statistics
from autoseg.metrics import METRICS

DASH = "–"


def unit_of(metric: str) -> str:
    """The unit of a metric; empty for a ratio, or where the metric is not known here."""
    return METRICS[metric].unit if metric in METRICS else ""


def higher_is_better(metric: str) -> bool:
    """The direction of a metric; of one that is not known here, as of a ratio."""
    return METRICS[metric].higher_is_better if metric in METRICS else True


def show_value(value: float | None, metric: str = "") -> str:
    """Three digits behind the point for a ratio, else two."""
    if value is None:
        return DASH
    return f"{value:.2f}" if unit_of(metric) else f"{value:.3f}"


def show_range(low: float | None, high: float | None, metric: str = "") -> str:
    """``0.812 to 0.871``."""
    return DASH if low is None or high is None else f"{show_value(low, metric)} to {show_value(high, metric)}"


def show_volume(ml: float) -> str:
    """A volume in ml, with three digits that mean something."""
    return "0" if ml == 0 else f"{ml:.0f}" if ml >= 100 else f"{ml:.3g}"


def show_duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def count(amount: int, noun: str) -> str:
    """``1 case``, ``5 cases``."""
    return f"{amount} {noun}{'s'[: amount != 1]}"


def interval_of(found: Statistics) -> tuple[float | None, float | None]:
    """Bounds of the 95 % interval of the mean; none with fewer than two cases."""
    return (None, None) if found.interval is None else found.interval
