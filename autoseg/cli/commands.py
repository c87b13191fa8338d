"""Commands: options record, description, example, and the one call of the pipeline."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, ArgumentParser
from typing import TYPE_CHECKING, NoReturn

from autoseg import options as records
from autoseg.cli.launching import launch
from autoseg.cli.running import Command, StopSignal, disable_telemetry, read_attempt, read_ranks
from autoseg.options import command_line

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal

WITHOUT_TORCH_GB = 0.8  # of address space
RANK_FIELDS = ("rank", "world", "local", "neighbours", "attempt")


def _add_schema(parser: ArgumentParser) -> None:
    text = "print the JSON Schema of plan.json and stop"
    parser.add_argument("--schema", action=_ShowSchema, nargs=0, dest=SUPPRESS, default=SUPPRESS, help=text)


class _ShowSchema(Action):
    """Like ``--help``: prints and ends, with or without other options."""

    def __call__(self, parser: ArgumentParser, *rest: object) -> NoReturn:
        """Called by argparse."""
        from autoseg.core.records import Plan, render_schema

        sys.stdout.write(render_schema(Plan))
        parser.exit()


def _import(store: Store, options: records.ImportOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.import_dataset import import_raw

    import_raw(store, options, progress=terminal.progress)


import_ = Command(
    name="import",
    options=records.ImportOptions,
    title="check a dataset as distributed and lay it under autoseg_raw",
    summary="Check a dataset as it was distributed and lay it under autoseg_raw/NAME; the source is never changed.",
    example="autoseg_import msd downloads/Task04_Hippocampus -d Hippocampus",
    act=_import,
    least_gb=WITHOUT_TORCH_GB,
)


def _import_model(store: Store, options: records.ImportModelOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.import_model import import_model

    folders = import_model(store, options, progress=terminal.progress)
    terminal.show("".join(f"{folder}\n" for folder in folders))


import_model = Command(
    name="import-model",
    options=records.ImportModelOptions,
    title="import a model that nnU-Net trained",
    summary="Import a model that nnU-Net v2 trained into autoseg_results/NAME, for autoseg_predict. None of its "
    "code is run.",
    example="autoseg_import_model downloads/model.zip -d Lesions",
    act=_import_model,
)


def _check(store: Store, options: records.CheckOptions, terminal: Terminal) -> None:
    from autoseg.checking import render_suspicions
    from autoseg.pipeline.check import check, place_page

    terminal.show(render_suspicions(check(store, options, progress=terminal.progress)))
    terminal.show(f"page: {place_page(store, options)}\n")


check = Command(
    name="check",
    options=records.CheckOptions,
    title="show every case, and rank what looks wrong",
    summary="Read every case before it is planned: one HTML file with every case in three slices and its mask's "
    "outline, and\nwhat looks wrong, ranked. It opens offline and loads nothing.",
    example="autoseg_check -d ISLES15",
    act=_check,
)


def _plan(store: Store, options: records.PlanOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.plan import plan, show_plan
    from autoseg.planning import explain_plan

    result = plan(store, options, progress=terminal.progress)
    page = explain_plan(result.plan, result.fingerprint, result.folds) + "\n" if options.explain else ""
    terminal.show(page + show_plan(store, result.plan, dry_run=options.dry_run))


plan = Command(
    name="plan",
    options=records.PlanOptions,
    title="measure a dataset, plan, make folds, preprocess",
    summary="Measure a dataset, plan configurations with reasons, split it into folds and preprocess it.",
    example="autoseg_plan -d ISLES15 --memory 8",
    act=_plan,
    extra=_add_schema,
)


def _pretrain(store: Store, options: records.PretrainOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.pretrain import pretrain

    stop = StopSignal()
    folder = pretrain(store, options, should_stop=stop, progress=terminal.progress)
    if folder is not None:
        terminal.show(f"{folder}\nnext: autoseg_plan -d {options.dataset} --pretrained {folder} --with-scratch-twin\n")
    stop.exit_if_stopped()


pretrain = Command(
    name="pretrain",
    options=records.PretrainOptions,
    title="train a planned network without labels",
    summary="Train a planned network, without labels, to reconstruct masked blocks of scans. The same command resumes.",
    example="autoseg_pretrain -d ISLES15 --time-budget 6h",
    act=_pretrain,
)


def _slice(store: Store, options: records.SliceOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.slice_dataset import slice_raw

    slice_raw(store, options, progress=terminal.progress)


slice_ = Command(
    name="slice",
    options=records.SliceOptions,
    title="make a dataset of slices",
    summary="Make a dataset whose cases are the slices of another's, to repeat systems split and scored by slice.",
    example="autoseg_slice -d LGG --into LGG_slices",
    act=_slice,
    least_gb=WITHOUT_TORCH_GB,
)


def _subset(store: Store, options: records.SubsetOptions, terminal: Terminal) -> None:
    from autoseg.preparation.subsets import make_subset_file

    terminal.show(make_subset_file(store, options.dataset, options.sizes, seed=options.seed))


subset = Command(
    name="subset",
    options=records.SubsetOptions,
    title="choose smaller training sets for a learning curve",
    summary="Choose smaller training sets of every fold, balanced by lesion volume, each within the next larger one.",
    example="autoseg_subset -d ISLES15 -n 8 16 24 32 40",
    act=_subset,
    least_gb=WITHOUT_TORCH_GB,
)


def _train(store: Store, options: records.TrainOptions, terminal: Terminal) -> None:
    ranks = read_ranks()
    if ranks is None and options.devices > 1:
        quiet = ["--quiet"] * terminal.quiet
        sys.exit(launch([*command_line(options), "--root", str(store.root), *quiet], options.devices))
    from autoseg.pipeline.train import train
    from autoseg.training import ALONE, Ranks

    disable_telemetry()
    stop = StopSignal(with_parent=ranks is not None or options.end_with_parent)
    scores = train(
        store,
        options,
        ranks=ALONE if ranks is None else Ranks(**dict(zip(RANK_FIELDS, (*ranks, read_attempt()), strict=True))),
        should_stop=stop,
        progress=terminal.progress,
    )
    if scores is not None:
        from autoseg.evaluation import render_table

        terminal.show(render_table(scores, width=terminal.width, explain=options.explain_scores))
    stop.exit_if_stopped()


train = Command(
    name="train",
    options=records.TrainOptions,
    title="train one fold, predict and score its held-out cases",
    summary="Train one fold of one configuration, then predict and score its held-out cases. The same command resumes.",
    example="autoseg_train -d ISLES15 -c 3d -f 0 --time-budget 6h",
    act=_train,
)


def _run(store: Store, options: records.RunOptions, terminal: Terminal) -> None:
    from autoseg.evaluation import render_curve, render_experiment
    from autoseg.experiment.learning_curve import draw_curve
    from autoseg.pipeline.run import run, write_script

    if options.script is not None:
        sys.stdout.write(write_script(store, options))
        return
    stop = StopSignal()
    if options.learning_curve is not None:
        curve = draw_curve(store, options, should_stop=stop, progress=terminal.progress)
        terminal.show("" if curve is None else render_curve(curve, width=terminal.width))
    else:
        experiment = run(store, options, should_stop=stop, progress=terminal.progress)
        terminal.show("" if experiment is None else render_experiment(experiment, width=terminal.width))
    stop.exit_if_stopped()


run = Command(
    name="run",
    options=records.RunOptions,
    title="everything: train all folds, compare, choose the best",
    summary="Everything: plan if needed, train every fold of every configuration, compare them and their ensembles "
    "on\nheld-out cases, search post-processing, calibrate, and keep the best for autoseg_predict. The same "
    "command\nresumes.",
    example="autoseg_run -d ISLES15 --time-budget 2h",
    act=_run,
)


def _predict(store: Store, options: records.PredictOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.predict import predict

    masks = predict(store, options, progress=terminal.progress)
    page = f"; {options.output / 'report.html'} shows them, lesions.csv lists their lesions" if options.report else ""
    terminal.show(f"{len(masks)} masks in {options.output}{page}\n")


predict = Command(
    name="predict",
    options=records.PredictOptions,
    title="predict masks of new scans",
    summary="Predict masks of new scans, each on its scan's own grid. The same command resumes.",
    example="autoseg_predict -i scans/ -o masks/",
    act=_predict,
)


def _evaluate(store: Store, options: records.EvaluateOptions, terminal: Terminal) -> None:
    from autoseg.evaluation import render_table
    from autoseg.pipeline.evaluate import evaluate

    scores = evaluate(store, options, progress=terminal.progress)
    terminal.show(render_table(scores, width=terminal.width, explain=options.explain_scores))


evaluate = Command(
    name="evaluate",
    options=records.EvaluateOptions,
    title="score masks against labels",
    summary="Score masks against labels; writes scores.json, scores.csv and scores_summary.csv and shows a table. "
    "The same command resumes.",
    example="autoseg_evaluate -p masks/ -r labels/",
    act=_evaluate,
    least_gb=WITHOUT_TORCH_GB,
)


def _compare(store: Store, options: records.CompareOptions, terminal: Terminal) -> None:
    from autoseg.evaluation import render_comparison
    from autoseg.pipeline.compare import compare

    comparison = compare(store, options, progress=terminal.progress)
    terminal.show(render_comparison(comparison, width=terminal.width, explain=options.explain_scores))


compare = Command(
    name="compare",
    options=records.CompareOptions,
    title="compare folders of scores or masks, case by case",
    summary="Compare folders of scores, or of masks, case by case: mean difference, interval, test, wins and "
    "losses; with three or more, also a ranking.",
    example="autoseg_compare scores_2d/ scores_3d/ -o comparison/",
    act=_compare,
    least_gb=WITHOUT_TORCH_GB,
)


def _report(store: Store, options: records.ReportOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.report import report

    terminal.show(f"report in {report(store, options, progress=terminal.progress)}\n")


report = Command(
    name="report",
    options=records.ReportOptions,
    title="write one HTML file of what was planned, trained and scored",
    summary="Write one HTML file of what was planned, trained and scored; it opens offline and loads nothing.",
    example="autoseg_report -d Hippocampus",
    act=_report,
)


def _info(store: Store, options: records.InfoOptions, terminal: Terminal) -> None:
    from autoseg.core.records import render_record
    from autoseg.pipeline.info import collect_info, render_info

    facts = collect_info(store)
    terminal.show(render_record(facts) if options.json else render_info(facts, width=terminal.width))


info = Command(
    name="info",
    options=records.InfoOptions,
    title="show machine, versions and the models below the root",
    summary="Show this machine, the versions, and every model below the root with channels, labels, cases and scores.",
    example="autoseg_info --json",
    act=_info,
)


def _demo(store: Store, options: records.DemoOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.demo import demonstrate

    terminal.show(demonstrate(store, options, progress=terminal.progress, width=terminal.width))


demo = Command(
    name="demo",
    options=records.DemoOptions,
    title="run everything on synthetic data, in minutes",
    summary="Make a small synthetic dataset and run plan, train, predict and evaluate on it, on the CPU, in minutes.",
    example="autoseg_demo --root /somewhere/with/space",
    act=_demo,
)


def _verify(store: Store, options: records.VerifyOptions, terminal: Terminal) -> None:
    from autoseg.pipeline.verify import render_verification, verify

    result = verify(store, options, progress=terminal.progress)
    terminal.show(render_verification(result))
    if result.failures:
        sys.exit(1)


verify = Command(
    name="verify",
    options=records.VerifyOptions,
    title="verify that this machine trains and predicts as it should",
    summary="Run the real thing on synthetic data of its own, and show a table with a verdict for everything that was "
    "verified\non this device: numbers, resuming, memory, speed. The same command continues, and ends with 1 "
    "where a line failed.",
    example="autoseg_verify --device cuda --minutes 10",
    act=_verify,
)

COMMANDS = {
    command.name: command
    for command in (
        import_,
        import_model,
        check,
        plan,
        subset,
        slice_,
        pretrain,
        train,
        run,
        predict,
        evaluate,
        compare,
        report,
        info,
        demo,
        verify,
    )
}
