"""``autoseg_demo``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, make_parser, read_duration
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def demo(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_demo``."""
    parser = make_parser(
        "autoseg_demo",
        "Make a small synthetic dataset and run plan, train, predict and evaluate on it, on the CPU, in minutes.",
        "autoseg_demo --root /somewhere/with/space",
    )
    parser.add_argument(
        "--time-budget", type=read_duration, default=300.0, metavar="TIME", help="of training (default 5m)"
    )

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.demo import demonstrate

        show(args, demonstrate(store, time_budget_s=args.time_budget, progress=terminal.progress))

    run_command(parser, argv, act)
