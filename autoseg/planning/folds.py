"""Rule 15: folds that keep a patient together and spread lesion load, empty cases and sites evenly."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.core.errors import DataError, PlanError, UsageError
from autoseg.core.records import CaseFacts, Fingerprint, Fold, FoldRule, Folds, parse_record
from autoseg.core.text import join_names

Groups = Mapping[str, list[CaseFacts]]
DEFAULT_COUNT = 5
NNUNET_SEED = 12345  # of its splits_final.json, which states none


def make_folds(
    fingerprint: Fingerprint, *, count: int | None = None, seed: int = 12345, leave_one_site_out: bool = False
) -> Folds:
    """Deal the groups, sorted by site and lesion volume, into folds: each block of ``count`` gives every fold one.

    Cases without a reference can neither train nor validate and are left out.

    Args:
        count: folds wanted; fewer are made when there are fewer groups; None for 5.
        seed: shuffles each block.
        leave_one_site_out: instead, one fold per site, which holds out all its cases; ``count`` has no say then, and
            a patient scanned at several sites is held out with the first of them by name.

    Raises:
        UsageError: fewer than 2 folds are requested.
        DataError: there are fewer than 2 groups; or, for one fold per site, fewer than 2 sites or cases without one.
    """
    if count is not None and count < 2:
        raise UsageError(f"cross-validation needs at least 2 folds, not {count}; give a larger --fold-count")
    groups = labelled_groups(fingerprint)
    if len(groups) < 2:
        raise DataError(
            f"dataset {fingerprint.dataset} has {len(groups)} groups (patients) with a label, but training needs "
            f"at least 2, one to learn from and one to be held out; add labelled cases"
        )
    rule = FoldRule(count=count)
    if leave_one_site_out:
        rule, held_out = FoldRule(rule="leave_one_site_out"), _by_site(groups, fingerprint.dataset)
    else:
        held_out = _deal(groups, count or DEFAULT_COUNT, seed)
    every = sorted(case.case for cases in groups.values() for case in cases)
    folds = []
    for names in held_out:
        out = {case.case for name in names for case in groups[name]}
        folds.append(Fold(train=tuple(case for case in every if case not in out), validation=tuple(sorted(out))))
    return Folds(seed=seed, made_by=rule, folds=tuple(folds))


def labelled_groups(fingerprint: Fingerprint) -> dict[str, list[CaseFacts]]:
    """Group (patient) -> its cases with a reference; a case without a group is its own."""
    groups: dict[str, list[CaseFacts]] = defaultdict(list)
    for case in fingerprint.cases:
        if case.label_voxels:
            groups[case.group or case.case].append(case)
    return dict(groups)


def find_split_groups(folds: Folds, fingerprint: Fingerprint) -> dict[str, int]:
    """Group -> the first fold that both trains on and holds out scans of it; made folds have none."""
    group_of = {case.case: name for name, cases in labelled_groups(fingerprint).items() for case in cases}
    split: dict[str, int] = {}
    for number, fold in enumerate(folds.folds):
        trained, held_out = ({group_of.get(case, case) for case in ids} for ids in (fold.train, fold.validation))
        for name in sorted(trained & held_out):
            split.setdefault(name, number)
    return split


def describe_rule(folds: Folds) -> str:
    """Rules that made the folds, as one clause."""
    rule = folds.made_by
    if rule.rule == "file":
        return f"as {rule.file} states them"
    if rule.rule == "leave_one_site_out":
        return "one site held out at a time"
    return "with sites and lesion volumes distributed evenly"


def read_folds_content(content: Any, *, cases: Collection[str], source: str) -> Folds:
    """The folds that a file states: our ``folds.json``, or nnU-Net's list of ``{"train": [ids], "val": [ids]}``.

    Args:
        content: the file's parsed JSON.
        cases: ids that the dataset has with a reference.
        source: the file, for messages.

    Raises:
        PlanError: it is neither, names an unknown case, trains on what it validates, trains on nothing, or holds a
            case out twice.
    """
    if isinstance(content, dict) and "folds" in content:
        ours = parse_record(Folds, json.dumps(content), path=Path(source), advice="correct the file")
        folds, seed = [(list(fold.train), list(fold.validation)) for fold in ours.folds], ours.seed
    else:
        folds, seed = _read_splits(content, source), NNUNET_SEED
    folds = [(sorted(set(train)), sorted(set(validation))) for train, validation in folds]
    _check_ids(folds, set(cases), source)
    return Folds(
        seed=seed,
        made_by=FoldRule(rule="file", file=Path(source).name),
        folds=tuple(Fold(train=tuple(train), validation=tuple(validation)) for train, validation in folds),
    )


def _read_splits(content: Any, source: str) -> list[tuple[list[str], list[str]]]:
    shaped = isinstance(content, list) and content and all(isinstance(split, dict) for split in content)
    if not shaped or not all(_is_list_of_ids(split.get(key)) for split in content for key in ("train", "val")):
        raise PlanError(
            f'{source} must hold a list of {{"train": [case ids], "val": [case ids]}}, one for each fold, or be a '
            f"folds.json of autoseg"
        )
    return [(split["train"], split["val"]) for split in content]


def _check_ids(folds: Sequence[tuple[list[str], list[str]]], labelled: set[str], source: str) -> None:
    unknown = sorted({case for split in folds for ids in split for case in ids} - labelled)
    if unknown:
        raise PlanError(
            f"{source} names {len(unknown)} cases that the dataset does not have with a label: "
            f"{join_names(unknown, limit=3)}; the dataset has {join_names(sorted(labelled), limit=3)}"
        )
    for number, (train, validation) in enumerate(folds):
        both = sorted(set(train) & set(validation))
        if both or not train:
            wrong = f"both trains on and validates {join_names(both, limit=3)}" if both else "has no cases to train on"
            raise PlanError(f"fold {number} of {source} {wrong}; correct the file")
    twice = [case for case, times in Counter(case for _, out in folds for case in out).items() if times > 1]
    if twice:
        raise PlanError(
            f"{source} holds {len(twice)} cases out in more than one fold ({join_names(sorted(twice), limit=3)}), "
            f"so they have no one cross-validated prediction; keep each in one"
        )


def _deal(groups: Groups, count: int, seed: int) -> list[list[str]]:
    """The groups that each fold holds out."""
    count = min(count, len(groups))
    ordered = sorted(groups, key=lambda name: (_site(groups[name]), volume_ml(groups[name]), name))
    generator = np.random.default_rng(seed)
    held_out: list[list[str]] = [[] for _ in range(count)]
    for start in range(0, len(ordered), count):
        block = ordered[start : start + count]
        for fold, name in zip(generator.permutation(count), block, strict=False):
            held_out[fold].append(name)
    return held_out


def _by_site(groups: Groups, dataset: str) -> list[list[str]]:
    """The groups of each site, sites sorted by name."""
    seen = {case.case: case.site and _site(cases) for cases in groups.values() for case in cases}
    check_sites(seen, dataset)
    sites: dict[str, list[str]] = defaultdict(list)
    for name in groups:
        sites[_site(groups[name])].append(name)
    return [sites[site] for site in sorted(sites)]


def check_sites(sites: Mapping[str, str | None], dataset: str) -> None:
    """Whether one site at a time can be left out.

    Args:
        sites: case id -> site, or None where it is not known; of the cases with a label.
        dataset: its name, for the message.

    Raises:
        DataError: a case has no site, or there are fewer than 2.
    """
    homeless = sorted(case for case, site in sites.items() if site is None)
    if homeless or len(set(sites.values())) < 2:
        named = next(iter(sites.values()), "none")
        found = f"{len(homeless)} cases without one ({join_names(homeless, limit=3)})" if homeless else f"only {named}"
        raise DataError(
            f"leaving out one site at a time needs every case's site and at least 2 sites, but dataset {dataset} has "
            f"{found}; name the sites in dataset.json, or make folds without it"
        )


def _is_list_of_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _site(cases: Sequence[CaseFacts]) -> str:
    return min(case.site or "" for case in cases)


def volume_ml(cases: Sequence[CaseFacts]) -> float:
    """Labelled volume of some cases together."""
    return sum(sum(case.label_voxels.values()) * math.prod(case.spacing) / 1000 for case in cases)
