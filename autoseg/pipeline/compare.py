"""``autoseg_compare``: several folders of scores or masks, case by case."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.core.errors import UsageError
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Scores, ScoresComparison
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, check_ours, read_record, write_record, write_text
from autoseg.evaluation import align_scores, compare_pairs, rank_folders, render_comparison_csv
from autoseg.evaluation.folders import list_masks, resolve_targets, score_folder
from autoseg.evaluation.scoring import CASE_SCORES, check_scores, write_scores
from autoseg.options import CompareOptions, EvaluateOptions, command_line

log = logging.getLogger(__name__)


def compare(store: Store, options: CompareOptions, *, progress: Progress = no_progress) -> ScoresComparison:
    """Compare every two folders, label and metric; with three folders or more also rank them.

    Raises:
        UsageError: fewer than two folders, one that holds no scores, or options that need labels.
        DataError: other labels, conventions or cases.
    """
    named = name_folders(options.folders)
    if (output := options.output) is not None:
        check_ours(output / "comparison.json", '"folders"')
        check_ours(output / "comparison.csv", "first,second,label,metric,")
    path = None if output is None else output / f"comparison.{RUN}"
    with recorded(store, path, ("autoseg_compare", *command_line(options))) as run:
        comparison = _compare(store, options, named, progress)
        short = {name: run.hide(str(folder)) for name, folder in named.items()}
        comparison = comparison.model_copy(update={"folders": short})
        if output is not None:
            run.begin()
            write_record(output / "comparison.json", comparison)
            write_text(output / "comparison.csv", render_comparison_csv(comparison))
            log.info("wrote %s and comparison.csv", output / "comparison.json")
        return comparison


def _compare(store: Store, options: CompareOptions, named: Mapping[str, Path], progress: Progress) -> ScoresComparison:
    metrics = None if "all" in (options.metrics or ()) else options.metrics
    if options.references is not None or options.dataset is not None:
        folders = _score_all(store, named, options, progress)
        metrics = None  # all of these scores
    elif options.preset is not None or options.allow_missing:
        option = "--preset" if options.preset is not None else "--allow-missing"
        raise UsageError(f"{option} scores masks, which needs their labels; give them with -r or -d, or omit it")
    else:
        folders = {name: _read_scores(folder) for name, folder in named.items()}
    comparable = align_scores(folders, metrics=metrics, common_cases=options.common_cases)
    return ScoresComparison(
        folders={name: str(folder) for name, folder in named.items()},
        conventions=comparable.conventions,
        cases=comparable.cases,
        left_out=comparable.left_out,
        pairs=compare_pairs(comparable),
        ranking=rank_folders(comparable) if len(named) > 2 else (),
    )


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
    store: Store, named: Mapping[str, Path], options: CompareOptions, progress: Progress
) -> dict[str, Scores]:
    """Score every folder of masks against the same labels; write the scores where there is an output folder."""
    scoring = {
        name: EvaluateOptions(
            predictions=folder,
            references=options.references,
            dataset=options.dataset,
            metrics=options.metrics,
            preset=options.preset,
            allow_missing=options.allow_missing,
            workers=options.workers,
        )
        for name, folder in named.items()
    }
    if options.common_cases:
        dataset, _ = resolve_targets(store, next(iter(scoring.values())))
        masks = [list_masks(folder) for folder in named.values()]
        common = tuple(case.id for case in dataset.cases if case.labels and all(case.id in ids for ids in masks))
        if not common:
            raise UsageError("no case has a label and a mask in every folder; check that their names agree")
        scoring = {name: replace(evaluation, cases=common) for name, evaluation in scoring.items()}
    scores = {}
    for name, evaluation in scoring.items():
        log.info("scoring %s", named[name])
        output = None if options.output is None else options.output / name
        if output is not None:
            check_scores(output)
        cache = None if output is None else output / CASE_SCORES
        scores[name] = score_folder(store, evaluation, cache=cache, progress=progress)
        if output is not None:
            write_scores(output, scores[name])
    return scores


def _read_scores(folder: Path) -> Scores:
    path = folder if folder.suffix == ".json" else folder / "scores.json"
    if not path.is_file():
        raise UsageError(
            f"{folder} has no scores.json; score it with autoseg_evaluate, or give the labels with -r or -d"
        )
    return read_record(Scores, path, advice="score the masks again with autoseg_evaluate")
