"""Log lines on a dataset: assumed spacings and cases left out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from autoseg.core.errors import DataError
from autoseg.core.images import states_orientation
from autoseg.core.records import Case, Dataset
from autoseg.core.text import join_names

log = logging.getLogger(__name__)


def log_assumed(dataset: Dataset) -> None:
    """Log the spacings that the files do not state and that were assumed."""
    for spacing in sorted({case.spacing for case in dataset.cases if case.spacing is not None}):
        log.warning(
            "the files of %s do not state their spacing; assuming %s mm (z,y,x), so volumes in ml are approximate",
            dataset.name,
            " x ".join(f"{mm:g}" for mm in spacing),
        )


def warn_unoriented(cases: Sequence[Case]) -> None:
    """Name the cases whose headers do not state how they lie in the head."""
    unoriented = []
    for case in cases:
        with suppress(DataError):  # reading the case reports it
            if not states_orientation(case.channels[0].path):
                unoriented.append(case.id)
    if unoriented:
        log.warning(
            "%d scans state no orientation (qform and sform code 0), so left and right are a guess: %s",
            len(unoriented),
            join_names(unoriented),
        )


def log_left_out(dataset: Dataset) -> None:
    """Log the cases left out and the reasons; many for one reason in one line."""
    cases: dict[str, list[str]] = {}
    for case, reason in dataset.left_out.items():
        cases.setdefault(reason, []).append(case)
    for reason, names in cases.items():
        if len(names) == 1:
            log.warning("left out %s: %s", names[0], reason)
        else:
            log.warning("left out %d cases, each %s: %s", len(names), reason, join_names(names))
