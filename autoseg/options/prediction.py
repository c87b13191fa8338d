"""Options of ``autoseg_predict``, ``autoseg_evaluate``, ``autoseg_compare`` and ``autoseg_report``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from autoseg.options.declaring import Options, option
from autoseg.options.shared import ACCEPT_SPACING, ScoringOptions
from autoseg.options.values import assignment, part, tile_step

Engine = Literal["auto", "torch", "openvino"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Options):
    """Options of ``autoseg_predict``."""

    scans: Path = field(
        metadata=option(
            "-i",
            "--input",
            help="a folder of <case>_0000.nii.gz files, of single-channel scans, of one folder per case, or of DICOM",
            more="Or one file; see [datasets.md](datasets.md#scans-to-predict) and, for folders and zips of DICOM, "
            "[dicom.md](dicom.md).",
            metavar="SCANS",
            parse=Path,
        )
    )
    output: Path = field(
        metadata=option(
            "-o",
            "--output",
            help="folder for the masks",
            more="Not the folder of the scans; of a BIDS dataset `BIDS/derivatives/autoseg`, for derivatives.",
            metavar="MASKS",
            parse=Path,
        )
    )
    dataset: str | None = field(
        default=None,
        metadata=option("-d", "--dataset", help="dataset of the model", default="the only trained one", metavar="NAME"),
    )
    configuration: str | None = field(
        default=None,
        metadata=option(
            "-c",
            "--configuration",
            help="configuration of the model",
            default="what autoseg_run chose, else the only trained one",
        ),
    )
    folds: tuple[str, ...] | None = field(
        default=None,
        metadata=option(
            "-f",
            "--folds",
            help="folds whose networks are averaged",
            more="One fold takes a fifth of the time of five.",
            default="all trained folds",
            metavar="FOLD",
            count="+",
        ),
    )
    channel: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--channel",
            help="of DICOM: the series of a channel, by a pattern of its name or by its number",
            more="`--channel FLAIR=*dark*fluid* T1=4`; see [dicom.md](dicom.md#the-series-of-each-channel).",
            default="by name, weighting and b-value",
            metavar="NAME=PATTERN",
            parse=assignment,
            count="+",
        ),
    )
    dicom_seg: bool = field(
        default=False,
        metadata=option(
            "--dicom-seg",
            help="of DICOM: also write each mask as a DICOM segmentation object, <case>.dcm",
            more="It references the images of the first channel; see "
            "[dicom.md](dicom.md#masks-as-dicom-segmentation-objects).",
        ),
    )
    dicom_patient: bool = field(
        default=False,
        metadata=option(
            "--dicom-patient",
            help="copy the patient's name, number and birth date into the segmentation objects",
            more="Without it they are empty there; they are never written elsewhere.",
        ),
    )
    resample_channels: bool = field(
        default=False,
        metadata=option(
            "--resample-channels",
            help="resample channels on other grids onto the first channel's grid",
            more="Without it they are an error.",
        ),
    )
    orientation: Literal["sform", "qform"] | None = field(
        default=None,
        metadata=option(
            "--orientation",
            help="which of two geometries counts where a NIfTI header states two",
            more="Without it such a scan is an error; see [datasets.md](datasets.md#two-geometries-in-one-header).",
            choices=("sform", "qform"),
            default="an error",
        ),
    )
    accept_spacing: bool = field(default=False, metadata=ACCEPT_SPACING)
    replace: bool = field(
        default=False,
        metadata=option(
            "--replace",
            help="replace files in the output folder that autoseg did not make",
            more="Without it they are an error; a scan is never replaced.",
        ),
    )
    probabilities: bool = field(
        default=False,
        metadata=option(
            "--probabilities", help="also write the probability of every class, <case>.npz", more="See below."
        ),
    )
    report: bool = field(
        default=False,
        metadata=option(
            "--report",
            help="also write report.html, a page of all masks with cases for review, and tables of all lesions",
            more="Also `lesions.csv`, `lesions_per_case.csv` (volumes in ml, centres in mm, mean "
            "probabilities) and `overlays/`; see [report.md](report.md#lesions-of-new-scans). It needs "
            "the memory of `--probabilities`.",
        ),
    )
    doubt: bool = field(
        default=False,
        metadata=option(
            "--doubt",
            help="also predict with each network alone, and list the cases for review; takes twice the time",
            more="`doubts.json` lists them with reasons and doubtful lesions; see "
            "[experiments.md](experiments.md#review).",
        ),
    )
    postprocessing: bool = field(
        default=True,
        metadata=option(
            "--no-postprocessing",
            help="leave masks as the networks predict them",
            more="Otherwise the post-processing that improved held-out cases is applied; see "
            "[experiments.md](experiments.md#after-a-single-fold).",
        ),
    )
    step: float | None = field(
        default=None,
        metadata=option(
            "--step",
            help="distance between tiles, as a share of a tile",
            more="Planned is 0.5; larger is faster and less accurate.",
            default="as planned",
            metavar="SHARE",
            parse=tile_step,
        ),
    )
    mirror: bool | None = field(
        default=None,
        metadata=option(
            "--mirror",
            help="average over mirror images",
            more="Along the plan's `tiling.mirror_axes`, or, where there are none, along the axes that "
            "training mirrored. A plan made for a CPU (preset `pocket`) mirrors there, too; otherwise the"
            " log says what mirroring would cost.",
            default="as planned on a GPU, no on a CPU",
        ),
    )
    engine: Engine = field(
        default="auto",
        metadata=option(
            "--engine",
            help="what computes the network on a CPU; auto: OpenVINO where it is installed, same masks in less time",
            more="See below.",
            choices=("auto", "torch", "openvino"),
        ),
    )
    part: tuple[int, int] = field(
        default=(1, 1),
        metadata=option(
            "--part",
            help="only part N of M, so that M commands can share the work; parts are disjoint",
            more="M commands, on one machine or several, may share both folders.",
            default="all scans",
            metavar="N/M",
            parse=part,
        ),
    )
    device: str = field(
        default="auto",
        metadata=option(
            "--device",
            help="auto, cpu, cuda, several GPUs: cuda:0,cuda:1, or mps: Apple's GPU",
            more="Each GPU gets one process.",
            metavar="DEVICE",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ScoringOptions):
    """Options of ``autoseg_evaluate``."""

    predictions: Path = field(
        metadata=option("-p", "--predictions", help="a folder of masks", metavar="MASKS", parse=Path)
    )
    references: Path | None = field(
        default=None,
        metadata=option(
            "-r",
            "--references",
            help="a folder of labels with the same names, or a dataset in a known layout",
            metavar="LABELS",
            parse=Path,
            exclusive="references",
            one_required=True,
        ),
    )
    dataset: str | None = field(
        default=None,
        metadata=option(
            "-d",
            "--dataset",
            help="a dataset under autoseg_raw that holds the labels",
            metavar="NAME",
            exclusive="references",
            one_required=True,
        ),
    )
    output: Path | None = field(
        default=None,
        metadata=option(
            "-o", "--output", help="folder for the scores", default="beside the masks", metavar="FOLDER", parse=Path
        ),
    )
    fold: str | None = field(
        default=None,
        metadata=option(
            "-f",
            "--fold",
            help="with -d: only the cases that this fold holds out",
            more="The dataset must be planned.",
            metavar="FOLD",
        ),
    )
    cases: tuple[str, ...] | None = field(
        default=None, metadata=option("--cases", help="only these cases", default="all", metavar="CASE", count="+")
    )


@dataclass(frozen=True, kw_only=True)
class CompareOptions(ScoringOptions):
    """Options of ``autoseg_compare``."""

    folders: tuple[Path, ...] = field(
        metadata=option(
            help="folders with scores.json; or, with -r or -d, with masks",
            more="Two or more.",
            metavar="FOLDER",
            parse=Path,
            count="+",
        )
    )
    references: Path | None = field(
        default=None,
        metadata=option(
            "-r",
            "--references",
            help="score masks against this folder of labels",
            metavar="LABELS",
            parse=Path,
            exclusive="references",
        ),
    )
    dataset: str | None = field(
        default=None,
        metadata=option(
            "-d",
            "--dataset",
            help="score masks against a dataset under autoseg_raw",
            metavar="NAME",
            exclusive="references",
        ),
    )
    output: Path | None = field(
        default=None,
        metadata=option(
            "-o",
            "--output",
            help="folder for comparison.json and comparison.csv",
            more="Where masks are scored, also their scores, in a folder for each.",
            default="only the table is shown",
            metavar="FOLDER",
            parse=Path,
        ),
    )
    common_cases: bool = field(
        default=False,
        metadata=option(
            "--common-cases",
            help="compare only the cases that all folders hold",
            more="Without it, other sets of cases are an error.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """Options of ``autoseg_report``."""

    dataset: str = field(
        metadata=option("-d", "--dataset", help="a dataset with at least one trained fold", metavar="NAME")
    )
    output: Path | None = field(
        default=None,
        metadata=option(
            "-o",
            "--output",
            help="file of the report",
            default="report.html beside the models",
            metavar="FILE",
            parse=Path,
        ),
    )
    configuration: str | None = field(
        default=None,
        metadata=option(
            "-c",
            "--configuration",
            help="configuration whose cases are shown",
            default="what autoseg_run chose, else the one with the best scores",
        ),
    )
    pictures: bool = field(
        default=True,
        metadata=option("--no-pictures", help="show no scans; names of cases stay"),
    )
