"""``autoseg_predict``: its options, and its one call of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.cli.arguments import ArgumentParser, Arguments, BooleanOptionalAction, make_parser, read_part, read_share
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
    _add_manner(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.predict import PredictionOptions
        from autoseg.pipeline.predict import predict as predict_scans

        masks = predict_scans(
            store,
            args.input,
            args.output,
            dataset=args.dataset,
            configuration=args.configuration,
            folds=args.folds,
            device=args.device,
            options=PredictionOptions(
                resample_channels=args.resample_channels,
                step=args.step,
                mirror=args.mirror,
                probabilities=args.probabilities,
                report=args.report,
                doubt=args.doubt,
                engine=args.engine,
                part=args.part,
            ),
            progress=terminal.progress,
        )
        tables = "; lesions.csv and lesions_per_case.csv tell of them" if args.report else ""
        show(args, f"{len(masks)} masks in {args.output}{tables}\n")

    run_command(parser, argv, act)


def _add_manner(parser: ArgumentParser) -> None:
    """How it is done: probabilities, accuracy against time, and where."""
    parser.add_argument(
        "--probabilities", action="store_true", help="also write the probability of every class, <case>.npz"
    )
    parser.add_argument(
        "--report", action="store_true", help="also write tables of all lesions, and a picture of every case"
    )
    parser.add_argument(
        "--doubt",
        action="store_true",
        help="also let each network predict by itself, and list the cases worth a look; takes twice the time",
    )
    parser.add_argument(
        "--step",
        type=read_share,
        metavar="SHARE",
        help="distance between tiles, as a share of a tile; left out: as planned",
    )
    parser.add_argument(
        "--mirror",
        action=BooleanOptionalAction,
        help="average over mirror images; left out: as planned on a GPU, not on a CPU",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="what computes the network on a CPU; auto: OpenVINO where it is installed, gives the same and is faster",
    )
    parser.add_argument(
        "--part",
        type=read_part,
        default=(1, 1),
        metavar="N/M",
        help="only part N of M, so that M commands can share the work; the parts are disjoint",
    )
    parser.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, or several GPUs: cuda:0,cuda:1"
    )
