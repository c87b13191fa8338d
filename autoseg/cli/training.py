"""``autoseg_train``: its options, and its one call of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import ArgumentParser, Arguments, make_parser, read_count, read_device, read_duration
from autoseg.cli.launching import launch
from autoseg.cli.running import Stop, disable_telemetry, read_attempt, read_ranks, run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal

RANK_FIELDS = ("rank", "world", "local", "neighbours", "attempt")


def train(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_train``."""
    parser = make_parser(
        "autoseg_train",
        "Train one fold of one configuration, then predict and score its held-out cases. The same command resumes.",
        "autoseg_train -d ISLES15 -c 3d -f 0 --time-budget 6h",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a planned dataset")
    parser.add_argument("-c", "--configuration", required=True, help="a name in its plan: 2d, 3d, ...")
    parser.add_argument("-f", "--fold", required=True, help="0, 1, ... or all (trains on every case)")
    _add_length(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the plan's")
    parser.add_argument(
        "--subset", type=read_count, metavar="N", help="train on N of the fold's cases, as autoseg_subset chose them"
    )
    parser.add_argument("--restart", action="store_true", help="begin anew instead of resuming")
    parser.add_argument(
        "--fit", action="store_true", help="where memory runs out, go on with the same training in less memory"
    )
    parser.add_argument(
        "--probabilities", action="store_true", help="also keep the probabilities of the held-out cases"
    )
    _add_machine(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        ranks = read_ranks()
        if ranks is None and args.devices > 1:
            sys.exit(launch(sys.argv[1:] if argv is None else argv, args.devices))
        from autoseg.folds.training import train as train_model
        from autoseg.training import ALONE, Ranks

        disable_telemetry()
        stop = Stop(with_parent=ranks is not None or args.end_with_parent)
        scores = train_model(
            store,
            args.dataset,
            args.configuration,
            args.fold,
            device=args.device,
            epochs=args.epochs,
            steps_per_epoch=args.steps_per_epoch,
            time_budget_s=args.time_budget,
            seed=args.seed,
            subset=args.subset,
            restart=args.restart,
            fit=args.fit,
            trackers=args.log,
            probabilities=args.probabilities,
            ranks=ALONE if ranks is None else Ranks(**dict(zip(RANK_FIELDS, (*ranks, read_attempt()), strict=True))),
            should_stop=stop,
            progress=terminal.progress,
        )
        if scores is not None:
            from autoseg.evaluation import render_table

            show(args, render_table(scores))
        if stop.signal is not None:
            sys.exit(128 + stop.signal)

    run_command(parser, argv, act)


def _add_length(parser: ArgumentParser) -> None:
    """How long is trained."""
    parser.add_argument("--epochs", type=read_count, metavar="N", help="instead of the plan's")
    parser.add_argument("--steps-per-epoch", type=read_count, metavar="N", help="instead of the plan's")
    parser.add_argument(
        "--time-budget", type=read_duration, metavar="TIME", help="train for 90s, 10m or 6h, not by epochs"
    )


def _add_machine(parser: ArgumentParser) -> None:
    """Where, and who is told."""
    parser.add_argument(
        "--devices", type=read_count, default=1, metavar="N", help="train on N GPUs, or in N processes on the CPU"
    )
    parser.add_argument(
        "--log",
        nargs="+",
        default=(),
        metavar="TRACKER",
        help="also write the history for tensorboard, wandb or mlflow; nothing leaves this machine",
    )
    parser.add_argument(
        "--end-with-parent",
        action="store_true",
        help="stop, as after Ctrl-C, when the process that started this one is gone",
    )
    parser.add_argument(
        "--device",
        type=read_device,
        default="auto",
        metavar="DEVICE",
        help="auto takes a GPU where there is one; cpu, cuda, or one GPU of several: cuda:1",
    )
