"""Text for messages: lists of names and durations."""

from __future__ import annotations

from collections.abc import Iterable


def join_names(names: Iterable[object], limit: int = 10) -> str:
    """The first names with commas between, and the number of further ones: ``a, b, c and 3 more``."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def format_seconds(seconds: float) -> str:
    """A duration in words: 48 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
