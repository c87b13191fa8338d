"""The folds of a dataset: read back, checked, made."""

from __future__ import annotations

from pathlib import Path

from autoseg.core.errors import PlanError
from autoseg.core.records import Folds
from autoseg.core.store import Store, read_record


def read_folds(store: Store, name: str) -> Folds:
    """The folds of a dataset as they stand on disk."""
    path = store.preprocessed(name) / "folds.json"
    return read_record(Folds, path, remedy=f"make it with: autoseg_plan -d {name}")


def check_folds(folds: Folds, cases: set[str], path: Path) -> None:
    """Every id in the folds must be a case of the dataset.

    Raises:
        PlanError: an id is unknown.
    """
    used = {case for fold in folds.folds for case in (*fold.train, *fold.validation)}
    unknown = sorted(used - cases)
    if unknown:
        raise PlanError(
            f"{path} names {len(unknown)} cases that the dataset does not have ({', '.join(unknown[:3])}); "
            f"correct it, or delete it and run autoseg_plan again"
        )
