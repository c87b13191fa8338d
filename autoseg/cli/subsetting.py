"""``autoseg_subset``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, make_parser, read_count
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def subset(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_subset``."""
    parser = make_parser(
        "autoseg_subset",
        "Choose smaller training sets of every fold, balanced by lesion volume, each within the next larger one.",
        "autoseg_subset -d ISLES15 -n 8 16 24 32 40",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a planned dataset")
    parser.add_argument(
        "-n", "--sizes", required=True, nargs="+", type=read_count, metavar="N", help="numbers of training cases"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the plan's")

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.preparation.subsets import make_subset_file

        show(args, make_subset_file(store, args.dataset, args.sizes, seed=args.seed))

    run_command(parser, argv, act)
