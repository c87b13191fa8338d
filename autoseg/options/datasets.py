"""Options of the commands that read or make raw datasets, import a model, demonstrate, or verify a machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autoseg.options.declaring import Options, option
from autoseg.options.shared import ACCEPT_SPACING, DeviceOptions, WorkerOptions
from autoseg.options.values import assignment, duration, integer_from, positive

# The table of importers lies above; a test compares them.
KINDS = (
    "nnunet", "msd", "isles15", "isles22", "atlas", "brats15", "brats", "brats23", "lgg", "wmh", "openms", "mouse",
    "bids", "dicom",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImportOptions(Options):
    """Options of ``autoseg_import``."""

    kind: str | None = field(
        default=None,
        metadata=option(
            help=f"layout of the source: {', '.join(KINDS)}",
            more="See [the layouts](datasets.md#layouts-recognised-as-distributed).",
            default="recognised from the files",
        ),
    )
    source: Path = field(
        metadata=option(
            help="the folder the dataset was unpacked into", more="Write it directly after the kind.", parse=Path
        )
    )
    dataset: str = field(
        metadata=option(
            "-d",
            "--dataset",
            help="name of the new dataset",
            more="Letters, digits, `_`, `-`, `+` and `.`.",
            metavar="NAME",
        )
    )
    channel: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--channel",
            help="of DICOM: the channels, and the series of each by a pattern of its name or by its number",
            more="`--channel FLAIR=*dark*fluid* T1=*mprage*`; see [dicom.md](dicom.md#training-data).",
            default="sequences that at least half of the studies have",
            metavar="NAME=PATTERN",
            parse=assignment,
            count="+",
        ),
    )
    copy: bool = field(default=False, metadata=option("--copy", help="copy files instead of linking to them"))
    resample_channels: bool = field(
        default=False,
        metadata=option(
            "--resample-channels",
            help="resample channels on other grids onto the first channel's grid",
            more="Linearly; without it they are an error.",
        ),
    )
    skip_bad: bool = field(
        default=False,
        metadata=option(
            "--skip-bad",
            help="skip bad cases instead of stopping",
            more="Each is recorded in `dataset.json` under `left_out`, with its reason.",
        ),
    )
    accept_spacing: bool = field(default=False, metadata=ACCEPT_SPACING)


@dataclass(frozen=True, kw_only=True)
class ImportModelOptions(Options):
    """Options of ``autoseg_import_model``."""

    source: Path = field(
        metadata=option(
            help="the folder of a model, one above it, or nnU-Net's exported zip",
            more="A model's folder holds `plans.json`, `dataset.json` and `fold_*/checkpoint_final.pth`.",
            parse=Path,
        )
    )
    dataset: str = field(metadata=option("-d", "--dataset", help="name of the imported model", metavar="NAME"))
    configurations: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "-c",
            "--configurations",
            help="configurations to import",
            more="nnU-Net's names or autoseg's.",
            default="all that the source holds",
            metavar="CONFIGURATION",
            count="+",
        ),
    )
    replace: bool = field(
        default=False,
        metadata=option("--replace", help="replace a model of the same name", more="The replaced model is deleted."),
    )
    any_trainer: bool = field(
        default=False,
        metadata=option(
            "--any-trainer",
            help="also import a model of a trainer class that is not nnU-Net's own",
            more="You answer for it that the trainer changed neither network nor preprocessing.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class CheckOptions(WorkerOptions):
    """Options of ``autoseg_check``."""

    dataset: str = field(metadata=option("-d", "--dataset", help="a folder under autoseg_raw", metavar="NAME"))
    output: Path | None = field(
        default=None,
        metadata=option(
            "-o",
            "--output",
            help="file of the page; the suspicions as JSON are written beside it",
            default="check.html under autoseg_preprocessed/NAME",
            metavar="FILE",
            parse=Path,
        ),
    )
    fix: str | None = field(
        default=None,
        metadata=option(
            "--fix",
            help="make a dataset of this name with the repairs that are safe",
            more="The checked dataset is not changed; see [check.md](check.md#safe-repairs).",
            metavar="NAME",
        ),
    )
    pictures: bool = field(default=True, metadata=option("--no-pictures", help="show no scans; names of cases stay"))


@dataclass(frozen=True, kw_only=True)
class SliceOptions(WorkerOptions):
    """Options of ``autoseg_slice``."""

    dataset: str = field(metadata=option("-d", "--dataset", help="a folder under autoseg_raw", metavar="NAME"))
    into: str = field(metadata=option("--into", help="name of the new dataset", metavar="NAME"))
    lesion: bool = field(default=False, metadata=option("--lesion", help="only slices that hold a label"))
    margin: tuple[int, int] = field(
        default=(0, 0),
        metadata=option(
            "--margin",
            help="number of slices to skip at the first and at the last end",
            metavar="N",
            parse=integer_from(0),
            count=2,
        ),
    )
    keep_patients: bool = field(
        default=False,
        metadata=option(
            "--keep-patients", help="keep slices of a patient in one fold, unlike the systems that are repeated"
        ),
    )


@dataclass(frozen=True, kw_only=True)
class InfoOptions(Options):
    """Options of ``autoseg_info``."""

    json: bool = field(
        default=False, metadata=option("--json", help="print JSON, for programs and for reports of problems")
    )


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Options):
    """Options of ``autoseg_demo``."""

    time_budget_s: float = field(
        default=240.0,
        metadata=option("--time-budget", help="time for the training", default="4m", metavar="TIME", parse=duration),
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(DeviceOptions):
    """Options of ``autoseg_verify``."""

    minutes: float = field(
        default=10.0,
        metadata=option(
            "--minutes",
            help="start no further part after so many minutes",
            more="A part that has begun is finished; the same command runs the next ones.",
            default="10",
            metavar="N",
            parse=positive,
        ),
    )
    restart: bool = field(default=False, metadata=option("--restart", help="remove earlier results and start again"))
