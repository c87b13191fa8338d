"""Training subsets for learning curves: each holds small and large lesions as the whole does, one within the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.core.errors import UsageError
from autoseg.core.records import CaseFacts, Fingerprint, Folds, Subsets
from autoseg.core.text import align_columns
from autoseg.planning.folds import labelled_groups, volume_ml

BINS = 8
ALL = "all"


def make_subsets(fingerprint: Fingerprint, folds: Folds, sizes: Sequence[int], *, seed: int) -> Subsets:
    """Order the training cases of every fold, and of all cases together, so that each beginning is balanced.

    Args:
        fingerprint: measured lesion volumes and patients.
        folds: whose training cases are taken.
        sizes: numbers of cases.
        seed: shuffles the cases of a bin.

    Raises:
        UsageError: a fold has fewer training cases than the largest size.
    """
    ascending = tuple(sorted(set(sizes)))
    facts = {case.case: case for cases in labelled_groups(fingerprint).values() for case in cases}
    training_cases = {str(number): fold.train for number, fold in enumerate(folds.folds)} | {ALL: tuple(sorted(facts))}
    small = min(training_cases, key=lambda name: len(training_cases[name]))
    if len(training_cases[small]) < ascending[-1]:
        raise UsageError(
            f"{ascending[-1]} cases were requested, but fold {small} of {fingerprint.dataset} trains on "
            f"{len(training_cases[small])} only; request smaller subsets"
        )
    ordered = {
        name: order_cases([facts[case] for case in pool], seed=(seed, number))[: ascending[-1]]
        for number, (name, pool) in enumerate(training_cases.items())
    }
    return Subsets(seed=seed, sizes=ascending, folds=ordered)


def order_cases(cases: Sequence[CaseFacts], *, seed: int | Sequence[int]) -> tuple[str, ...]:
    """The cases in an order whose every beginning is spread over lesion volume as all of them are.

    Bins hold equal numbers of cases by lesion volume (quantiles, so that the volume's logarithm would give the same);
    cases without a lesion have a bin of their own. The next case always comes from the bin that has fallen furthest
    behind its share. Within a bin, patients of whom nothing was taken come first, then chance decides.

    Args:
        cases: with a reference.
        seed: of chance.
    """
    generator = np.random.default_rng(seed)
    bins = _sort_into_bins(cases)
    waiting = [[members[i] for i in generator.permutation(len(members))] for members in bins]
    taken: Counter[str] = Counter()
    chosen: list[str] = []
    counts = [0] * len(bins)
    for number in range(1, len(cases) + 1):
        behind = [
            number * len(members) / len(cases) - count if waiting[i] else -np.inf
            for i, (members, count) in enumerate(zip(bins, counts, strict=True))
        ]
        i = int(np.argmax(behind))
        case = min(waiting[i], key=lambda case: taken[case.group or case.case])  # the first of equals
        waiting[i].remove(case)
        taken[case.group or case.case] += 1
        counts[i] += 1
        chosen.append(case.case)
    return tuple(chosen)


def describe_subsets(subsets: Subsets, fingerprint: Fingerprint) -> str:
    """A table of the subsets: cases, those without a lesion, smallest, median and largest lesion volume."""
    facts = {case.case: case for case in fingerprint.cases}
    rows = [("fold", "cases", "without lesion", "smallest ml", "median ml", "largest ml")]
    for name, cases in subsets.folds.items():
        for size in subsets.sizes:
            rows.append((name, str(size), *_describe_volumes(cases[:size], facts)))
    return "\n".join(align_columns(rows, left=0)) + "\n"


def _sort_into_bins(cases: Sequence[CaseFacts]) -> list[list[CaseFacts]]:
    """Quantile bins of lesion volume, and last the cases without a lesion; none is empty."""
    ordered = sorted(cases, key=lambda case: (volume_ml([case]), case.case))
    full = [case for case in ordered if volume_ml([case]) > 0]
    empty = [case for case in ordered if volume_ml([case]) == 0]
    bins = [list(part) for part in np.array_split(np.array(full, dtype=object), min(BINS, len(full)) or 1)]
    return [members for members in (*bins, empty) if members]


def _describe_volumes(cases: Sequence[str], facts: Mapping[str, CaseFacts]) -> tuple[str, str, str, str]:
    volumes = [volume_ml([facts[case]]) for case in cases]
    full = [volume for volume in volumes if volume > 0]
    if not full:
        return str(len(volumes)), "", "", ""
    least, median, most = (f"{ml:.3g}" for ml in (min(full), float(np.median(full)), max(full)))
    return str(len(volumes) - len(full)), least, median, most
