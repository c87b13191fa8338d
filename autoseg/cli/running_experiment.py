"""``autoseg_run``: its options, and its one call of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import ArgumentParser, Arguments, add_device, make_parser, read_count, read_duration
from autoseg.cli.running import Stop, run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.experiment.options import ExperimentOptions
    from autoseg.terminal import Terminal


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_run``."""
    parser = make_parser(
        "autoseg_run",
        "Everything: plan if needed, train every fold of every configuration, compare them and their ensembles on "
        "held-out\ncases, search post-processing, calibrate, and leave the best for autoseg_predict. The same command "
        "resumes.",
        "autoseg_run -d ISLES15 --time-budget 2h",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a folder under autoseg_raw")
    parser.add_argument(
        "-c", "--configurations", nargs="+", default=(), metavar="CONFIGURATION", help="left out: all of the plan"
    )
    parser.add_argument("-f", "--folds", nargs="+", default=(), metavar="FOLD", help="left out: all")
    parser.add_argument(
        "--target", default="dice", metavar="METRIC", help="what decides, averaged over labels and cases (default dice)"
    )
    _add_length(parser)
    parser.add_argument(
        "--discard-probabilities",
        action="store_true",
        help="delete those of the held-out cases at the end; comparing again would predict these cases again",
    )
    parser.add_argument(
        "--learning-curve",
        nargs="+",
        type=read_count,
        metavar="N",
        help="instead: train the recommended configuration, or those of -c, on N of each fold's cases, and on all",
    )
    _add_cluster(parser)
    add_device(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.experiment.table import render_experiment
        from autoseg.pipeline.run import run as run_experiment
        from autoseg.pipeline.run import write_script

        if args.learning_curve is not None:
            _draw_curve(parser, args, store, terminal)
            return
        options = _read_options(args)
        if args.script is not None:
            sys.stdout.write(write_script(store, args.dataset, options, _read_again(args)))
            return
        stop = Stop()
        found = run_experiment(store, args.dataset, options, should_stop=stop, progress=terminal.progress)
        if found is not None:
            show(args, render_experiment(found))
        if stop.signal is not None:
            sys.exit(128 + stop.signal)

    run_command(parser, argv, act)


def _draw_curve(parser: ArgumentParser, args: Arguments, store: Store, terminal: Terminal) -> None:
    """``--learning-curve``."""
    if args.script is not None or args.cluster is not None:
        parser.error("--learning-curve trains on this machine; leave out --script and --cluster")
    from autoseg.experiment.learning_curve import draw_curve, render_curve

    stop = Stop()
    found = draw_curve(
        store,
        args.dataset,
        args.learning_curve,
        _read_options(args),
        should_stop=stop,
        progress=terminal.progress,
    )
    if found is not None:
        show(args, render_curve(found))
    if stop.signal is not None:
        sys.exit(128 + stop.signal)


def _read_options(args: Arguments) -> ExperimentOptions:
    from autoseg.experiment.cluster import ClusterOptions
    from autoseg.experiment.options import ExperimentOptions
    from autoseg.experiment.requests import Length

    cluster = None
    if args.cluster is not None:
        cluster = ClusterOptions(address=args.cluster, workers=args.workers, host=args.scheduler_host)
    return ExperimentOptions(
        configurations=tuple(args.configurations),
        folds=tuple(args.folds),
        target=args.target,
        device=args.device,
        length=Length(time_budget_s=args.time_budget, epochs=args.epochs, steps_per_epoch=args.steps_per_epoch),
        cluster=cluster,
        keep_probabilities=not args.discard_probabilities,
    )


def _read_again(args: Arguments) -> list[str]:
    """What the command that compares at the end must be told of these options."""
    words = ["--target", args.target]
    words += ["-c", *args.configurations] if args.configurations else []
    words += ["-f", *args.folds] if args.folds else []
    return words + ["--discard-probabilities"] * args.discard_probabilities


def _add_length(parser: ArgumentParser) -> None:
    """How long folds are trained."""
    parser.add_argument(
        "--time-budget",
        type=read_duration,
        metavar="TIME",
        help="90s, 10m or 6h for all of it, trainings in equal parts",
    )
    parser.add_argument("--epochs", type=read_count, metavar="N", help="of each training, instead of the plan's")
    parser.add_argument(
        "--steps-per-epoch", type=read_count, metavar="N", help="of each training, instead of the plan's"
    )


def _add_cluster(parser: ArgumentParser) -> None:
    """Where the work is done, if not here."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--script",
        choices=("slurm",),
        help="only print a script that hands everything to the queue as plain array jobs",
    )
    where.add_argument(
        "--cluster",
        metavar="WHERE",
        help="hand folds and scores to Dask: local, slurm, pbs, lsf, or a scheduler's address, tcp://HOST:PORT",
    )
    parser.add_argument(
        "--workers", type=read_count, metavar="N", help="of --cluster; left out: one per GPU of this machine, or one"
    )
    parser.add_argument(
        "--scheduler-host",
        metavar="ADDRESS",
        help="where the scheduler that --cluster starts listens; left out: this machine alone",
    )
