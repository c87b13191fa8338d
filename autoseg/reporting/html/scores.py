"""Scores of all held-out cases with their intervals, and Dice against lesion volume."""

from __future__ import annotations

from autoseg.core.records import CaseScores, Scores
from autoseg.evaluation.summary import mean_over_labels
from autoseg.reporting.html.axes import Axis, log_axis, span_axis
from autoseg.reporting.html.charts import Mark, Span, draw_marks, draw_spans
from autoseg.reporting.html.content import ReportContent, ShownScores
from autoseg.reporting.html.markup import Child, Markup, element, join
from autoseg.reporting.html.numbers import count, interval_of, show_range, show_value, show_volume, unit_of
from autoseg.reporting.html.page import build_table, fold_away, paragraph

HEADS = ("label", "metric", "mean", "95 % interval", "median", "middle half", "least", "most", "cases", "undefined")


def show_scores(content: ReportContent) -> Markup:
    """Every configuration's statistics, the shown one first and open."""
    if not content.summaries:
        return paragraph(
            "No fold has scores of held-out cases yet. autoseg_train writes them when a fold is finished; fold 'all' "
            "holds out none."
        )
    shown = content.shown.name if content.shown is not None else ""
    names = sorted(content.summaries, key=lambda name: name != shown)
    parts: list[Markup | None] = [_draw_comparison(content)] if len(names) > 1 and content.experiment is None else []
    for name in names:
        scores = content.summaries[name]
        table = _tabulate(name, scores)
        parts.append(table if name == names[0] else fold_away(f"Scores of {name}", table))
    parts.append(_tabulate_strata(content))
    parts.append(fold_away("How each metric is defined", _list_conventions(content.summaries[names[0]])))
    return join(parts)


def show_volumes(content: ReportContent) -> Markup:
    """One point per case and label: the score against the volume of the reference."""
    shown = content.shown
    if shown is None:
        return paragraph("There are no scores of held-out cases yet.")
    metric = "dice" if "dice" in shown.scores.conventions else shown.target
    labels = list(dict.fromkeys(label for case in shown.scores.cases for label in case.scores))
    marks = [
        mark
        for number, case in enumerate(shown.scores.cases)
        for kind, label in enumerate(labels)
        if (mark := _mark_case(case, label, metric, number, kind)) is not None
    ]
    volumes = [mark.x for mark in marks if not mark.edge]
    undefined = len(labels) * len(shown.scores.cases) - len(marks)
    if not volumes:
        return paragraph(f"No case has both a lesion in its reference and a defined {metric}.")
    across = log_axis("volume of the reference (ml, logarithmic)", volumes)
    name = f"{metric} ({unit_of(metric)})" if unit_of(metric) else metric
    up = Axis(name=name, low=0, high=1) if not unit_of(metric) else span_axis(name, [m.y for m in marks], least=0)
    chart = draw_marks(marks, across, up, title=f"{shown.name}: {metric} against lesion volume", names=labels)
    edge = sum(mark.edge for mark in marks)
    left_out = f" {count(edge, 'point')} at the left edge: the reference is empty." if edge else ""
    if undefined:
        left_out += f" {count(undefined, 'point')} not shown: {metric} is undefined where both masks are empty."
    return join(
        [element("div", chart, class_="charts"), paragraph(f"Each point leads to its row in the table.{left_out}")]
    )


def _mark_case(case: CaseScores, label: str, metric: str, number: int, kind: int) -> Mark | None:
    value, volume = case.scores.get(label, {}).get(metric), case.reference_volume_ml.get(label, 0.0)
    if value is None:
        return None
    name = f"{case.case}, {label}: {metric} {show_value(value, metric)}, reference {show_volume(volume)} ml"
    return Mark(x=volume, y=value, name=name, number=kind, link=f"#case-{number}", edge=volume <= 0)


def _tabulate(name: str, scores: Scores) -> Markup:
    rows: list[list[Child]] = []
    for label, metrics in scores.summary.items():
        for metric, found in metrics.items():
            unit = unit_of(metric)
            rows.append(
                [
                    label,
                    f"{metric} ({unit})" if unit else metric,
                    show_value(found.mean, metric),
                    show_range(*interval_of(found), metric),
                    show_value(found.median, metric),
                    show_range(found.lower_quartile, found.upper_quartile, metric),
                    show_value(found.minimum, metric),
                    show_value(found.maximum, metric),
                    found.count,
                    found.undefined,
                ]
            )
    empty = [f"{label} is empty in the reference of {n}" for label, n in scores.empty_references.items() if n]
    caption = f"{name}: scores of {count(len(scores.cases), 'held-out case')}"
    return build_table(HEADS, rows, caption=f"{caption}; {', '.join(empty)}" if empty else caption, numbers=8)


def _tabulate_strata(content: ReportContent) -> Markup | None:
    """The target metric by size of the lesions, where the scores tell it."""
    if content.shown is None or not content.shown.scores.strata:
        return None
    shown, metric = content.shown, content.shown.target
    rows: list[list[Child]] = [
        [label, size, found.count, show_value(found.mean, metric), show_range(*interval_of(found), metric)]
        for label, sizes in shown.scores.strata.items()
        for size, metrics in sizes.items()
        if (found := metrics.get(metric)) is not None
    ]
    heads = ("label", "volume of the reference", "cases", f"mean {metric}", "95 % interval")
    return build_table(heads, rows, caption=f"{shown.name}: {metric} by lesion volume", numbers=3) if rows else None


def _draw_comparison(content: ReportContent) -> Markup:
    """The mean of the target metric of every configuration, where they were scored on the same cases."""
    assert content.shown is not None  # whoever has summaries shows one
    metric, spans = content.shown.target, []
    for name, scores in content.summaries.items():
        label = "mean" if "mean" in scores.summary else next(iter(scores.summary))
        found = scores.summary[label].get(metric)
        if found is not None:
            low, high = interval_of(found)
            spans.append(Span(name=name, value=found.mean, low=low, high=high, chosen=name == content.shown.name))
    cases = {frozenset(case.case for case in scores.cases) for scores in content.summaries.values()}
    note = None
    if len(cases) > 1:
        note = element(
            "p",
            "These configurations were not scored on the same cases, so their means cannot be compared.",
            class_="note",
        )
    return join([note, element("div", draw_means(spans, metric), class_="charts")])


def draw_means(spans: list[Span], metric: str) -> Markup:
    """Means with their intervals, one row each."""
    ends = [v for span in spans for v in (span.value, span.low, span.high) if v is not None]
    if not ends:
        return paragraph(f"{metric} is not defined in any case.")
    unit = unit_of(metric)
    across = span_axis(f"mean {metric} with 95 % interval{f' ({unit})' if unit else ''}", ends)
    return draw_spans(spans, across, title=f"Mean {metric}")


def _list_conventions(scores: Scores) -> Markup:
    return element("dl", [(element("dt", name), element("dd", text)) for name, text in scores.conventions.items()])


def case_target(shown: ShownScores, case: CaseScores) -> float | None:
    """The target metric of a case, mean over its labels."""
    return mean_over_labels(case, list(case.scores), shown.target)
