"""Text and numbers for people: lists of names, durations, tables and rounded measurements."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence


def join_names(names: Iterable[object], limit: int = 10) -> str:
    """The first names with commas between, and the number of further ones: ``a, b, c and 3 more``."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def six_digits(value: float) -> float:
    """The value with six significant digits, more than any measurement of a scan has."""
    return float(f"{value:.6g}")


def format_seconds(seconds: float) -> str:
    """A duration in words: 48 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def render_csv_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a header; None is an empty field, and text that a spreadsheet would compute gets an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_as_text(cell) for cell in row] for row in rows)
    return text.getvalue()


def _as_text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def align_columns(rows: Sequence[Sequence[str]], *, left: int = 1, width: int | None = None) -> list[str]:
    """Lines of a table with a rule below its header.

    Args:
        rows: cells, the header first; as many in each row.
        left: number of columns that are aligned to the left, as names are; the others, as numbers, to the right.
        width: of the screen; columns that do not fit follow in further blocks below, each with the first column.
            None writes them side by side.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for block in _fit_blocks(widths, width):
        part = [[row[column] for column in block] for row in rows]
        lines += [*([""] if lines else []), *_align_block(part, left=sum(column < left for column in block))]
    return lines


def _fit_blocks(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Columns of each block: the first one, and as many of the rest as fit beside it, at least one."""
    blocks = [[0]]
    taken = widths[0]
    for column in range(1, len(widths)):
        if width is not None and len(blocks[-1]) > 1 and taken + 2 + widths[column] > width:
            blocks.append([0])
            taken = widths[0]
        blocks[-1].append(column)
        taken += 2 + widths[column]
    return blocks


def fit_text(lines: Iterable[str], width: int | None) -> list[str]:
    """Lines broken between words so that each fits the screen; None leaves them as they are."""
    if width is None:
        return list(lines)
    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ") or [""]]


def _align_block(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
