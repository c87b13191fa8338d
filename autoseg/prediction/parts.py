"""Division of the cases of a folder among processes and commands."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.core.records import Case


def select_part(
    cases: Sequence[Case], failures: dict[str, str], parts: Sequence[tuple[int, int]]
) -> tuple[list[Case], dict[str, str]]:
    """Cases, and failed cases, of one part; parts are disjoint, and together they are complete.

    Args:
        parts: (number, count) from 1; each further one divides the part before it.
    """
    names = sorted({case.id for case in cases} | set(failures))
    for number, count in parts:
        names = names[number - 1 :: count]
    selected = set(names)
    return (
        [case for case in cases if case.id in selected],
        {name: sentence for name, sentence in failures.items() if name in selected},
    )
