"""``autoseg_evaluate``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_scoring, add_workers, make_parser
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def evaluate(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_evaluate``."""
    parser = make_parser(
        "autoseg_evaluate",
        "Score masks against labels; writes scores.json, scores.csv and scores_summary.csv and shows a table. "
        "The same command continues where it was stopped.",
        "autoseg_evaluate -p masks/ -r labels/",
    )
    parser.add_argument("-p", "--predictions", type=Path, required=True, metavar="MASKS", help="a folder of masks")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("-r", "--references", type=Path, metavar="LABELS", help="a folder of labels of the same names")
    given.add_argument("-d", "--dataset", metavar="NAME", help="a dataset under autoseg_raw that holds the labels")
    parser.add_argument("-o", "--output", type=Path, help="where the scores go; left out: beside the masks")
    parser.add_argument("-f", "--fold", metavar="FOLD", help="with -d: only the cases that this fold holds out")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="only these cases")
    add_scoring(parser)
    add_workers(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.evaluation import render_table
        from autoseg.evaluation.folders import evaluate as score

        scores = score(
            store,
            args.predictions,
            references=args.references,
            dataset_name=args.dataset,
            output=args.output,
            metrics=args.metrics,
            preset=args.preset,
            fold=args.fold,
            cases=args.cases,
            allow_missing=args.allow_missing,
            workers=args.workers,
            progress=terminal.progress,
        )
        show(args, render_table(scores))

    run_command(parser, argv, act)
