"""Layout of the page: headings, and entries with a title, a value and a reason."""

from __future__ import annotations

import textwrap

Entry = tuple[str, str, str]  # title, value and reason

WIDTH = 100
_TITLE = 15


def head(title: str) -> list[str]:
    """A heading below an empty line."""
    return ["", title, "-" * len(title)]


def entry(title: str, value: str, reason: str = "") -> list[str]:
    """A title with its value, and the reason below it."""
    lines = textwrap.wrap(f"{title + ': ':<{_TITLE}}{value}", WIDTH, subsequent_indent=" " * _TITLE)
    indent = " " * (_TITLE + 2)
    return lines + textwrap.wrap(reason, WIDTH, initial_indent=indent, subsequent_indent=indent)
