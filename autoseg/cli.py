"""argv -> one call of the pipeline. The only argparse, environment and exit codes.

Exit codes: 0 done; 2 something the user can put right, told in one sentence; 130 or 143 stopped by a signal, to be
continued by the same command. A traceback is a bug of autoseg's.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autoseg.core.errors import AutosegError
from autoseg.terminal import Terminal

if TYPE_CHECKING:
    from autoseg.core.store import Store

Arguments = argparse.Namespace


def import_(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_import``."""
    parser = _parser(
        "autoseg_import",
        "Check a dataset as it was distributed and lay it under autoseg_raw/NAME; the source is never changed.",
        "autoseg_import msd downloads/Task04_Hippocampus -d Hippocampus",
    )
    parser.add_argument("kind", nargs="?", help="isles15, isles22, msd or nnunet; left out: recognised from the files")
    parser.add_argument("source", type=Path, help="the folder the dataset was unpacked into")
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="its name from now on")
    parser.add_argument("--copy", action="store_true", help="copy files instead of linking to them")
    parser.add_argument(
        "--resample-channels", action="store_true", help="bring channels on other grids onto the first channel's grid"
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave bad cases out instead of stopping")

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.importing import import_raw

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

    _run(parser, argv, act)


def plan(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_plan``."""
    parser = _parser(
        "autoseg_plan",
        "Measure a dataset, plan configurations with reasons, split it into folds and preprocess it.",
        "autoseg_plan -d ISLES15 --memory 8",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a folder under autoseg_raw")
    parser.add_argument("--memory", type=_positive, metavar="GB", help="GPU memory to plan for; implies a GPU")
    parser.add_argument(
        "--preset",
        choices=("pocket", "standard", "large", "residual_m", "residual_l", "residual_xl"),
        help="pocket: a laptop without GPU; standard: nnU-Net's size; large: a residual encoder for 24 GB; residual_*: "
        "nnU-Net's own presets M, L, XL. "
        "Left out: as planned before, else standard with a GPU or --memory, else pocket",
    )
    _add_device(parser)
    edited = parser.add_mutually_exclusive_group()
    edited.add_argument("--keep", action="store_true", help="use plan.json as it stands, edited by hand or not")
    edited.add_argument("--replace", action="store_true", help="plan anew over a plan edited by hand (a copy is kept)")
    parser.add_argument("--explain", action="store_true", help="print the reason of every value as a page to read")
    parser.add_argument("--workers", type=_count, metavar="N", help="processes; left out: what cores and memory allow")

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.planning import plan_dataset, show_plan
        from autoseg.pipeline.presets import choose_preset
        from autoseg.planning import explain_plan

        preset, memory_gb = choose_preset(store, args.dataset, args.preset, args.memory, args.device, keep=args.keep)
        made = plan_dataset(
            store,
            args.dataset,
            preset=preset,
            memory_gb=memory_gb,
            edited="keep" if args.keep else "replace" if args.replace else "refuse",
            workers=args.workers,
            progress=terminal.progress,
        )
        _show(args, (explain_plan(made) + "\n" if args.explain else "") + show_plan(store, made))

    _run(parser, argv, act)


def train(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_train``."""
    parser = _parser(
        "autoseg_train",
        "Train one fold of one configuration, then predict and score its held-out cases. The same command resumes.",
        "autoseg_train -d ISLES15 -c 3d -f 0 --time-budget 6h",
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="NAME", help="a planned dataset")
    parser.add_argument("-c", "--configuration", required=True, help="a name in its plan: 2d, 3d, ...")
    parser.add_argument("-f", "--fold", required=True, help="0, 1, ... or all (trains on every case)")
    parser.add_argument("--epochs", type=_count, metavar="N", help="instead of the plan's")
    parser.add_argument("--steps-per-epoch", type=_count, metavar="N", help="instead of the plan's")
    parser.add_argument("--time-budget", type=_duration, metavar="TIME", help="train for 90s, 10m or 6h, not by epochs")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the plan's")
    parser.add_argument("--restart", action="store_true", help="begin anew instead of resuming")
    _add_device(parser)

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.training import train as train_model

        stop = _Stop()
        scores = train_model(
            store,
            args.dataset,
            args.configuration,
            args.fold,
            device=args.device,
            epochs=args.epochs,
            steps_per_epoch=args.steps_per_epoch,
            time_budget_s=args.time_budget,
            seed=args.seed,
            restart=args.restart,
            should_stop=stop,
            progress=terminal.progress,
        )
        if scores is not None:
            from autoseg.evaluation import render_table

            _show(args, render_table(scores))
        if stop.signal is not None:
            sys.exit(128 + stop.signal)

    _run(parser, argv, act)


def predict(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_predict``."""
    parser = _parser(
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
    _add_device(parser)

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
        _show(args, f"{len(masks)} masks in {args.output}\n")

    _run(parser, argv, act)


def evaluate(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_evaluate``."""
    parser = _parser(
        "autoseg_evaluate",
        "Score masks against labels; writes scores.json and scores.csv and shows a table.",
        "autoseg_evaluate -p masks/ -r labels/",
    )
    parser.add_argument("-p", "--predictions", type=Path, required=True, metavar="MASKS", help="a folder of masks")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("-r", "--references", type=Path, metavar="LABELS", help="a folder of labels of the same names")
    given.add_argument("-d", "--dataset", metavar="NAME", help="a dataset under autoseg_raw that holds the labels")
    parser.add_argument("-o", "--output", type=Path, help="where the scores go; left out: beside the masks")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="left out: the default ones")
    parser.add_argument("--allow-missing", action="store_true", help="score what is there when masks are missing")
    parser.add_argument("--workers", type=_count, metavar="N", help="processes; left out: what cores and memory allow")

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.evaluation import DEFAULT_METRICS, render_table
        from autoseg.pipeline.evaluating import evaluate as score

        scores = score(
            store,
            args.predictions,
            references=args.references,
            dataset_name=args.dataset,
            output=args.output,
            metrics=tuple(args.metrics or DEFAULT_METRICS),
            allow_missing=args.allow_missing,
            workers=args.workers,
            progress=terminal.progress,
        )
        _show(args, render_table(scores))

    _run(parser, argv, act)


def demo(argv: Sequence[str] | None = None) -> NoReturn:
    """``autoseg_demo``."""
    parser = _parser(
        "autoseg_demo",
        "Make a small synthetic dataset and run plan, train, predict and evaluate on it, on the CPU, in minutes.",
        "autoseg_demo --root /somewhere/with/space",
    )
    parser.add_argument("--time-budget", type=_duration, default=300.0, metavar="TIME", help="of training (default 5m)")

    def act(args: Arguments, store: Store, terminal: Terminal) -> None:
        from autoseg.pipeline.demonstration import demonstrate

        _show(args, demonstrate(store, time_budget_s=args.time_budget, progress=terminal.progress))

    _run(parser, argv, act)


class _Stop:
    """Asked between steps whether to stop; the first signal lets the step finish, the second ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._notice)

    def _notice(self, number: int, frame: object) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.signal is not None


def _parser(name: str, description: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--root",
        type=Path,
        help="the folder with autoseg_raw, autoseg_preprocessed and autoseg_results; "
        "left out: $AUTOSEG_ROOT, else the current folder",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="warnings and errors only")
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU where there is one"
    )


def _run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    act: Callable[[Arguments, Store, Terminal], None],
) -> NoReturn:
    args = parser.parse_intermixed_args(argv)
    terminal = Terminal(quiet=args.quiet)
    try:
        from autoseg.core.store import Store

        act(args, Store(args.root or Path(os.environ.get("AUTOSEG_ROOT") or ".")), terminal)
    except AutosegError as error:
        _fail(parser, terminal, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        _fail(parser, terminal, f"{error.filename or 'a file'} could not be written ({error.strerror})")
    except KeyboardInterrupt:
        terminal.clear()
        sys.stderr.write(f"{parser.prog}: stopped; the same command goes on where this one was\n")
        sys.exit(128 + signal.SIGINT)
    sys.exit(0)


def _fail(parser: argparse.ArgumentParser, terminal: Terminal, sentence: str) -> NoReturn:
    terminal.clear()
    sys.stderr.write(f"{parser.prog}: error: {sentence}\n")
    sys.exit(2)


def _show(args: Arguments, text: str) -> None:
    if not args.quiet:
        sys.stdout.write(text)


def _duration(text: str) -> float:
    """``90s``, ``10m`` or ``6h`` -> seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; write 90s, 10m or 6h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no positive number")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)
