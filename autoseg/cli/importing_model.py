"""``autoseg_import_model``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, make_parser
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def import_model(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_import_model``."""
    parser = make_parser(
        "autoseg_import_model",
        "Bring a model that nnU-Net v2 trained under autoseg_results/NAME, for autoseg_predict. No code of it is run.",
        "autoseg_import_model downloads/model.zip -d Lesions",
    )
    parser.add_argument("source", type=Path, help="the folder of a model, one above it, or nnU-Net's exported zip")
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="its name from now on")
    parser.add_argument(
        "-c", "--configurations", nargs="+", metavar="CONFIGURATION", help="left out: all that the source holds"
    )
    parser.add_argument("--replace", action="store_true", help="put it in the place of a model of the same name")
    parser.add_argument(
        "--any-trainer", action="store_true", help="also import what a trainer class that is not nnU-Net's own made"
    )

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.import_model import import_model as bring_model

        folders = bring_model(
            store,
            args.dataset,
            args.source,
            configurations=args.configurations or (),
            replace=args.replace,
            any_trainer=args.any_trainer,
            progress=terminal.progress,
        )
        show(args, "".join(f"{folder}\n" for folder in folders))

    run_command(parser, argv, act)
