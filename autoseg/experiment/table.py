"""Outcome of an experiment and learning curve as text."""

from __future__ import annotations

from autoseg.core.records import Experiment, LearningCurve
from autoseg.core.text import align_columns, format_seconds
from autoseg.evaluation.postprocessing import describe_setting

DOUBTS = 5


def render_experiment(outcome: Experiment) -> str:
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
    lines = [*align_columns(rows), "", outcome.reason]
    for label, setting in outcome.postprocessing.items():
        lines.append(f"post-processing of {label}: {describe_setting(setting)}")
    if outcome.postprocessing:
        lines.append(
            f"mean {outcome.target_metric} {_number(outcome.target_before)} without and "
            f"{_number(outcome.target_after)} with post-processing, each fold with settings chosen on the other folds"
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
        lines += ["", f"for review, {min(DOUBTS, len(outcome.doubts))} of {len(outcome.doubts)}:"]
        lines += [f"  {doubt.case}: {doubt.reason}" for doubt in outcome.doubts[:DOUBTS]]
    lines += ["", f"total time {format_seconds(outcome.elapsed_s)}"]
    return "\n".join(lines) + "\n"


def render_curve(curve: LearningCurve) -> str:
    """One row per configuration and number of training cases."""
    rows = [("configuration", "cases", f"mean {curve.target_metric}", "95 % interval", "scored")]
    for point in curve.points:
        size = "all" if point.size is None else str(point.size)
        bounds = _bounds(point.lower, point.upper)
        rows.append((point.configuration, size, _number(point.mean), bounds, str(point.cases)))
    return "\n".join(align_columns(rows)) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _bounds(lower: float | None, upper: float | None) -> str:
    return "-" if lower is None or upper is None else f"{lower:.4f} to {upper:.4f}"
