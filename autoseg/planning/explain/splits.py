"""Folds of the cases."""

from __future__ import annotations

from autoseg.core.records import CaseFacts, Fingerprint, Folds
from autoseg.planning.explain.page import entry, head
from autoseg.planning.folds import describe_rule, find_split_groups
from autoseg.planning.text import count

_COLUMNS = ("fold", "trained on", "held out", "without lesion", "lesions", "volume ml")


def explain_folds(folds: Folds, fingerprint: Fingerprint) -> list[str]:
    """Number of folds, the rules that made them, and the lesion load that each holds out."""
    lines = head("Folds")
    split = find_split_groups(folds, fingerprint)
    together = (
        f"scans of {count(len(split), 'patient')} are on both sides of a fold, so scores will be too good"
        if split
        else "no patient is both trained on and held out"
    )
    lines += entry(
        "Rule",
        f"{count(len(folds.folds), 'fold')}, {describe_rule(folds)}; {together}. Each fold is one training, "
        f"which is scored on the cases that it holds out",
    )
    facts = {case.case: case for case in fingerprint.cases}
    rows = [_COLUMNS]
    for number, fold in enumerate(folds.folds):
        held_out = [facts[case] for case in fold.validation if case in facts]
        rows.append(
            (
                str(number),
                str(len(fold.train)),
                str(len(fold.validation)),
                str(sum(not case.lesions for case in held_out)),
                str(sum(len(case.lesions) for case in held_out)),
                f"{sum(map(_load_ml, held_out)):.4g}",
            )
        )
    return [*lines, *("".join(f"{cell:>15}" for cell in row) for row in rows)]


def _load_ml(case: CaseFacts) -> float:
    return sum(lesion.volume_ml for lesion in case.lesions)
