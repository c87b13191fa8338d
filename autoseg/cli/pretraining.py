"""``autoseg_pretrain``: its options, and its one call of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_device, add_workers, make_parser, read_count, read_duration, read_share
from autoseg.cli.running import Stop, run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def pretrain(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_pretrain``."""
    parser = make_parser(
        "autoseg_pretrain",
        "Teach a planned network, without labels, to fill in masked blocks of scans. The same command resumes.",
        "autoseg_pretrain -d ISLES15 --time-budget 6h",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a planned dataset")
    parser.add_argument("-c", "--configuration", help="a name in its plan; left out: the recommended one")
    parser.add_argument(
        "-f", "--fold", default="all", help="look at the training cases of this fold only; left out: at every case"
    )
    parser.add_argument("--scans", type=Path, metavar="FOLDER", help="also look at these scans, which have no labels")
    parser.add_argument(
        "--masked-share", type=read_share, default=0.75, metavar="SHARE", help="of a patch's blocks (default 0.75)"
    )
    parser.add_argument("--epochs", type=read_count, metavar="N", help="instead of the plan's")
    parser.add_argument("--steps-per-epoch", type=read_count, metavar="N", help="instead of the plan's")
    parser.add_argument(
        "--time-budget", type=read_duration, metavar="TIME", help="train for 90s, 10m or 6h, not by epochs"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the plan's")
    parser.add_argument("--restart", action="store_true", help="begin anew instead of resuming")
    add_workers(parser)
    add_device(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        if args.masked_share >= 1:
            parser.error("--masked-share must be below 1: something must be left to see")
        from autoseg.folds.pretraining import pretrain as learn

        stop = Stop()
        folder = learn(
            store,
            args.dataset,
            args.configuration,
            fold_name=args.fold,
            scans=args.scans,
            masked_share=args.masked_share,
            device=args.device,
            epochs=args.epochs,
            steps_per_epoch=args.steps_per_epoch,
            time_budget_s=args.time_budget,
            seed=args.seed,
            restart=args.restart,
            workers=args.workers,
            should_stop=stop,
            progress=terminal.progress,
        )
        if folder is not None:
            show(args, f"{folder}\nnext: autoseg_plan -d {args.dataset} --pretrained {folder} --with-scratch-twin\n")
        if stop.signal is not None:
            sys.exit(128 + stop.signal)

    run_command(parser, argv, act)
