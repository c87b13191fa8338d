"""The page's layout: headings, entries with a title and a reason, numbers with their unit."""

from __future__ import annotations

import textwrap

Entry = tuple[str, str, str]  # title, what it is, and why

WIDTH = 100
_TITLE = 15


def head(title: str) -> list[str]:
    """A heading with air above."""
    return ["", title, "-" * len(title)]


def entry(title: str, value: str, reason: str = "") -> list[str]:
    """A title, what it is, and below it why."""
    lines = textwrap.wrap(f"{title + ':':<{_TITLE}}{value}", WIDTH, subsequent_indent=" " * _TITLE)
    indent = " " * (_TITLE + 2)
    return lines + textwrap.wrap(reason, WIDTH, initial_indent=indent, subsequent_indent=indent)


def count(amount: int, noun: str) -> str:
    """``1 case``, ``5 cases``."""
    return f"{amount} {noun}{'s'[: amount != 1]}"


def number(value: float) -> str:
    """A number with four digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def volume(ml: float) -> str:
    """A volume in ml with three digits."""
    return f"{ml:.0f} ml" if ml >= 100 else f"{ml:.3g} ml"


def percent(share: float) -> str:
    """A share in per cent; a small one keeps a digit that is not 0."""
    return f"{share:.0%}" if share == 0 or share >= 0.0095 else f"{share * 100:.1g}%"
