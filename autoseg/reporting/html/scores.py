"""Scores of all held-out cases with their intervals, and the target metric against lesion volume."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from autoseg.core.records import CaseScores, Scores
from autoseg.reporting.html.charts import Interval, Mark, draw_intervals, draw_marks
from autoseg.reporting.html.content import ReportContent, ShownScores
from autoseg.reporting.html.numbers import (
    count,
    format_range,
    format_value,
    format_volume,
    interval_of,
    unit_of,
    with_unit,
)

Row = list[str | int]


def describe_scores(content: ReportContent) -> dict[str, Any]:
    """Tables of every configuration or candidate, the shown one first, and their means where nothing was selected."""
    shown = content.shown
    if shown is None or not content.summaries:
        return {"tables": []}
    names = sorted(content.summaries, key=lambda name: name != shown.name)
    compared = len(names) > 1 and content.experiment is None
    cases = {frozenset(case.case for case in scores.cases) for scores in content.summaries.values()}
    return {
        "tables": [
            (name, _describe_table(name, content.summaries[name]), _rows(content.summaries[name])) for name in names
        ],
        "means": _draw_means(content, shown) if compared else None,
        "cases_differ": compared and len(cases) > 1,
        "strata": _stratum_rows(shown),
        "remarks": [(name, remark) for name in names for remark in content.summaries[name].remarks],
        "definitions": content.summaries[names[0]].conventions,
    }


def describe_volumes(shown: ShownScores) -> dict[str, Any]:
    """One point per case and label: the score against the volume of the reference."""
    metric = "dice" if "dice" in shown.scores.conventions else shown.target
    labels = list(dict.fromkeys(label for case in shown.scores.cases for label in case.scores))
    marks = [
        mark
        for row, case in enumerate(shown.scores.cases)
        for series, label in enumerate(labels)
        if (mark := _mark(case, label, metric, row, series)) is not None
    ]
    with_volume = [mark for mark in marks if mark.x is not None]
    if not with_volume:
        return {"metric": metric, "chart": None}
    title = f"{shown.name}: {metric} against lesion volume"
    axes: dict[str, Any] = {
        "x_name": "volume of the reference (ml)",
        "y_name": with_unit(metric, metric),
        "unit_axis": not unit_of(metric),
    }
    chart = draw_marks(marks, title=title, names=labels, **axes)
    return {
        "metric": metric,
        "title": title,
        "chart": chart,
        "at_edge": len(marks) - len(with_volume),
        "undefined": len(labels) * len(shown.scores.cases) - len(marks),
    }


def draw_target_intervals(intervals: list[Interval], metric: str) -> Markup | None:
    """Means of the target metric with their intervals, one row each; None if none is defined."""
    if all(interval.value is None for interval in intervals):
        return None
    return draw_intervals(intervals, with_unit(f"mean {metric} with 95 % interval", metric), title=f"Mean {metric}")


def _mark(case: CaseScores, label: str, metric: str, row: int, series: int) -> Mark | None:
    value, volume = case.scores.get(label, {}).get(metric), case.reference_volume_ml.get(label, 0.0)
    if value is None:
        return None
    name = f"{case.case}, {label}: {metric} {format_value(value, metric)}, reference {format_volume(volume)} ml"
    return Mark(x=volume if volume > 0 else None, y=value, name=name, number=series, link=f"#case-{row}")


def _describe_table(name: str, scores: Scores) -> str:
    empty = [f"{label} is empty in the reference of {n}" for label, n in scores.empty_references.items() if n]
    return "; ".join([f"{name}: scores of {count(len(scores.cases), 'held-out case')}", ", ".join(empty)]).rstrip("; ")


def _rows(scores: Scores) -> list[Row]:
    return [
        [
            label,
            with_unit(metric, metric),
            format_value(statistics.mean, metric),
            format_range(*interval_of(statistics), metric),
            format_value(statistics.median, metric),
            format_range(statistics.lower_quartile, statistics.upper_quartile, metric),
            format_value(statistics.minimum, metric),
            format_value(statistics.maximum, metric),
            statistics.count,
            statistics.undefined,
        ]
        for label, metrics in scores.summary.items()
        for metric, statistics in metrics.items()
    ]


def _stratum_rows(shown: ShownScores) -> list[Row]:
    """The target metric by volume of the reference."""
    return [
        [
            label,
            size,
            statistics.count,
            format_value(statistics.mean, shown.target),
            format_range(*interval_of(statistics), shown.target),
        ]
        for label, sizes in (shown.scores.strata or {}).items()
        for size, metrics in sizes.items()
        if (statistics := metrics.get(shown.target)) is not None
    ]


def _draw_means(content: ReportContent, shown: ShownScores) -> Markup | None:
    """The mean target metric of every configuration."""
    intervals = []
    for name, scores in content.summaries.items():
        label = "mean" if "mean" in scores.summary else next(iter(scores.summary))
        statistics = scores.summary[label].get(shown.target)
        if statistics is not None:
            low, high = interval_of(statistics)
            intervals.append(
                Interval(name=name, value=statistics.mean, low=low, high=high, selected=name == shown.name)
            )
    return draw_target_intervals(intervals, shown.target) if intervals else None
