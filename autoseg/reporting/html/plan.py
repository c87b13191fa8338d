"""What was found in the data, what was planned from it, and why."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.planning.explain import describe_choices, describe_configuration, describe_findings
from autoseg.reporting.html.content import ReportContent
from autoseg.reporting.html.markup import Markup, element, join
from autoseg.reporting.html.page import fold_away, paragraph

Entry = tuple[str, str, str]


def show_data(content: ReportContent) -> Markup:
    """What the fingerprint measured."""
    if content.fingerprint is None:
        return paragraph(
            "The measures of the dataset are not there any more (fingerprint.json); autoseg_plan makes them again."
        )
    return _list_entries(describe_findings(content.fingerprint))


def show_plan(content: ReportContent) -> Markup:
    """Every choice with its reason; configurations that were trained first, the others folded away."""
    plan = content.plan
    trained = dict.fromkeys(t.configuration for t in content.trainings if t.configuration in plan.configurations)
    main = _name_main(content)
    parts = [_list_entries(describe_choices(plan))]
    for name in [*trained, *(name for name in plan.configurations if name not in trained)]:
        state = "trained" if name in trained else "planned, not trained"
        entries = _list_entries(describe_configuration(plan, name))
        parts.append(fold_away(f"Configuration {name} ({state})", entries, opened=name in main))
    return join(parts)


def _name_main(content: ReportContent) -> tuple[str, ...]:
    """The configurations that the report is about: the winner's, or the one whose cases are shown."""
    if content.experiment is not None and content.experiment.winner in content.experiment.candidates:
        return content.experiment.candidates[content.experiment.winner].members
    return (content.shown.name,) if content.shown is not None else ()


def _list_entries(entries: Sequence[Entry]) -> Markup:
    items = [
        (
            element("dt", title),
            element("dd", value, element("span", reason, class_="why") if reason else None),
        )
        for title, value, reason in entries
    ]
    return element("dl", items)
