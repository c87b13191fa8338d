"""The report: one HTML file that is complete in itself and asks no network for anything."""

from __future__ import annotations

from collections.abc import Callable

from autoseg.reporting.html.cases import show_cases, show_pictures
from autoseg.reporting.html.choice import show_calibration, show_choice, show_doubts, show_postprocessing
from autoseg.reporting.html.content import Picture, ReportContent, ShownScores, Training
from autoseg.reporting.html.markup import Markup, element, join
from autoseg.reporting.html.numbers import count, show_range, show_value
from autoseg.reporting.html.page import Section, build_page
from autoseg.reporting.html.plan import show_data, show_plan
from autoseg.reporting.html.reproduce import show_settings
from autoseg.reporting.html.scores import show_scores, show_volumes
from autoseg.reporting.html.trainings import show_trainings

SECTIONS: tuple[tuple[str, str, Callable[[ReportContent], Markup]], ...] = (
    ("data", "Data", show_data),
    ("plan", "Plan", show_plan),
    ("training", "Training", show_trainings),
    ("choice", "Choice", show_choice),
    ("scores", "Scores", show_scores),
    ("volumes", "Volumes", show_volumes),
    ("pictures", "Pictures", show_pictures),
    ("cases", "Cases", show_cases),
    ("doubts", "Doubts", show_doubts),
    ("postprocessing", "Post-processing", show_postprocessing),
    ("calibration", "Calibration", show_calibration),
    ("settings", "Settings", show_settings),
)


def render_report(content: ReportContent) -> str:
    """The whole page; sections without data say so in a sentence."""
    sections = []
    for key, title, show in SECTIONS:
        notes = [element("p", note, class_="note") for note in content.notes.get(key, ()) if key != "pictures"]
        sections.append(Section(key=key, title=title, body=join([notes, show(content)])))
    return build_page(f"{content.plan.dataset}: report", _summarize(content), sections)


def _summarize(content: ReportContent) -> list[str]:
    """What a reader wants to know first."""
    plan, finished = content.plan, [t for t in content.trainings if t.facts.finished]
    configurations = list(dict.fromkeys(t.configuration for t in finished))
    lines = [
        f"Channels {', '.join(plan.channels)}; {count(len(finished), 'trained fold')} of {', '.join(configurations)}; "
        f"made {content.made_at}."
    ]
    shown, experiment = content.shown, content.experiment
    if experiment is not None and (best := experiment.candidates.get(experiment.winner)) is not None:
        metric = experiment.target_metric
        lines.append(
            f"Chosen: {experiment.winner}, mean {metric} {show_value(best.target, metric)} "
            f"(95 % interval {show_range(best.lower, best.upper, metric)}) on cases that its folds did not see."
        )
    elif shown is not None:
        label = "mean" if "mean" in shown.scores.summary else next(iter(shown.scores.summary))
        found = shown.scores.summary[label].get(shown.target)
        if found is not None:
            bounds = found.interval
            interval = "" if bounds is None else f" (95 % interval {show_range(*bounds, shown.target)})"
            lines.append(
                f"{shown.name}: mean {shown.target} {show_value(found.mean, shown.target)}{interval} over "
                f"{count(len(shown.scores.cases), 'held-out case')}."
            )
    return lines


__all__ = ["Picture", "ReportContent", "ShownScores", "Training", "render_report"]
