"""``autoseg_demo``: plan, train, predict, evaluate and report on a synthetic dataset."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from autoseg.core.geometry import nearest_axes, turn
from autoseg.core.images import read_voxels
from autoseg.core.parallel import Progress, no_progress
from autoseg.core.records import Scores
from autoseg.core.runs import RUN, recorded
from autoseg.core.store import Store, hidden_beside, remove_leftovers, write_bytes
from autoseg.datasets import find_dataset, import_dataset, make_isles15, read_case
from autoseg.evaluation import render_table
from autoseg.folds.training import train
from autoseg.options import (
    DemoOptions,
    EvaluateOptions,
    ImportOptions,
    PlanOptions,
    PredictOptions,
    ReportOptions,
    TrainOptions,
    command_line,
)
from autoseg.pipeline.evaluate import evaluate
from autoseg.pipeline.plan import plan, show_plan
from autoseg.pipeline.predict import predict
from autoseg.pipeline.report import report
from autoseg.reporting import draw_case

log = logging.getLogger(__name__)

NAME = "Demo"
NEW = "Demo_new"
CASES = 16
NEW_CASES = 4


def demonstrate(
    store: Store, options: DemoOptions, *, progress: Progress = no_progress, width: int | None = None
) -> str:
    """Make data, plan, train, predict and evaluate on the CPU; a second call resumes.

    Returns:
        Text for the screen: scores, time and paths.
    """
    home = store.root / "autoseg_demo"
    with recorded(store, home / RUN, ("autoseg_demo", *command_line(options))) as run:
        run.begin()
        return _demonstrate(store, options, progress, width)


def _demonstrate(store: Store, options: DemoOptions, progress: Progress, width: int | None) -> str:
    started = time.monotonic()
    _make_data(store, progress)
    budget = f"{options.time_budget_s:.0f}s"
    log.info("$ autoseg_plan -d %s --preset pocket --device cpu --time-budget %s", NAME, budget)
    planning = PlanOptions(dataset=NAME, preset="pocket", device="cpu", time_budget_s=options.time_budget_s, keep=True)
    planned = plan(store, planning, progress=progress).plan
    log.info("%s", show_plan(store, planned).rstrip())
    chosen = planned.recommended
    log.info("$ autoseg_train -d %s -c %s -f 0 --device cpu --time-budget %s", NAME, chosen, budget)
    training = TrainOptions(
        dataset=NAME, configuration=chosen, fold="0", device="cpu", time_budget_s=options.time_budget_s
    )
    train(store, training, progress=progress)
    scans, masks = store.raw(NEW) / "imagesTr", store.root / "autoseg_demo" / "masks"
    log.info("$ autoseg_predict -i %s -o %s -d %s", scans, masks, NAME)
    prediction = PredictOptions(scans=scans, output=masks, dataset=NAME, configuration=chosen, device="cpu")
    predict(store, prediction, progress=progress)
    log.info("$ autoseg_evaluate -p %s -d %s", masks, NEW)
    scores = evaluate(store, EvaluateOptions(predictions=masks, dataset=NEW), progress=progress)
    picture = store.root / "autoseg_demo" / "comparison.png"
    write_bytes(picture, _draw(store, masks, scores))
    log.info("$ autoseg_report -d %s", NAME)
    page = report(store, ReportOptions(dataset=NAME), progress=progress)
    minutes = (time.monotonic() - started) / 60
    return (
        f"{render_table(scores, width=width, explain=False)}\n"
        f"the demo took {minutes:.1f} minutes; its data are synthetic, so the scores say nothing about real scans\n"
        f"  masks    {masks}\n  scores   {masks / 'scores.csv'}\n  picture  {picture}\n  report   {page}\n"
    )


def _make_data(store: Store, progress: Progress) -> None:
    """Make training data in the layout of ISLES 2015, and new scans in autoseg's own layout."""
    for name, cases, seed in ((NAME, CASES, 1), (NEW, NEW_CASES, 2)):
        target = store.raw(name)
        if target.exists():
            log.info("%s exists already", target)
            continue
        log.info("making %d synthetic cases in %s", cases, target)
        making = hidden_beside(target)
        if target.parent.is_dir():
            remove_leftovers(target.parent)
        make_isles15(making, cases=cases, seed=seed, progress=progress)
        if name == NAME:
            making.replace(target)
        else:
            copies = ImportOptions(source=making, dataset=name, kind="isles15", copy=True)
            import_dataset(copies, target, progress=progress)
            shutil.rmtree(making)


def _draw(store: Store, masks: Path, scores: Scores) -> bytes:
    """Picture of the case with the median Dice among those with a lesion."""
    dataset = find_dataset(store.raw(NEW), NEW)
    dices = sorted((dice, case.case) for case in scores.cases if (dice := case.scores["lesion"]["dice"]) is not None)
    chosen = dices[len(dices) // 2][1] if dices else dataset.cases[0].id
    case = next(case for case in dataset.cases if case.id == chosen)
    image, label = read_case(dataset, case)
    mask, _ = read_voxels(masks / f"{chosen}.nii.gz")
    row = next(row for row in scores.cases if row.case == chosen)
    transpose, flips = nearest_axes(image.grid.direction)  # the head is upright in the picture
    return draw_case(
        turn(image.voxels, transpose, flips),
        None if label is None else turn(label.voxels, transpose, flips),
        turn(mask, transpose, flips),
        spacing=[image.grid.spacing[axis] for axis in transpose],
        channels=dataset.channels,
        title=f"{chosen} (synthetic)",
        scores=row.scores["lesion"],
    )
