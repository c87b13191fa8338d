"""Trainings: one fold, pre-training, a whole experiment, a learning curve."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.api.building import Root, build, documented, never, open_store, shown
from autoseg.core.errors import TrainingError
from autoseg.options import PretrainOptions, RunOptions, TrainOptions, command_line

if TYPE_CHECKING:
    from autoseg.core.parallel import Progress
    from autoseg.core.records import Experiment, LearningCurve, Scores
    from autoseg.core.store import Store


@documented(TrainOptions)
def train(
    dataset: str,
    configuration: str,
    fold: str | int,
    *,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    time_budget: str | float | None = None,
    seed: int | None = None,
    subset: int | None = None,
    restart: bool = False,
    fit: bool = False,
    probabilities: bool = False,
    postprocessing: bool = True,
    devices: int = 1,
    trackers: Sequence[str] = (),
    device: str = "auto",
    root: Root = None,
    should_stop: Callable[[], bool] = never,
    progress: Progress | None = None,
) -> Scores | None:
    """Train one fold of one configuration, then predict and score its held-out cases; the same call resumes.

    Returns the scores of the held-out cases; None for the fold ``all``, and where it was stopped.
    """
    options, store = build(TrainOptions, locals()), open_store(root)
    if options.devices > 1:
        return _train_in_processes(store, options)
    from autoseg.pipeline.train import train as command

    return command(store, options, should_stop=should_stop, progress=shown(progress))


def _train_in_processes(store: Store, options: TrainOptions) -> Scores | None:
    """Run ``autoseg train``, which starts a process per device."""
    from autoseg.core.records import Scores
    from autoseg.core.store import read_record
    from autoseg.model import fold_folder
    from autoseg.preparation.subsets import subset_name

    command = [sys.executable, "-m", "autoseg", "train", *command_line(options), "--root", str(store.root)]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise TrainingError(ended.stderr.strip().rpartition(": error: ")[2])
    configuration = (
        options.configuration if options.subset is None else subset_name(options.configuration, options.subset)
    )
    path = fold_folder(store.results(options.dataset, configuration), options.fold) / "scores.json"
    return read_record(Scores, path, advice="run the same call again") if path.exists() else None


@documented(PretrainOptions)
def pretrain(
    dataset: str,
    configuration: str | None = None,
    *,
    fold: str | int = "all",
    scans: str | Path | None = None,
    masked_share: float = 0.75,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    time_budget: str | float | None = None,
    seed: int | None = None,
    restart: bool = False,
    workers: int | None = None,
    device: str = "auto",
    root: Root = None,
    should_stop: Callable[[], bool] = never,
    progress: Progress | None = None,
) -> Path | None:
    """Train a planned network, without labels, to reconstruct masked blocks of scans; the same call resumes.

    Returns its folder, for ``plan(pretrained=...)``; None where it was stopped.
    """
    options = build(PretrainOptions, locals())
    from autoseg.pipeline.pretrain import pretrain as command

    return command(open_store(root), options, should_stop=should_stop, progress=shown(progress))


@documented(RunOptions)
def run(
    dataset: str,
    *,
    configurations: Sequence[str] = (),
    folds: Sequence[str | int] = (),
    target: str = "dice",
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    time_budget: str | float | None = None,
    discard_probabilities: bool = False,
    cluster: str | None = None,
    workers: int | None = None,
    scheduler_host: str | None = None,
    device: str = "auto",
    root: Root = None,
    should_stop: Callable[[], bool] = never,
    progress: Progress | None = None,
) -> Experiment | None:
    """Plan if needed, train every fold, compare all configurations, keep the best; the same call resumes.

    Returns the result; None where it was stopped.
    """
    options = build(RunOptions, locals())
    from autoseg.pipeline.run import run as command

    return command(open_store(root), options, should_stop=should_stop, progress=shown(progress))


@documented(RunOptions)
def learning_curve(
    dataset: str,
    learning_curve: Sequence[int],
    *,
    configurations: Sequence[str] = (),
    folds: Sequence[str | int] = (),
    target: str = "dice",
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    time_budget: str | float | None = None,
    device: str = "auto",
    root: Root = None,
    should_stop: Callable[[], bool] = never,
    progress: Progress | None = None,
) -> LearningCurve | None:
    """Train on ever more cases of each fold, and on all, and score the same held-out cases; the same call resumes.

    Returns the curve; None where it was stopped.
    """
    options = build(RunOptions, locals())
    from autoseg.experiment.learning_curve import draw_curve

    return draw_curve(open_store(root), options, should_stop=should_stop, progress=shown(progress))
