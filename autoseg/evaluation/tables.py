"""Scores as text: a table to read and CSV to compute with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby

from autoseg.core.records import PairedScores, Rank, Scores, ScoresComparison, Statistics
from autoseg.evaluation.summary import STRATA
from autoseg.metrics import METRICS

HEADER = ("label", "metric", "mean", "95 % interval", "std", "median", "quartiles", "n", "undefined")
ALL = "all"


def render_table(scores: Scores) -> str:
    """Statistics of every label and metric, means by reference volume, and the conventions; ends in a newline."""
    rows: list[Sequence[str]] = [HEADER]
    for label, metrics in scores.summary.items():
        for position, (name, found) in enumerate(metrics.items()):
            rows.append((label if position == 0 else "", name, *_show_statistics(found, name)))
    return "\n".join([*lay_out(rows, names=2), "", *_render_strata(scores), *_footnotes(scores)]) + "\n"


def render_csv(scores: Scores) -> str:
    """One row per case and label; an undefined score is an empty field."""
    header = ("case", "label", "reference_volume_ml", "prediction_volume_ml", "missing", *scores.conventions)
    rows = []
    for case in scores.cases:
        for label, found in case.scores.items():
            volumes = case.reference_volume_ml.get(label), case.prediction_volume_ml.get(label)
            values = (found.get(name) for name in scores.conventions)
            rows.append((case.case, label, *volumes, int(case.missing), *values))
    return write_rows(header, rows)


def render_summary_csv(scores: Scores) -> str:
    """One row per label, class of reference volume and metric; an undefined statistic is an empty field."""
    fields = ("mean", "std", "median", "lower_quartile", "upper_quartile", "minimum", "maximum")
    header = ("label", "reference_volume", "metric", "count", "undefined", *fields, "interval_lower", "interval_upper")
    rows = []
    for label, metrics in scores.summary.items():
        for stratum, group in {ALL: metrics, **scores.strata.get(label, {})}.items():
            for name, found in group.items():
                values = (getattr(found, field) for field in fields)
                bounds = found.interval or (None, None)
                rows.append((label, stratum, name, found.count, found.undefined, *values, *bounds))
    return write_rows(header, rows)


def render_comparison(comparison: ScoresComparison) -> str:
    """Every two folders side by side, then the ranking, then how to read it; ends in a newline."""
    lines = [line for pair in _group_pairs(comparison.pairs) for line in _render_pair(pair)]
    if comparison.ranking:
        lines += [*_render_ranking(comparison.ranking), ""]
    count = len(comparison.left_out)
    left_out = f"{count} cases are" if count > 1 else f"{count} case is"
    notes = [
        *([f"{left_out} left out, which not all folders hold"] if count else []),
        "difference: mean of second - first over the cases that both define, with its 95 % bootstrap interval",
        "p: Wilcoxon signed-rank test; p (Holm): corrected for every line above; wins: cases in which second is better",
        *(["rank: in each case, label and metric, then the mean; 1 is the best"] if comparison.ranking else []),
        *(f"{name}: {convention}" for name, convention in comparison.conventions.items()),
    ]
    return "\n".join([*lines, *notes]) + "\n"


def render_comparison_csv(comparison: ScoresComparison) -> str:
    """One row per pair of folders, label and metric; an undefined number is an empty field."""
    fields = [name for name in PairedScores.model_fields if name != "interval"]
    rows = [(*(getattr(pair, name) for name in fields), *(pair.interval or (None, None))) for pair in comparison.pairs]
    return write_rows((*fields, "interval_lower", "interval_upper"), rows)


def write_rows(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """CSV with a header; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def show_value(value: float | None, metric: str) -> str:
    """A score with its unit; a dash where it is undefined."""
    if value is None:
        return "-"
    unit = METRICS[metric].unit if metric in METRICS else ""
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"


def show_bounds(bounds: tuple[float | None, float | None] | None, metric: str) -> str:
    """Two bounds without their unit, which stands beside them."""
    if bounds is None or bounds[0] is None or bounds[1] is None:
        return "-"
    digits = 2 if metric in METRICS and METRICS[metric].unit else 3
    return f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"


def lay_out(rows: Sequence[Sequence[str]], *, names: int) -> list[str]:
    """Rows in columns, a line below the first; the first ``names`` columns to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        texts = (
            text.ljust(width) if column < names else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(texts).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _show_statistics(found: Statistics, name: str) -> tuple[str, ...]:
    return (
        show_value(found.mean, name),
        show_bounds(found.interval, name),
        show_value(found.std, name),
        show_value(found.median, name),
        show_bounds((found.lower_quartile, found.upper_quartile), name),
        str(found.count),
        str(found.undefined),
    )


def _render_strata(scores: Scores) -> list[str]:
    """Means by reference volume, where the references are not all of one class."""
    present = [name for name in STRATA if any(name in strata for strata in scores.strata.values())]
    if len(present) < 2:
        return []
    rows: list[Sequence[str]] = [("label", "mean where the reference holds", *present)]
    for label, strata in scores.strata.items():
        counts = (_count(strata.get(name, {})) for name in present)
        rows.append((label, "(cases)", *counts))
        for metric in scores.conventions:
            found = [strata[name].get(metric) if name in strata else None for name in present]
            rows.append(("", metric, *(show_value(one.mean if one else None, metric) for one in found)))
    return [*lay_out(rows, names=2), ""]


def _count(metrics: dict[str, Statistics]) -> str:
    return str(next((found.count + found.undefined for found in metrics.values()), 0))


def _footnotes(scores: Scores) -> list[str]:
    cases = f"{len(scores.cases)} case{'s' if len(scores.cases) != 1 else ''}"
    preset = [f"preset: {scores.preset}"] if scores.preset else []
    empty = [
        f"{label}: the reference is empty in {count} of {cases}" for label, count in scores.empty_references.items()
    ]
    missing = []
    if scores.missing:
        worst = "; ".join(f"{name} {words}" for name, words in scores.worst.items())
        missing = [f"{len(scores.missing)} of {cases} without a prediction got the worst score there is: {worst}"]
    return [
        *preset,
        *scores.rules,
        *missing,
        *empty,
        *(f"{name}: {convention}" for name, convention in scores.conventions.items()),
    ]


def _group_pairs(pairs: Sequence[PairedScores]) -> Iterator[list[PairedScores]]:
    """The lines of each two folders."""
    for _, group in groupby(pairs, key=lambda pair: (pair.first, pair.second)):
        yield list(group)


def _render_pair(pairs: Sequence[PairedScores]) -> list[str]:
    header = ("label", "metric", "first", "second", "difference", "95 % interval", "p", "p (Holm)")
    rows: list[Sequence[str]] = [(*header, "wins", "ties", "losses", "undefined")]
    label = ""
    for pair in pairs:
        values = (show_value(value, pair.metric) for value in (pair.mean_first, pair.mean_second, pair.difference))
        chances = ("-" if p is None else f"{p:.2g}" for p in (pair.p_value, pair.p_holm))
        counts = (str(n) for n in (pair.wins, pair.ties, pair.losses, pair.undefined))
        shown = pair.label if pair.label != label else ""
        rows.append((shown, pair.metric, *values, show_bounds(pair.interval, pair.metric), *chances, *counts))
        label = pair.label
    return [f"first: {pairs[0].first}, second: {pairs[0].second}", *lay_out(rows, names=2), ""]


def _render_ranking(ranking: Sequence[Rank]) -> list[str]:
    metrics = list(dict.fromkeys(name for rank in ranking for name in rank.ranks))
    rows: list[Sequence[str]] = [("place", "folder", "mean rank", "95 % interval", *metrics)]
    for rank in ranking:
        bounds = "-" if rank.interval is None else f"{rank.interval[0]:.2f} to {rank.interval[1]:.2f}"
        single = (f"{rank.ranks[name]:.2f}" if name in rank.ranks else "-" for name in metrics)
        rows.append((str(rank.place), rank.name, f"{rank.mean_rank:.2f}", bounds, *single))
    return lay_out(rows, names=2)
