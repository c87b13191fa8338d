"""Rule 15, improved: folds that keep a patient together and spread lesion load, empty cases and sites evenly."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from autoseg.core.errors import DataError, UsageError
from autoseg.core.records import CaseFacts, Fingerprint, Fold, Folds


def make_folds(fingerprint: Fingerprint, *, count: int = 5, seed: int = 12345) -> Folds:
    """Deal the groups, sorted by site and lesion volume, into folds: each block of ``count`` gives every fold one.

    Cases without a reference can neither train nor validate and are left out.

    Args:
        count: folds wanted; fewer are made when there are fewer groups.
        seed: shuffles each block.

    Raises:
        UsageError: fewer than 2 folds are wanted.
        DataError: there are fewer than 2 groups.
    """
    if count < 2:
        raise UsageError(f"{count} folds were asked for; cross-validation needs at least 2")
    groups: dict[str, list[CaseFacts]] = defaultdict(list)
    for case in fingerprint.cases:
        if case.label_voxels:
            groups[case.group or case.case].append(case)
    if len(groups) < 2:
        raise DataError(
            f"dataset {fingerprint.dataset} has {len(groups)} groups (patients) with a label, but training needs "
            f"at least 2, one to learn from and one to be held out; add labelled cases"
        )
    count = min(count, len(groups))
    ordered = sorted(groups, key=lambda name: (_site(groups[name]), _volume_ml(groups[name]), name))
    generator = np.random.default_rng(seed)
    held_out: list[list[str]] = [[] for _ in range(count)]
    for start in range(0, len(ordered), count):
        block = ordered[start : start + count]
        for fold, name in zip(generator.permutation(count), block, strict=False):
            held_out[fold] += [case.case for case in groups[name]]
    every = sorted(case.case for cases in groups.values() for case in cases)
    folds = tuple(
        Fold(train=tuple(case for case in every if case not in set(out)), validation=tuple(sorted(out)))
        for out in held_out
    )
    return Folds(seed=seed, folds=folds)


def _site(cases: list[CaseFacts]) -> str:
    return min(case.site or "" for case in cases)


def _volume_ml(cases: list[CaseFacts]) -> float:
    return sum(sum(case.label_voxels.values()) * math.prod(case.spacing) / 1000 for case in cases)
