"""One function over many cases in parallel: keep what comes, name every failure at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from autoseg.core.errors import CasesError
from autoseg.core.parallel import Progress, map_cases

log = logging.getLogger(__name__)
A = TypeVar("A")
T = TypeVar("T")

WORKER_BYTES = 2**28  # a process with its libraries, before it reads anything


def run_cases(
    function: Callable[[A], T],
    tasks: Sequence[tuple[str, A]],
    workers: int,
    keep: Callable[[str, T], None],
    doing: str,
    progress: Progress,
    *,
    others: str = "the others are done",
) -> None:
    """Map over cases, keep what comes, and raise at the end with every failure.

    Args:
        others: what became of the other cases, and what to do, for the message.

    Raises:
        CasesError: some cases failed.
    """
    failures: dict[str, str] = {}
    progress(0, len(tasks), doing)
    for done, outcome in enumerate(map_cases(function, tasks, workers=min(workers, len(tasks))), start=1):
        if outcome.failure is None:
            keep(outcome.name, cast(T, outcome.value))
        else:
            failures[outcome.name] = outcome.failure
        if outcome.is_bug:
            log.error("case %s:\n%s", outcome.name, outcome.trace)
        progress(done, len(tasks), doing)
    if failures:
        raise CasesError(failures, of=len(tasks), doing=doing, others=others)
