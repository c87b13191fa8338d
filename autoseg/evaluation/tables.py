"""Scores as text: a table to read and a CSV to compute with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from autoseg.core.records import Scores
from autoseg.metrics import METRICS

HEADER = ("label", "metric", "mean", "median", "n", "undefined")


def render_table(scores: Scores) -> str:
    """Mean and median of every label and metric, then the conventions; plain text that ends in a newline."""
    rows: list[Sequence[str]] = [HEADER]
    for label, metrics in scores.summary.items():
        for position, (name, found) in enumerate(metrics.items()):
            unit = METRICS[name].unit if name in METRICS else ""
            values = (_show(found.mean, unit), _show(found.median, unit), str(found.count), str(found.undefined))
            rows.append((label if position == 0 else "", name, *values))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [_align(row, widths) for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", *_footnotes(scores)]) + "\n"


def render_csv(scores: Scores) -> str:
    """One row per case and label; an undefined score is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("case", "label", "reference_volume_ml", "prediction_volume_ml", *scores.conventions))
    for case in scores.cases:
        for label, found in case.scores.items():
            volumes = case.reference_volume_ml.get(label), case.prediction_volume_ml.get(label)
            writer.writerow((case.case, label, *volumes, *(found.get(name) for name in scores.conventions)))
    return text.getvalue()


def _show(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"


def _align(row: Sequence[str], widths: Sequence[int]) -> str:
    """The two names to the left, the four numbers to the right."""
    names = (text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True))
    numbers = (text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True))
    return "  ".join([*names, *numbers]).rstrip()


def _footnotes(scores: Scores) -> list[str]:
    cases = len(scores.cases)
    empty = [
        f"{label}: the reference is empty in {count} of {cases} case{'s' if cases != 1 else ''}"
        for label, count in scores.empty_references.items()
    ]
    return [*empty, *(f"{name}: {convention}" for name, convention in scores.conventions.items())]
