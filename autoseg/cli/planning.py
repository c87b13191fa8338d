"""``autoseg_plan``: its options, and its one call of the pipeline."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, BooleanOptionalAction
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_device, add_workers, make_parser, read_positive, read_several
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def plan(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_plan``."""
    parser = make_parser(
        "autoseg_plan",
        "Measure a dataset, plan configurations with reasons, split it into folds and preprocess it.",
        "autoseg_plan -d ISLES15 --memory 8",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a folder under autoseg_raw")
    _add_budget(parser)
    _add_folds(parser)
    edited = parser.add_mutually_exclusive_group()
    edited.add_argument("--keep", action="store_true", help="use plan.json as it stands, edited by hand or not")
    edited.add_argument("--replace", action="store_true", help="plan anew over a plan edited by hand (a copy is kept)")
    parser.add_argument("--explain", action="store_true", help="print the reason of every value as a page to read")
    parser.add_argument("--dry-run", action="store_true", help="measure, plan and show, but write nothing")
    parser.add_argument("--schema", action=_ShowSchema, nargs=0, help="print the JSON Schema of plan.json and stop")
    add_workers(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.planning import FoldsWanted, plan_dataset, show_plan
        from autoseg.pipeline.presets import choose_preset
        from autoseg.planning import explain_plan

        wanted = choose_preset(
            store,
            args.dataset,
            args.preset,
            args.memory,
            args.device,
            compat=args.compat,
            networks=args.network,
            class_weights=args.class_weights,
            probe=args.probe,
            keep=args.keep,
        )
        made = plan_dataset(
            store,
            args.dataset,
            wanted=wanted,
            folds=FoldsWanted(file=args.folds, count=args.fold_count, leave_one_site_out=args.leave_one_site_out),
            edited="keep" if args.keep else "replace" if args.replace else "refuse",
            dry_run=args.dry_run,
            workers=args.workers,
            progress=terminal.progress,
        )
        page = explain_plan(made.plan, made.fingerprint, made.folds) + "\n" if args.explain else ""
        show(args, page + show_plan(store, made.plan, dry_run=args.dry_run))

    run_command(parser, argv, act)


def _add_budget(parser: ArgumentParser) -> None:
    parser.add_argument("--memory", type=read_positive, metavar="GB", help="GPU memory to plan for; implies a GPU")
    parser.add_argument(
        "--preset",
        choices=("pocket", "standard", "large", "residual_m", "residual_l", "residual_xl"),
        help="pocket: a laptop without GPU; standard: nnU-Net's size; large: a residual encoder for 24 GB; residual_*: "
        "nnU-Net's own presets M, L, XL. "
        "Left out: as planned before, else standard with a GPU or --memory, else pocket",
    )
    parser.add_argument(
        "--compat",
        choices=("nnunet", "none"),
        help="nnunet: every choice as nnU-Net makes it, with the preset standard or residual_*; none: no longer. "
        "Left out: as planned before, unless --preset says otherwise",
    )
    parser.add_argument(
        "--network",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also plan dynunet, attention_unet, segresnet, residual_unet, unetr or swin_unetr, each as 3d_NAME and "
        "2d_NAME; those planned before stay, none drops them",
    )
    parser.add_argument(
        "--class-weights",
        choices=("frequency", "none"),
        help="frequency: classes count in the loss by the inverse of their share of the voxels; none: no longer. "
        "Left out: as planned before",
    )
    parser.add_argument(
        "--probe",
        action=BooleanOptionalAction,
        help="try a training step of each configuration and plan for less where memory runs out; "
        "left out: on a GPU that the plan is for",
    )
    add_device(parser)


def _add_folds(parser: ArgumentParser) -> None:
    folds = parser.add_mutually_exclusive_group()
    folds.add_argument("--folds", type=Path, metavar="FILE", help="import a folds.json, or nnU-Net's splits_final.json")
    folds.add_argument("--fold-count", type=read_several, metavar="N", help="make N folds (default 5)")
    folds.add_argument("--leave-one-site-out", action="store_true", help="one fold for each site in dataset.json")


class _ShowSchema(Action):
    """Like ``--help``: prints and ends, whatever else is there."""

    def __call__(self, parser: ArgumentParser, *rest: object) -> NoReturn:
        """Called by argparse."""
        from autoseg.core.records import Plan, render_schema

        sys.stdout.write(render_schema(Plan))
        parser.exit()
