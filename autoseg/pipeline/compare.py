"""``autoseg_compare``: several folders of scores or masks, case by case."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.core.errors import UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Scores, ScoresComparison
from autoseg.core.store import Store, read_record, write_record, write_text
from autoseg.evaluation import align_scores, compare_pairs, rank_folders, render_comparison_csv
from autoseg.evaluation.folders import KEPT, Asked, follow, list_masks, score_folder, write_scores
from autoseg.options import CompareOptions

log = logging.getLogger(__name__)


def compare(store: Store, options: CompareOptions, *, progress: Progress = no_progress) -> ScoresComparison:
    """Compare every two folders, label and metric; with three folders or more also rank them.

    Raises:
        UsageError: fewer than two folders, one that holds no scores, or options that need labels.
        DataError: other labels, conventions or cases.
    """
    named = name_folders(options.folders)
    asked = Asked(
        references=options.references,
        dataset_name=options.dataset,
        metrics=options.metrics,
        preset=options.preset,
        allow_missing=options.allow_missing,
    )
    if options.references is not None or options.dataset is not None:
        found = _score_all(store, named, asked, options, progress)
        chosen = None  # each was scored with just these metrics
    elif options.preset is not None or options.allow_missing:
        option = "--preset" if options.preset is not None else "--allow-missing"
        raise UsageError(f"{option} scores masks again; give their labels with -r or -d, or leave it out")
    else:
        found = {name: _read_scores(folder) for name, folder in named.items()}
        chosen = None if asked.metrics is None or "all" in asked.metrics else asked.metrics
    comparable = align_scores(found, metrics=chosen, common_cases=options.common_cases)
    comparison = ScoresComparison(
        folders={name: str(folder) for name, folder in named.items()},
        conventions=comparable.conventions,
        cases=comparable.cases,
        left_out=comparable.left_out,
        pairs=compare_pairs(comparable),
        ranking=rank_folders(comparable) if len(named) > 2 else (),
    )
    if (output := options.output) is not None:
        write_record(output / "comparison.json", comparison)
        write_text(output / "comparison.csv", render_comparison_csv(comparison))
        log.info("wrote %s and comparison.csv", output / "comparison.json")
    return comparison


def name_folders(folders: Sequence[Path]) -> dict[str, Path]:
    """A short name for each folder: its last parts, as many as it takes to tell all apart.

    Raises:
        UsageError: fewer than two folders, or one of them twice.
    """
    whole = [folder.resolve() for folder in folders]
    if len(whole) < 2:
        raise UsageError("give at least two folders to compare")
    twice = [folder for number, folder in enumerate(whole) if folder in whole[:number]]
    if twice:
        raise UsageError(f"{twice[0]} is given twice; compare different folders")
    parts = 1
    while len({folder.parts[-parts:] for folder in whole}) < len(whole):
        parts += 1
    return {"/".join(full.parts[-parts:]): folder for full, folder in zip(whole, folders, strict=True)}


def _score_all(
    store: Store,
    named: Mapping[str, Path],
    asked: Asked,
    options: CompareOptions,
    progress: Progress,
) -> dict[str, Scores]:
    """Score every folder of masks against the same labels, and write what each scored where there is an output."""
    if options.common_cases:
        dataset, _ = follow(store, asked)
        held = [set(list_masks(folder)) for folder in named.values()]
        shared = [case.id for case in dataset.cases if case.labels and all(case.id in masks for masks in held)]
        if not shared:
            raise UsageError("no case has a label and a mask in every folder; check that their names agree")
        asked = replace(asked, cases=tuple(shared))
    found = {}
    for name, folder in named.items():
        place = None if options.output is None else options.output / name
        log.info("scoring %s", folder)
        kept = None if place is None else place / KEPT
        found[name] = score_folder(store, folder, asked, kept=kept, workers=options.workers, progress=progress)
        if place is not None:
            write_scores(place, found[name])
    return found


def _read_scores(folder: Path) -> Scores:
    path = folder if folder.suffix == ".json" else folder / "scores.json"
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no scores.json; score it with autoseg_evaluate, or give the labels with -r or -d"
        )
    return read_record(Scores, path, advice="score the masks again with autoseg_evaluate")
