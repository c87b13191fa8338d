"""``autoseg_report``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, make_parser
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def report(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_report``."""
    parser = make_parser(
        "autoseg_report",
        "Write one HTML file of what was planned, trained and scored; it opens offline and loads nothing.",
        "autoseg_report -d Hippocampus",
    )
    parser.add_argument(
        "-d", "--dataset", required=True, metavar="NAME", help="a dataset with at least one trained fold"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the file; left out: report.html beside the models"
    )
    parser.add_argument(
        "-c",
        "--configuration",
        help="whose cases it goes through; left out: the one that autoseg_run chose, or the one with the best scores",
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="leave the scans out; names of cases stay",
    )

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.report import report as write_report

        path = write_report(
            store,
            args.dataset,
            output=args.output,
            configuration=args.configuration,
            pictures=not args.no_pictures,
            progress=terminal.progress,
        )
        show(args, f"report in {path}\n")

    run_command(parser, argv, act)
