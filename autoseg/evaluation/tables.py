"""Scores, comparisons and experiments as text: tables for reading, CSV for computing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from autoseg.core.records import Experiment, LearningCurve, PairedScores, Rank, Scores, ScoresComparison, Statistics
from autoseg.core.text import align_columns, fit_text, format_seconds, render_csv_rows
from autoseg.evaluation.postprocessing import describe_setting
from autoseg.evaluation.summary import STRATA
from autoseg.metrics import METRICS

HEADER = ("mean", "95 % interval", "median", "quartiles", "cases")  # scores_summary.csv has more
ALL = "all"
MAX_DOUBTS = 5


def render_table(scores: Scores, *, width: int | None = None, explain: bool = True) -> str:
    """Statistics of every label and metric, means by reference volume, and notes; ends in a newline.

    Args:
        width: of the screen; None for any.
        explain: define every metric.
    """
    rows: list[Sequence[str]] = [("", *HEADER)]
    for label, metrics in scores.summary.items():
        rows.append((label, *("" for _ in HEADER)))
        for name, statistics in metrics.items():
            quartiles = statistics.lower_quartile, statistics.upper_quartile
            cells = (
                show_value(statistics.mean, name),
                show_bounds(statistics.interval, name),
                show_value(statistics.median, name, with_unit=False),
                show_bounds(quartiles, name),
                f"{statistics.count}/{statistics.count + statistics.undefined}",
            )
            rows.append((f"  {name}", *cells))
    notes = fit_text([*_footnotes(scores), *_definitions(scores.conventions, explain)], width)
    return "\n".join([*align_columns(rows, width=width), "", *_render_strata(scores, width), *notes]) + "\n"


def render_csv(scores: Scores) -> str:
    """One row per case and label; an undefined score is an empty field."""
    header = ("case", "label", "reference_volume_ml", "prediction_volume_ml", "missing", *scores.conventions)
    rows = []
    for case in scores.cases:
        for label, metric_values in case.scores.items():
            volumes = case.reference_volume_ml.get(label), case.prediction_volume_ml.get(label)
            values = (metric_values.get(name) for name in scores.conventions)
            rows.append((case.case, label, *volumes, int(case.missing), *values))
    return render_csv_rows(header, rows)


def render_summary_csv(scores: Scores) -> str:
    """One row per label, class of reference volume and metric; an undefined statistic is an empty field."""
    fields = ("mean", "std", "median", "lower_quartile", "upper_quartile", "minimum", "maximum")
    header = ("label", "reference_volume", "metric", "count", "undefined", *fields, "interval_lower", "interval_upper")
    rows = []
    for label, metrics in scores.summary.items():
        for stratum, group in {ALL: metrics, **scores.strata.get(label, {})}.items():
            for name, statistics in group.items():
                values = (getattr(statistics, field) for field in fields)
                bounds = statistics.interval or (None, None)
                rows.append((label, stratum, name, statistics.count, statistics.undefined, *values, *bounds))
    return render_csv_rows(header, rows)


def render_comparison(comparison: ScoresComparison, *, width: int | None = None, explain: bool = True) -> str:
    """Every two folders side by side, the ranking, and a legend; ends in a newline. Arguments as for the table."""
    lines = [line for pair in _group_pairs(comparison.pairs) for line in _render_pair(pair, width)]
    if comparison.ranking:
        lines += [*_render_ranking(comparison.ranking, width), ""]
    count = len(comparison.left_out)
    omitted = f"{count} cases are" if count > 1 else f"{count} case is"
    notes = [
        *([f"{omitted} omitted, which some folders lack"] if count else []),
        "difference: mean of second - first over the cases that both define, with its 95 % bootstrap interval",
        "p: Wilcoxon signed-rank test; p (Holm): corrected for every line above; win: second is better",
        *(["rank: in each case, label and metric, then the mean; 1 is the best"] if comparison.ranking else []),
        *_definitions(comparison.conventions, explain),
    ]
    return "\n".join([*lines, *fit_text(notes, width)]) + "\n"


def render_comparison_csv(comparison: ScoresComparison) -> str:
    """One row per pair of folders, label and metric; an undefined number is an empty field."""
    fields = [name for name in PairedScores.model_fields if name != "interval"]
    rows = [(*(getattr(pair, name) for name in fields), *(pair.interval or (None, None))) for pair in comparison.pairs]
    return render_csv_rows((*fields, "interval_lower", "interval_upper"), rows)


def _definitions(conventions: Mapping[str, str], explain: bool) -> list[str]:
    """Definitions of the metrics, or the option that shows them."""
    if not explain:
        return ["--explain-scores defines each score"]
    return [f"{name}: {convention}" for name, convention in conventions.items()]


def render_experiment(outcome: Experiment, *, width: int | None = None) -> str:
    """Candidates, best first, then the choice, post-processing, calibration and cases for review."""
    best_first = sorted(
        outcome.candidates, key=lambda name: (name != outcome.winner, -abs(outcome.candidates[name].target or 0))
    )
    rows = [("candidate", outcome.target_metric, "95 % interval", "to the winner", "p (Holm)")]
    for name in best_first:
        candidate = outcome.candidates[name]
        rows.append(
            (
                name,
                _number(candidate.target),
                _bounds(candidate.lower, candidate.upper),
                "winner" if candidate.difference is None else f"{candidate.difference:+.4f}",
                "" if candidate.p_value is None else f"{candidate.p_value:.2g}",
            )
        )
    table, lines = align_columns(rows, width=width), ["", outcome.reason]
    for label, setting in outcome.postprocessing.items():
        lines.append(f"post-processing of {label}: {describe_setting(setting)}")
    if outcome.postprocessing:
        lines.append(
            f"mean {outcome.target_metric} {_number(outcome.target_before)} without and "
            f"{_number(outcome.target_after)} with post-processing, each case with settings chosen on other cases"
        )
    else:
        lines.append("post-processing: no setting improved held-out cases; masks are unchanged")
    if (calibration := outcome.calibration) is not None:
        lines.append(
            f"calibration: temperature {calibration.temperature:.3g}, expected calibration error "
            f"{calibration.error_before:.2g} before and {calibration.error_after:.2g} after"
            f"{' (out of fold)' if calibration.fold_temperatures else ''}"
        )
    if outcome.doubts:
        lines += ["", f"for review, {min(MAX_DOUBTS, len(outcome.doubts))} of {len(outcome.doubts)}:"]
        lines += [f"  {doubt.case}: {doubt.reason}" for doubt in outcome.doubts[:MAX_DOUBTS]]
    lines += ["", f"total time {format_seconds(outcome.elapsed_s)}"]
    return "\n".join([*table, *fit_text(lines, width)]) + "\n"


def render_curve(curve: LearningCurve, *, width: int | None = None) -> str:
    """One row per configuration and number of training cases."""
    rows = [("configuration", "cases", f"mean {curve.target_metric}", "95 % interval", "scored")]
    for point in curve.points:
        size = "all" if point.size is None else str(point.size)
        bounds = _bounds(point.lower, point.upper)
        rows.append((point.configuration, size, _number(point.mean), bounds, str(point.cases)))
    notes = []
    for expected in curve.forecasts:
        for cases, mean, lower, upper in zip(
            expected.cases, expected.means, expected.lower, expected.upper, strict=True
        ):
            rows.append((expected.configuration, f"{cases} (forecast)", _number(mean), _bounds(lower, upper), "-"))
        if expected.reason is not None:
            notes.append(f"forecast of {expected.configuration}: {expected.reason}")
    return "\n".join([*align_columns(rows, width=width), *fit_text(notes, width)]) + "\n"


def show_value(value: float | None, metric: str, *, with_unit: bool = True) -> str:
    """A score with its unit; a dash where it is undefined."""
    if value is None:
        return "-"
    unit = METRICS[metric].unit if metric in METRICS else ""
    number = f"{value:.2f}" if unit else f"{value:.3f}"
    return f"{number} {unit}" if unit and with_unit else number


def show_bounds(bounds: tuple[float | None, float | None] | None, metric: str) -> str:
    """Two bounds without their unit, which the value beside them has."""
    if bounds is None or bounds[0] is None or bounds[1] is None:
        return "-"
    digits = 2 if metric in METRICS and METRICS[metric].unit else 3
    return f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"


def _render_strata(scores: Scores, width: int | None) -> list[str]:
    """Means by reference volume, where the references are not all of one class."""
    present = [name for name in STRATA if any(name in strata for strata in scores.strata.values())]
    if len(present) < 2:
        return []
    rows: list[Sequence[str]] = [("reference volume", *present)]
    for label, strata in scores.strata.items():
        rows.append((f"{label} (cases)", *(_count(strata.get(name, {})) for name in present)))
        for metric in scores.conventions:
            group = (strata.get(name, {}).get(metric) for name in present)
            rows.append((f"  {metric}", *(show_value(one.mean if one else None, metric) for one in group)))
    return [*align_columns(rows, width=width), ""]


def _count(metrics: dict[str, Statistics]) -> str:
    return str(next((statistics.count + statistics.undefined for statistics in metrics.values()), 0))


def _footnotes(scores: Scores) -> list[str]:
    cases = f"{len(scores.cases)} case{'s' if len(scores.cases) != 1 else ''}"
    preset = [f"preset: {scores.preset}"] if scores.preset else []
    empty = [
        f"{label}: the reference is empty in {count} of {cases}" for label, count in scores.empty_references.items()
    ]
    missing = []
    if scores.missing:
        worst = "; ".join(f"{name} {words}" for name, words in scores.worst.items())
        missing = [f"{len(scores.missing)} of {cases} without a prediction got the worst possible score: {worst}"]
    return [*preset, *scores.rules, *scores.remarks, *missing, *empty]


def _group_pairs(pairs: Sequence[PairedScores]) -> Iterator[list[PairedScores]]:
    """The lines of each two folders."""
    for _, group in groupby(pairs, key=lambda pair: (pair.first, pair.second)):
        yield list(group)


def _render_pair(pairs: Sequence[PairedScores], width: int | None) -> list[str]:
    header = ("first", "second", "difference", "95 % interval", "p", "p (Holm)", "win/tie/loss")
    undefined = any(pair.undefined for pair in pairs)
    rows: list[Sequence[str]] = [("", *header, *(["undefined"] if undefined else []))]
    for label, group in groupby(pairs, key=lambda pair: pair.label):
        rows.append((label, *("" for _ in rows[0][1:])))
        for pair in group:
            values = (show_value(value, pair.metric) for value in (pair.mean_first, pair.mean_second, pair.difference))
            p_values = ("-" if p is None else f"{p:.2g}" for p in (pair.p_value, pair.p_holm))
            counts = [f"{pair.wins}/{pair.ties}/{pair.losses}", *([str(pair.undefined)] if undefined else [])]
            rows.append((f"  {pair.metric}", *values, show_bounds(pair.interval, pair.metric), *p_values, *counts))
    return [f"first: {pairs[0].first}, second: {pairs[0].second}", *align_columns(rows, width=width), ""]


def _render_ranking(ranking: Sequence[Rank], width: int | None) -> list[str]:
    metrics = list(dict.fromkeys(name for rank in ranking for name in rank.ranks))
    rows: list[Sequence[str]] = [("rank", "folder", "mean rank", "95 % interval", *metrics)]
    for rank in ranking:
        bounds = "-" if rank.interval is None else f"{rank.interval[0]:.2f} to {rank.interval[1]:.2f}"
        single = (f"{rank.ranks[name]:.2f}" if name in rank.ranks else "-" for name in metrics)
        rows.append((str(rank.place), rank.name, f"{rank.mean_rank:.2f}", bounds, *single))
    return align_columns(rows, left=2, width=width)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _bounds(lower: float | None, upper: float | None) -> str:
    return "-" if lower is None or upper is None else f"{lower:.4f} to {upper:.4f}"
