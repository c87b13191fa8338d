"""Pairs of predictions and references by case name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.errors import DataError
from autoseg.core.text import join_names

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One case's prediction and reference on disk."""

    case: str
    prediction: Path
    reference: Path


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Cases that can be scored, and those that cannot.

    Attributes:
        pairs: sorted by case.
        missing: cases with a reference and no prediction.
        extra: cases with a prediction and no reference.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def pair_masks(
    predictions: Mapping[str, Path], references: Mapping[str, Path], *, allow_missing: bool = False
) -> Pairing:
    """Pair files by case; predictions without a reference are ignored and logged.

    Args:
        predictions: case -> file.
        references: case -> file.
        allow_missing: accept missing predictions, to be scored as the worst possible: a mean over the cases that happen
            to be predicted is not the mean over the test set.

    Raises:
        DataError: no case has both, or predictions are missing.
    """
    both = sorted(predictions.keys() & references.keys())
    missing = tuple(sorted(references.keys() - predictions.keys()))
    extra = tuple(sorted(predictions.keys() - references.keys()))
    if not both:
        raise DataError(
            f"none of the {len(predictions)} predictions ({join_names(extra, limit=5) or 'none'}) has the name of one "
            f"of the {len(references)} references ({join_names(missing, limit=5) or 'none'}); both folders must "
            f"use the same case names"
        )
    if missing and not allow_missing:
        raise DataError(
            f"{len(missing)} of {len(references)} references have no prediction ({join_names(missing, limit=5)}); "
            f"predict these cases too, give them the worst possible score (--allow-missing), or choose the cases to "
            f"score (--cases)"
        )
    if missing:
        log.warning(
            "%d of %d references have no prediction and get the worst possible score: %s",
            len(missing),
            len(references),
            join_names(missing, limit=5),
        )
    if extra:
        log.warning(
            "ignored %d of %d predictions, without a reference: %s",
            len(extra),
            len(predictions),
            join_names(extra, limit=5),
        )
    pairs = tuple(Pair(case=case, prediction=predictions[case], reference=references[case]) for case in both)
    return Pairing(pairs=pairs, missing=missing, extra=extra)
