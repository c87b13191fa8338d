"""A record as an HTML table, which notebooks show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def render_html_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> str:
    """One HTML table; every cell is escaped.

    Args:
        header: titles of the columns.
        rows: cells; None is shown as a dash.
        caption: above the table.
    """

    def cells(values: Iterable[object], tag: str) -> str:
        texts = ("–" if value is None else escape(str(value)) for value in values)
        return "".join(f"<{tag}>{text}</{tag}>" for text in texts)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{cells(header, 'th')}</tr>{body}</table>"
