"""``autoseg_compare``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_scoring, add_workers, make_parser
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def compare(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_compare``."""
    parser = make_parser(
        "autoseg_compare",
        "Compare folders of scores, or of masks, case by case: mean difference, interval, test, wins and losses; "
        "with three or more, also a ranking.",
        "autoseg_compare scores_2d/ scores_3d/ -o comparison/",
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="with scores.json; or, with -r or -d, with masks"
    )
    given = parser.add_mutually_exclusive_group()
    given.add_argument("-r", "--references", type=Path, metavar="LABELS", help="score masks against this folder")
    given.add_argument("-d", "--dataset", metavar="NAME", help="score masks against a dataset under autoseg_raw")
    parser.add_argument(
        "-o", "--output", type=Path, help="gets comparison.json and comparison.csv; left out: only the table is shown"
    )
    parser.add_argument(
        "--common-cases", action="store_true", help="compare the cases that all folders hold, leave the others out"
    )
    add_scoring(parser)
    add_workers(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.evaluation import render_comparison
        from autoseg.pipeline.compare import compare as compare_folders

        comparison = compare_folders(
            store,
            args.folders,
            references=args.references,
            dataset_name=args.dataset,
            metrics=args.metrics,
            preset=args.preset,
            common_cases=args.common_cases,
            allow_missing=args.allow_missing,
            output=args.output,
            workers=args.workers,
            progress=terminal.progress,
        )
        show(args, render_comparison(comparison))

    run_command(parser, argv, act)
