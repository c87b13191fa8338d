"""``autoseg_train``: its options, and its one call of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_device, make_parser, read_count, read_duration
from autoseg.cli.running import Stop, run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


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
    parser.add_argument("--epochs", type=read_count, metavar="N", help="instead of the plan's")
    parser.add_argument("--steps-per-epoch", type=read_count, metavar="N", help="instead of the plan's")
    parser.add_argument(
        "--time-budget", type=read_duration, metavar="TIME", help="train for 90s, 10m or 6h, not by epochs"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the plan's")
    parser.add_argument("--restart", action="store_true", help="begin anew instead of resuming")
    parser.add_argument(
        "--fit", action="store_true", help="where memory runs out, go on with the same training in less memory"
    )
    parser.add_argument(
        "--log",
        nargs="+",
        default=(),
        metavar="TRACKER",
        help="also write the history for tensorboard or wandb; nothing leaves this machine",
    )
    add_device(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.training import train as train_model

        stop = Stop()
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
            restart=args.restart,
            fit=args.fit,
            trackers=args.log,
            should_stop=stop,
            progress=terminal.progress,
        )
        if scores is not None:
            from autoseg.evaluation import render_table

            show(args, render_table(scores))
        if stop.signal is not None:
            sys.exit(128 + stop.signal)

    run_command(parser, argv, act)
