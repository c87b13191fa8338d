"""HTML report: one self-contained file that loads nothing, filled into the template ``report.html``."""

from __future__ import annotations

from typing import Any

from autoseg.core.records import render_record
from autoseg.planning.explain import describe_choices, describe_configuration, describe_findings
from autoseg.reporting.html.content import Picture, ReportContent, ShownScores, Training
from autoseg.reporting.html.numbers import count, format_range, format_value
from autoseg.reporting.html.page import render_page
from autoseg.reporting.html.reproduce import list_commands, list_settings
from autoseg.reporting.html.scores import describe_scores, describe_volumes
from autoseg.reporting.html.selection import (
    describe_candidates,
    describe_model_postprocessing,
    describe_postprocessing,
    draw_calibration,
)
from autoseg.reporting.html.trainings import describe_training, draw_histories
from autoseg.reporting.html.viewer import list_outcomes, view_case

SECTIONS = {
    "pictures": "Pictures",
    "scores": "Scores",
    "volumes": "Volumes",
    "cases": "Cases",
    "review": "Review",
    "selection": "Selection",
    "postprocessing": "Post-processing",
    "calibration": "Calibration",
    "training": "Training",
    "data": "Data",
    "plan": "Plan",
    "settings": "Settings",
}


def render_report(content: ReportContent) -> str:
    """Fill the template; every text is escaped, and a section without data has a sentence instead."""
    values = {"content": content, **_describe(content)}
    return render_page(
        "report.html", sections=SECTIONS, notes=content.notes, values=values, folded=_list_empty(content, values)
    )


def _list_empty(content: ReportContent, values: dict[str, Any]) -> set[str]:
    """Sections that hold no more than a sentence on what would fill them."""
    has_content = {
        "pictures": content.pictures,
        "scores": content.shown,
        "volumes": content.shown,
        "cases": content.shown,
        "review": content.experiment,
        "selection": content.experiment,
        "postprocessing": values["postprocessing"] or values["model_postprocessing"],
        "calibration": content.experiment,
    }
    return {key for key, found in has_content.items() if not found and not content.notes.get(key)}


def _describe(content: ReportContent) -> dict[str, Any]:
    """Everything on the page that is more than a field of the content."""
    plan, shown, experiment = content.plan, content.shown, content.experiment
    trained = dict.fromkeys(t.configuration for t in content.trainings if t.configuration in plan.configurations)
    names = [*trained, *(name for name in plan.configurations if name not in trained)]
    opened = _opened_configurations(content)
    calibration = None if experiment is None else experiment.calibration
    return {
        "facts": _summarize(content),
        "findings": None if content.fingerprint is None else describe_findings(content.fingerprint),
        "choices": describe_choices(plan),
        "configurations": [
            (name, name in trained, name in opened, describe_configuration(plan, name)) for name in names
        ],
        "training_rows": [describe_training(training) for training in content.trainings],
        "histories": draw_histories(content.trainings),
        "candidates": None if experiment is None else describe_candidates(experiment),
        "postprocessing": None if experiment is None else describe_postprocessing(experiment),
        "model_postprocessing": describe_model_postprocessing(content.postprocessing),
        "calibration_title": "Calibration on out-of-fold predictions",
        "calibration": calibration,
        "calibration_chart": calibration
        and draw_calibration(calibration, title="Calibration on out-of-fold predictions"),
        "scores": describe_scores(content),
        "volumes": None if shown is None else describe_volumes(shown),
        "views": [view_case(picture) for picture in content.pictures],
        "outcomes": list_outcomes(content.pictures),
        "several_labels": shown is not None
        and len({label for case in shown.scores.cases for label in case.scores}) > 1,
        "case_rows": {} if shown is None else {case.case: row for row, case in enumerate(shown.scores.cases)},
        "settings": list_settings(content),
        "commands": list_commands(content),
        "with_time_budget": any(training.facts.time_budget_s is not None for training in content.trainings),
        "plan_json": render_record(plan),
        "folds_json": None if content.folds is None else render_record(content.folds),
    }


def _opened_configurations(content: ReportContent) -> tuple[str, ...]:
    """The configurations that the report is about: the winner's members, or the one whose cases are shown."""
    if content.experiment is not None and content.experiment.winner in content.experiment.candidates:
        return content.experiment.candidates[content.experiment.winner].members
    return (content.shown.name,) if content.shown is not None else ()


def _summarize(content: ReportContent) -> list[str]:
    """Lines below the title: the score of the selected or shown model, if there is one, and what was trained."""
    plan, finished = content.plan, [t for t in content.trainings if t.facts.finished]
    configurations = list(dict.fromkeys(t.configuration for t in finished))
    folds = f"{count(len(finished), 'trained fold')}{' of ' if configurations else ''}{', '.join(configurations)}"
    lines = [f"Channels {', '.join(plan.channels)}; {folds}; report of {content.made_at}."]
    shown, experiment = content.shown, content.experiment
    if experiment is not None and (best := experiment.candidates.get(experiment.winner)) is not None:
        metric = experiment.target_metric
        lines.append(
            f"Selected: {experiment.winner}, mean {metric} {format_value(best.target, metric)} "
            f"(95 % interval {format_range(best.lower, best.upper, metric)}) on held-out cases."
        )
    elif shown is not None:
        label = "mean" if "mean" in shown.scores.summary else next(iter(shown.scores.summary))
        statistics = shown.scores.summary[label].get(shown.target)
        if statistics is not None:
            bounds = statistics.interval
            interval = "" if bounds is None else f" (95 % interval {format_range(*bounds, shown.target)})"
            lines.append(
                f"{shown.name}: mean {shown.target} {format_value(statistics.mean, shown.target)}{interval} over "
                f"{count(len(shown.scores.cases), 'held-out case')}."
            )
    return lines[::-1]


__all__ = ["Picture", "ReportContent", "ShownScores", "Training", "render_report"]
