"""Options of ``autoseg_train``, ``autoseg_pretrain`` and ``autoseg_run``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autoseg.core.errors import UsageError
from autoseg.options.declaring import option
from autoseg.options.shared import DEVICES, DeviceOptions, LengthOptions, ScoreTableOptions, WorkerOptions
from autoseg.options.values import duration, integer, integer_from, proper_fraction


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DeviceOptions, LengthOptions, ScoreTableOptions):
    """Options of ``autoseg_train``."""

    dataset: str = field(metadata=option("-d", "--dataset", help="a planned dataset", metavar="NAME"))
    configuration: str = field(metadata=option("-c", "--configuration", help="a name in its plan, such as 3d"))
    fold: str = field(
        metadata=option(
            "-f",
            "--fold",
            help="number of the fold, from 0; all trains on every case",
            more="With `all`, nothing is held out and nothing is scored.",
        )
    )
    seed: int | None = field(
        default=None,
        metadata=option("--seed", help="random seed", default="that of the plan", metavar="N", parse=integer),
    )
    subset: int | None = field(
        default=None,
        metadata=option(
            "--subset",
            help="train on N of the fold's cases, as autoseg_subset chose them",
            more="The model lies in `autoseg_results/NAME/CONFIGURATION__nN`; the held-out cases stay the same.",
            metavar="N",
            parse=integer_from(1),
        ),
    )
    restart: bool = field(default=False, metadata=option("--restart", help="remove what was trained and start again"))
    fit: bool = field(
        default=False,
        metadata=option(
            "--fit",
            help="on out-of-memory, resume with a slower, exact, smaller-memory step",
            more="First activation checkpointing, then gradient accumulation; the model's other folds inherit it.",
        ),
    )
    probabilities: bool = field(
        default=False,
        metadata=option(
            "--probabilities",
            help="also keep the class probabilities of the held-out cases",
            more="They are written to `validation/<case>.npz`, as [`autoseg_run`](#autoseg_run) needs them; a "
            "finished fold is predicted again for them.",
        ),
    )
    postprocessing: bool = field(
        default=True,
        metadata=option(
            "--no-postprocessing",
            help="do not search the held-out cases for post-processing that helps",
            more="See [experiments.md](experiments.md#after-a-single-fold).",
        ),
    )
    devices: int = field(
        default=1,
        metadata=option(
            "--devices",
            help="train on N GPUs, or in N processes on the CPU",
            more="Each works on its share of every batch, so N must divide `batch_size`.",
            metavar="N",
            parse=integer_from(1),
        ),
    )
    trackers: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--log",
            help="also write the history for tensorboard, wandb or mlflow; nothing leaves this machine",
            more="`tensorboard` writes to `tensorboard/` of the fold, `wandb` writes offline runs to `wandb/` "
            "(send them with `wandb sync`), `mlflow` writes to `mlflow/mlflow.db` (show it with `mlflow "
            "ui --backend-store-uri sqlite:///` and that file). The package must be installed.",
            metavar="TRACKER",
            count="+",
        ),
    )
    end_with_parent: bool = field(
        default=False,
        metadata=option(
            "--end-with-parent",
            help="stop, as after Ctrl-C, when the process that started this one has ended",
            more="For programs that distribute work.",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(DeviceOptions, WorkerOptions, LengthOptions):
    """Options of ``autoseg_pretrain``."""

    dataset: str = field(metadata=option("-d", "--dataset", help="a planned dataset", metavar="NAME"))
    configuration: str | None = field(
        default=None,
        metadata=option("-c", "--configuration", help="a name in its plan", default="the recommended configuration"),
    )
    fold: str = field(
        default="all",
        metadata=option("-f", "--fold", help="use only the training cases of this fold; all for every case"),
    )
    scans: Path | None = field(
        default=None,
        metadata=option(
            "--scans",
            help="also use these scans without labels",
            more="In any form that `autoseg_predict` takes.",
            metavar="FOLDER",
            parse=Path,
        ),
    )
    masked_share: float = field(
        default=0.75,
        metadata=option(
            "--masked-share", help="share of a patch's blocks to mask", metavar="SHARE", parse=proper_fraction
        ),
    )
    seed: int | None = field(
        default=None,
        metadata=option("--seed", help="random seed", default="that of the plan", metavar="N", parse=integer),
    )
    restart: bool = field(default=False, metadata=option("--restart", help="remove what was trained and start again"))


@dataclass(frozen=True, kw_only=True)
class RunOptions(LengthOptions):
    """Options of ``autoseg_run``."""

    dataset: str = field(
        metadata=option(
            "-d",
            "--dataset",
            help="a folder under autoseg_raw",
            more="It is planned as `autoseg_plan -d NAME` would, if it is not planned yet.",
            metavar="NAME",
        )
    )
    configurations: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "-c",
            "--configurations",
            help="configurations to train",
            more="A cascade's first stage is trained before it.",
            default="all of the plan, 2d_imagenet only where it is recommended",
            metavar="CONFIGURATION",
            count="+",
        ),
    )
    folds: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "-f",
            "--folds",
            help="folds to train",
            default="all",
            metavar="FOLD",
            count="+",
        ),
    )
    target: str = field(
        default="dice",
        metadata=option(
            "--target",
            help="metric that decides, averaged over labels and cases",
            more="See [scores.md](scores.md).",
            metavar="METRIC",
        ),
    )
    time_budget_s: float | None = field(
        default=None,
        metadata=option(
            "--time-budget",
            help="time for everything (90s, 10m or 6h), divided evenly among the trainings",
            more="Predicting and comparing are counted first; the trainings share the rest.",
            metavar="TIME",
            parse=duration,
        ),
    )
    discard_probabilities: bool = field(
        default=False,
        metadata=option(
            "--discard-probabilities",
            help="delete the class probabilities of the held-out cases at the end; a later comparison predicts these "
            "cases again",
        ),
    )
    learning_curve: tuple[int, ...] | None = field(
        default=None,
        metadata=option(
            "--learning-curve",
            help="instead: train the recommended configuration, or those of -c, on N of each fold's cases, and on all",
            more="It writes the mean score of each size to `learning_curve.json` of the dataset's results and "
            "to standard output; see [transfer.md](transfer.md#smaller-training-sets). Not with "
            "`--cluster` or `--script`.",
            metavar="N",
            parse=integer_from(1),
            count="+",
        ),
    )
    script: str | None = field(
        default=None,
        metadata=option(
            "--script",
            help="only print a script that submits everything to the queue as plain array jobs",
            more="`autoseg_run -d NAME --script slurm > run.sh`, then `bash run.sh` where `sbatch` is. It "
            "plans and preprocesses first. Not with a time budget.",
            choices=("slurm",),
            exclusive="where",
        ),
    )
    cluster: str | None = field(
        default=None,
        metadata=option(
            "--cluster",
            help="run trainings and scoring on Dask: local, slurm, pbs, lsf, or a scheduler's address, tcp://HOST:PORT",
            more="It needs `pip install distributed cryptography dask-jobqueue`; see "
            "[experiments.md](experiments.md#several-gpus-or-machines).",
            metavar="WHERE",
            exclusive="where",
        ),
    )
    workers: int | None = field(
        default=None,
        metadata=option(
            "--workers",
            help="number of workers of --cluster",
            default="one per GPU of this machine, or one",
            metavar="N",
            parse=integer_from(1),
        ),
    )
    scheduler_host: str | None = field(
        default=None,
        metadata=option(
            "--scheduler-host",
            help="address on which the scheduler that --cluster starts listens",
            default="this machine only",
            metavar="ADDRESS",
        ),
    )
    device: str = field(
        default="auto", metadata=option("--device", help="auto takes a GPU where there is one", choices=DEVICES)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_curve is not None and (self.script or self.cluster):
            raise UsageError("--learning-curve trains on this machine; leave out --script and --cluster")
