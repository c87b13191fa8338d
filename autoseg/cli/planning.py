"""``autoseg_plan``: its options, and its one call of the pipeline."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, BooleanOptionalAction
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from autoseg.cli.arguments import (
    Arguments,
    add_device,
    add_workers,
    make_parser,
    read_positive,
    read_several,
    read_share,
)
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
    _add_transfer(parser)
    _add_folds(parser)
    edited = parser.add_mutually_exclusive_group()
    edited.add_argument("--keep", action="store_true", help="use plan.json as it stands, edited by hand or not")
    edited.add_argument("--replace", action="store_true", help="plan anew over a plan edited by hand (a copy is kept)")
    parser.add_argument("--explain", action="store_true", help="print the reason of every value as a page to read")
    parser.add_argument("--dry-run", action="store_true", help="measure, plan and show, but write nothing")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad cases out instead of stopping")
    parser.add_argument("--schema", action=_ShowSchema, nargs=0, help="print the JSON Schema of plan.json and stop")
    add_workers(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.folds.transfer_files import TransferOptions
        from autoseg.pipeline.plan import plan_dataset, show_plan
        from autoseg.pipeline.planning_defaults import choose_preset
        from autoseg.planning import explain_plan
        from autoseg.preparation import FoldOptions

        transfer = _read_transfer(parser, args)
        wanted = choose_preset(
            store,
            args.dataset,
            args.preset,
            args.memory,
            args.device,
            compat=args.compat,
            networks=args.network,
            recipes=args.recipe,
            class_weights=args.class_weights,
            probe=args.probe,
            keep=args.keep,
        )
        made = plan_dataset(
            store,
            args.dataset,
            wanted=wanted,
            transfer=None if transfer is None else TransferOptions(**transfer),
            folds=FoldOptions(file=args.folds, count=args.fold_count, leave_one_site_out=args.leave_one_site_out),
            edited="keep" if args.keep else "replace" if args.replace else "refuse",
            dry_run=args.dry_run,
            skip_bad=args.skip_bad,
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
        help="also plan dynunet, attention_unet, segresnet, residual_unet, unetr, swin_unetr or any other network, "
        "each as 3d_NAME and 2d_NAME; those planned before stay, none drops them",
    )
    parser.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also plan a published system (s0a to s4c) as a configuration of that name; those planned before stay, "
        "none drops them",
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


def _add_transfer(parser: ArgumentParser) -> None:
    transfer = parser.add_argument_group("beginning with another model")
    transfer.add_argument(
        "--pretrained",
        metavar="MODEL",
        help="add 3d_transfer and 2d_transfer, which begin with this model: a folder of autoseg's or its name "
        "DATASET/CONFIGURATION, a model of nnU-Net's, or a file of weights; none: no longer",
    )
    transfer.add_argument(
        "--mode",
        choices=("full", "partial", "head", "gradual"),
        help="full: everything is trained (default); partial: all but the encoder; head: only the last layer; "
        "gradual: all but the encoder first, then everything",
    )
    transfer.add_argument(
        "--least-share",
        type=read_share,
        metavar="SHARE",
        help="of the parameters that must begin as in the model (default 0.5)",
    )
    transfer.add_argument(
        "--with-scratch-twin", action="store_true", help="also plan the same training with random weights"
    )


def _read_transfer(parser: ArgumentParser, args: Arguments) -> dict[str, Any] | None:
    """What was said of a model to begin with, or None."""
    said = {"mode": args.mode, "least_share": args.least_share, "twin": args.with_scratch_twin or None}
    given = {key: value for key, value in said.items() if value is not None}
    if args.pretrained is None:
        if given:
            parser.error("--mode, --least-share and --with-scratch-twin go with --pretrained MODEL")
        return None
    return {"source": args.pretrained, **given}


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
