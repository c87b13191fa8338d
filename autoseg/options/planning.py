"""Options of ``autoseg_plan`` and ``autoseg_subset``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from autoseg.core.choices import PresetName
from autoseg.core.errors import UsageError
from autoseg.options.declaring import Options, option
from autoseg.options.shared import ACCEPT_SPACING, DEVICES, WorkerOptions
from autoseg.options.values import duration_or_none, fraction, integer, integer_from, positive

Mode = Literal["full", "partial", "head", "gradual"]
TRANSFER = "starting from another model"


@dataclass(frozen=True, kw_only=True)
class PlanOptions(WorkerOptions):
    """Options of ``autoseg_plan``."""

    dataset: str = field(metadata=option("-d", "--dataset", help="a folder under autoseg_raw", metavar="NAME"))
    memory_gb: float | None = field(
        default=None,
        metadata=option(
            "--memory",
            help="GPU memory to plan for; implies a GPU",
            more="Also when this machine has no GPU.",
            metavar="GB",
            parse=positive,
        ),
    )
    preset: PresetName | None = field(
        default=None,
        metadata=option(
            "--preset",
            help="pocket: a laptop without GPU; standard: nnU-Net's size; large: a residual encoder for 24 GB; "
            "residual_*: nnU-Net's own presets M, L, XL",
            default="as in the existing plan, else standard with a GPU or --memory, else pocket",
            choices=get_args(PresetName),
        ),
    )
    time_budget_s: float | Literal["none"] | None = field(
        default=None,
        metadata=option(
            "--time-budget",
            help="time to train one fold of one configuration (90s, 10m or 6h); none: the preset's own length",
            more="The machine's speed is measured on real steps, and resolution, stages and length follow; see "
            "[time.md](time.md). Not with `--compat nnunet`.",
            default="as in the existing plan",
            metavar="TIME",
            parse=duration_or_none,
        ),
    )
    compat: Literal["nnunet", "none"] | None = field(
        default=None,
        metadata=option(
            "--compat",
            help="nnunet: every choice as nnU-Net makes it, with the preset standard or residual_*; none: drop "
            "compatibility",
            more="Axes stay as they are stored.",
            default="as in the existing plan, unless --preset is given",
            choices=("nnunet", "none"),
        ),
    )
    networks: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--network",
            help="also plan dynunet, attention_unet, segresnet, residual_unet, unetr, swin_unetr or any other network, "
            "each as 3d_NAME and 2d_NAME, beside those of the existing plan; none drops these",
            more="See [networks.md](networks.md).",
            metavar="NAME",
            count="+",
        ),
    )
    recipes: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--recipe",
            help="also plan a published system (s0a to s4c) as a configuration of that name, beside those of the "
            "existing plan; none drops these",
            more="See [systems.md](systems.md).",
            metavar="NAME",
            count="+",
        ),
    )
    class_weights: Literal["frequency", "none"] | None = field(
        default=None,
        metadata=option(
            "--class-weights",
            help="frequency: weigh each class in the loss by the inverse of its share of the voxels; none: equal "
            "weights",
            more="Not with `--compat nnunet`, as nnU-Net weighs no classes.",
            default="as in the existing plan",
            choices=("frequency", "none"),
        ),
    )
    probe: bool | None = field(
        default=None,
        metadata=option(
            "--probe",
            help="try a training step of each configuration and plan for less where memory runs out",
            more="The plan records what a step needed.",
            default="yes on a GPU that the plan is for",
        ),
    )
    device: str = field(
        default="auto",
        metadata=option(
            "--device",
            help="auto takes a GPU where there is one",
            more="`cpu` plans as if there were no GPU; `cuda` without a GPU needs `--memory`.",
            choices=DEVICES,
        ),
    )
    pretrained: str | None = field(
        default=None,
        metadata=option(
            "--pretrained",
            help="add 3d_transfer and 2d_transfer, which start from this model: a folder of autoseg's or its name "
            "DATASET/CONFIGURATION, a model of nnU-Net's, or a file of weights; none drops them",
            more="A model of nnU-Net's is a folder or an exported zip. See [transfer.md](transfer.md).",
            metavar="MODEL",
            heading=TRANSFER,
        ),
    )
    mode: Mode | None = field(
        default=None,
        metadata=option(
            "--mode",
            help="full: everything is trained; partial: all but the encoder; head: only the last layer; gradual: all "
            "but the encoder first, then everything",
            default="full",
            choices=get_args(Mode),
            heading=TRANSFER,
        ),
    )
    least_share: float | None = field(
        default=None,
        metadata=option(
            "--least-share",
            help="smallest share of the parameters that must start from the model",
            default="0.5",
            metavar="SHARE",
            parse=fraction,
            heading=TRANSFER,
        ),
    )
    with_scratch_twin: bool = field(
        default=False,
        metadata=option(
            "--with-scratch-twin",
            help="also plan the same training with random weights",
            more="The configurations are `3d_transfer_scratch` and `2d_transfer_scratch`.",
            heading=TRANSFER,
        ),
    )
    folds_file: Path | None = field(
        default=None,
        metadata=option(
            "--folds",
            help="import a folds.json, or nnU-Net's splits_final.json",
            metavar="FILE",
            parse=Path,
            exclusive="folds",
        ),
    )
    fold_count: int | None = field(
        default=None,
        metadata=option(
            "--fold-count",
            help="make N folds",
            default="as in the existing folds, else 5",
            metavar="N",
            parse=integer_from(2),
            exclusive="folds",
        ),
    )
    leave_one_site_out: bool = field(
        default=False,
        metadata=option(
            "--leave-one-site-out",
            help="one fold for each site in dataset.json",
            more="Each fold holds out all cases of that site.",
            exclusive="folds",
        ),
    )
    keep: bool = field(
        default=False,
        metadata=option(
            "--keep",
            help="use plan.json as it is, edited by hand or not",
            more="Also an edited `folds.json`. Options that say what to plan for have no effect then.",
            exclusive="edited",
        ),
    )
    replace: bool = field(
        default=False,
        metadata=option(
            "--replace",
            help="replace a plan that was edited by hand (a copy is kept)",
            more="The edited file is kept as `plan.before.json` or `folds.before.json`.",
            exclusive="edited",
        ),
    )
    explain: bool = field(
        default=False,
        metadata=option(
            "--explain",
            help="print the reason of every value as a page to read",
            more="It says what was found, how it is split, what will be trained and why, and what the words mean.",
        ),
    )
    dry_run: bool = field(
        default=False,
        metadata=option(
            "--dry-run",
            help="measure, plan and show, but write nothing",
            more="Known measures are used; new ones are not kept.",
        ),
    )
    skip_bad: bool = field(
        default=False,
        metadata=option(
            "--skip-bad",
            help="skip bad cases instead of stopping",
            more="They are recorded in `left_out.json` and skipped by training, too, until their files change."
            " Every run of `autoseg_plan` tries them again, so give it again.",
        ),
    )
    accept_spacing: bool = field(default=False, metadata=ACCEPT_SPACING)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained is None and (self.mode or self.least_share is not None or self.with_scratch_twin):
            raise UsageError("--mode, --least-share and --with-scratch-twin need --pretrained MODEL")


@dataclass(frozen=True, kw_only=True)
class SubsetOptions(Options):
    """Options of ``autoseg_subset``."""

    dataset: str = field(metadata=option("-d", "--dataset", help="a planned dataset", metavar="NAME"))
    sizes: tuple[int, ...] = field(
        metadata=option(
            "-n", "--sizes", help="numbers of training cases", metavar="N", parse=integer_from(1), count="+"
        )
    )
    seed: int | None = field(
        default=None,
        metadata=option(
            "--seed",
            help="seed of the choice",
            more="Another seed chooses other cases.",
            default="that of the plan",
            metavar="N",
            parse=integer,
        ),
    )
