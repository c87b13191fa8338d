"""``autoseg_slice``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_workers, make_parser, read_margin
from autoseg.cli.running import run_command

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def slice_(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_slice``."""
    parser = make_parser(
        "autoseg_slice",
        "Make a dataset whose cases are the slices of another's, to repeat what was split and scored by slice.",
        "autoseg_slice -d LGG --into LGG_slices",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a folder under autoseg_raw")
    parser.add_argument("--into", required=True, metavar="NAME", help="name of the new dataset")
    parser.add_argument("--lesion", action="store_true", help="only slices that hold a label")
    parser.add_argument(
        "--margin", nargs=2, type=read_margin, default=(0, 0), metavar="N", help="slices left out at either end"
    )
    parser.add_argument(
        "--keep-patients", action="store_true", help="keep slices of a patient in one fold, which those systems did not"
    )
    add_workers(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.datasets.slicing import SliceOptions
        from autoseg.pipeline.slice_dataset import slice_raw

        wanted = SliceOptions(
            kept="lesion" if args.lesion else "all", margin=tuple(args.margin), keep_patients=args.keep_patients
        )
        slice_raw(store, args.dataset, args.into, wanted, workers=args.workers, progress=terminal.progress)

    run_command(parser, argv, act)
