"""``autoseg_evaluate``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_workers, make_parser
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def evaluate(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_evaluate``."""
    parser = make_parser(
        "autoseg_evaluate",
        "Score masks against labels; writes scores.json and scores.csv and shows a table.",
        "autoseg_evaluate -p masks/ -r labels/",
    )
    parser.add_argument("-p", "--predictions", type=Path, required=True, metavar="MASKS", help="a folder of masks")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("-r", "--references", type=Path, metavar="LABELS", help="a folder of labels of the same names")
    given.add_argument("-d", "--dataset", metavar="NAME", help="a dataset under autoseg_raw that holds the labels")
    parser.add_argument("-o", "--output", type=Path, help="where the scores go; left out: beside the masks")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="left out: the default ones")
    parser.add_argument("--allow-missing", action="store_true", help="score what is there when masks are missing")
    add_workers(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.evaluation import DEFAULT_METRICS, render_table
        from autoseg.pipeline.evaluating import evaluate as score

        scores = score(
            store,
            args.predictions,
            references=args.references,
            dataset_name=args.dataset,
            output=args.output,
            metrics=tuple(args.metrics or DEFAULT_METRICS),
            allow_missing=args.allow_missing,
            workers=args.workers,
            progress=terminal.progress,
        )
        show(args, render_table(scores))

    run_command(parser, argv, act)
