"""Options that several commands have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autoseg.options.declaring import Options, option
from autoseg.options.values import duration, integer_from, one_device

DEVICES = ("auto", "cpu", "cuda")
# Names of scoring, whose table lies above; a test compares them.
SCORING_PRESETS = ("isles22", "isles24", "atlas", "brats", "wmh", "slices", "nnunet")
ACCEPT_SPACING = option(
    "--accept-spacing",
    help="use scans of a size that no head has",
    more="Without it a scan whose longest side is below 2 mm or above 1000 mm is an error.",
)


@dataclass(frozen=True, kw_only=True)
class CommonOptions(Options):
    """Options of every command."""

    root: Path | None = field(
        default=None,
        metadata=option(
            "--root",
            help="folder with autoseg_raw, autoseg_preprocessed and autoseg_results",
            default="$AUTOSEG_ROOT, else the current folder",
            metavar="FOLDER",
            parse=Path,
        ),
    )
    quiet: bool = field(default=False, metadata=option("-q", "--quiet", help="warnings and errors only"))
    full_paths: bool = field(
        default=False,
        metadata=option(
            "--full-paths",
            help="write whole paths to run.json and run.log",
            more="By default they name what lies below the root, and of other paths the last part.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(Options):
    """Number of processes."""

    workers: int | None = field(
        default=None,
        metadata=option(
            "--workers",
            help="number of processes",
            default="what cores and memory allow",
            metavar="N",
            parse=integer_from(1),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    """Device of a training."""

    device: str = field(
        default="auto",
        metadata=option(
            "--device",
            help="auto (a GPU where there is one), cpu, cuda, one GPU of several: cuda:1, or mps: Apple's GPU",
            metavar="DEVICE",
            parse=one_device,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class LengthOptions(Options):
    """Length of a training."""

    epochs: int | None = field(
        default=None,
        metadata=option("--epochs", help="number of epochs", default="as planned", metavar="N", parse=integer_from(1)),
    )
    steps_per_epoch: int | None = field(
        default=None,
        metadata=option(
            "--steps-per-epoch", help="steps per epoch", default="as planned", metavar="N", parse=integer_from(1)
        ),
    )
    time_budget_s: float | None = field(
        default=None,
        metadata=option(
            "--time-budget",
            help="train for this time (90s, 10m or 6h) instead of a number of epochs",
            more="The learning rate follows the clock.",
            metavar="TIME",
            parse=duration,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ScoreTableOptions(Options):
    """Table of scores on the screen."""

    explain_scores: bool = field(
        default=False,
        metadata=option(
            "--explain-scores",
            help="define every score below the table",
            more="The same text is in `scores.json`, and in [scores.md](scores.md).",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(WorkerOptions, ScoreTableOptions):
    """Metrics and conventions of scoring."""

    preset: str | None = field(
        default=None,
        metadata=option(
            "--preset",
            help="metrics and conventions of a challenge or of nnU-Net",
            more="See [scores.md](scores.md#presets).",
            choices=SCORING_PRESETS,
        ),
    )
    metrics: tuple[str, ...] | None = field(
        default=None,
        metadata=option(
            "--metrics",
            help="metrics to compute; all for every metric",
            more="`all` leaves out `average_precision`, which needs probabilities. With a preset, its "
            "conventions hold.",
            default="those of the preset, else the default metrics",
            metavar="METRIC",
            count="+",
        ),
    )
    allow_missing: bool = field(
        default=False,
        metadata=option(
            "--allow-missing",
            help="count a missing mask as the worst possible score",
            more="See [scores.md](scores.md#missing-masks); without it a missing mask is an error.",
        ),
    )
