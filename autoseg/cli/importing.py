"""``autoseg_import``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, make_parser
from autoseg.cli.running import run_command

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal

# Written out, because the table itself would import what --help must not wait for; a test compares them.
KINDS = "nnunet, msd, isles15, isles22, atlas, brats15, brats, brats23, lgg, wmh, openms, mouse or bids"


def import_(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_import``."""
    parser = make_parser(
        "autoseg_import",
        "Check a dataset as it was distributed and lay it under autoseg_raw/NAME; the source is never changed.",
        "autoseg_import msd downloads/Task04_Hippocampus -d Hippocampus",
    )
    parser.add_argument("kind", nargs="?", help=f"{KINDS}; left out: recognised from the files")
    parser.add_argument("source", type=Path, help="the folder the dataset was unpacked into")
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="its name from now on")
    parser.add_argument("--copy", action="store_true", help="copy files instead of linking to them")
    parser.add_argument(
        "--resample-channels", action="store_true", help="bring channels on other grids onto the first channel's grid"
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave bad cases out instead of stopping")

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.import_dataset import import_raw

        import_raw(
            store,
            args.dataset,
            args.source,
            kind=args.kind,
            copy=args.copy,
            resample_channels=args.resample_channels,
            skip_bad=args.skip_bad,
            progress=terminal.progress,
        )

    run_command(parser, argv, act)
