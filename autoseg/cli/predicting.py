"""``autoseg_predict``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import Arguments, add_device, make_parser
from autoseg.cli.running import run_command, show

if TYPE_CHECKING:
    from autoseg.core.store import Store
    from autoseg.terminal import Terminal


def predict(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_predict``."""
    parser = make_parser(
        "autoseg_predict",
        "Predict masks of new scans, each on its scan's own grid. The same command continues where it was stopped.",
        "autoseg_predict -i scans/ -o masks/",
    )
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        help="a folder of <case>_0000.nii.gz files, of single-channel scans, or of one folder per case",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder that gets the masks")
    parser.add_argument("-d", "--dataset", metavar="NAME", help="which model; left out: the only one that is trained")
    parser.add_argument("-c", "--configuration", help="which configuration; left out: the only one that is trained")
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="left out: the mean of all trained folds")
    parser.add_argument(
        "--resample-channels", action="store_true", help="bring channels on other grids onto the first channel's grid"
    )
    add_device(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.predicting import predict as predict_scans

        masks = predict_scans(
            store,
            args.input,
            args.output,
            dataset=args.dataset,
            configuration=args.configuration,
            folds=args.folds,
            device=args.device,
            resample_channels=args.resample_channels,
            progress=terminal.progress,
        )
        show(args, f"{len(masks)} masks in {args.output}\n")

    run_command(parser, argv, act)
