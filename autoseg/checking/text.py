"""Suspicions as lines of a terminal, one each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from autoseg.core.records import Check

WIDTH = 80
LONGEST_NAME = 30
MOST_LINES = 40


def render_suspicions(check: Check) -> str:
    """Ranked suspicions and the changes of ``--fix``, at most 80 columns wide; ends in a newline."""
    shown = check.suspicions[:MOST_LINES]
    width = min(max((len(suspicion.case) for suspicion in shown), default=0), LONGEST_NAME)
    lines = [
        _cut(f"{rank:>3}  {suspicion.certainty:<8}  {_cut(suspicion.case, width):<{width}}  {suspicion.title}", WIDTH)
        for rank, suspicion in enumerate(shown, start=1)
    ]
    hidden = len(check.suspicions) - len(shown)
    cases = len({suspicion.case for suspicion in check.suspicions})
    found = len(check.suspicions)
    counted = f"{found} suspicion{'' if found == 1 else 's'} in {cases} of {len(check.cases)} cases"
    return "".join(f"{line}\n" for line in [*_render_changes(check), counted, *lines, *_count_hidden(hidden)])


def _render_changes(check: Check) -> Iterator[str]:
    if check.fixed:
        yield f"{check.fixed}: {len(check.changes)} changes"
        for change in check.changes:
            yield from textwrap.wrap(change, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _count_hidden(hidden: int) -> list[str]:
    return [f"and {hidden} more on the page"] if hidden else []


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
