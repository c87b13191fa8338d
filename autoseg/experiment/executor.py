"""Executors of an experiment's work: this process, a Dask cluster, or a job script for a queue."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autoseg.core.devices import choose_device
from autoseg.core.errors import AutosegError, StorageError, UsageError
from autoseg.core.parallel import Progress, run_cases
from autoseg.core.store import Store
from autoseg.experiment.cluster import open_cluster, run_cases_on_cluster, train_on_cluster
from autoseg.experiment.records import Job, RunCases, RunTrainings, TrainingRequest, TrainingResult
from autoseg.experiment.train_all import ExperimentProgress
from autoseg.folds.training import train
from autoseg.options import RunOptions, command_line

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Runs the work of an experiment.

    Attributes:
        run_trainings: trains and predicts jobs.
        run_cases: maps a function over cases, as ``run_cases``.
    """

    run_trainings: RunTrainings
    run_cases: RunCases


@contextmanager
def open_executor(
    store: Store,
    options: RunOptions,
    experiment: ExperimentProgress,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> Iterator[Executor]:
    """This process, or the cluster that the options name; sets the experiment's number of parallel slots.

    Raises:
        Stopped: asked to stop while waiting for workers.
        UsageError: as ``open_cluster``.
    """
    if options.cluster is None:
        trainings = _train_here(store, options, experiment, should_stop=should_stop, progress=progress)
        yield Executor(run_trainings=trainings, run_cases=run_cases)
        return
    gpus = torch.cuda.device_count() if choose_device(options.device).type == "cuda" else 0
    with open_cluster(options, store, gpus, should_stop) as cluster:
        experiment.parallel_slots = cluster.parallel_slots
        yield Executor(
            run_trainings=train_on_cluster(cluster, store, options, experiment, should_stop=should_stop),
            run_cases=run_cases_on_cluster(cluster, should_stop),
        )


def _train_here(
    store: Store,
    options: RunOptions,
    experiment: ExperimentProgress,
    *,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> RunTrainings:
    """Jobs one after the other, in this process."""
    numbers = {job: number for number, job in enumerate(experiment.jobs, start=1)}

    def run_trainings(requests: Iterable[TrainingRequest]) -> Iterator[TrainingResult]:
        for request in requests:
            job, failure = request.job, None
            log.info("%d of %d: %s %s%s", numbers[job], len(numbers), options.dataset, job.name, request.describe())
            started, previous_s = time.monotonic(), experiment.trained_s(job)
            try:
                train(store, request.options(options), should_stop=should_stop, progress=progress)
            except StorageError:
                raise  # the next job could not be written either
            except AutosegError as error:
                failure = str(error)
            overhead_s = time.monotonic() - started - (experiment.trained_s(job) - previous_s)
            yield TrainingResult(job=job, failure=failure, stopped=should_stop(), overhead_s=overhead_s)

    return run_trainings


def render_script(root: Path, jobs: Sequence[Job], options: RunOptions, *, cascades: frozenset[str]) -> str:
    """A shell script that submits the experiment to SLURM: an array of trainings, their cascades, then the comparison.

    Each training is ``autoseg_train``, which resumes when the queue starts it again.

    Args:
        root: of the store.
        jobs: all trainings.
        options: of the experiment.
        cascades: configurations that wait for all others.

    Raises:
        UsageError: a time budget, which cannot be divided without knowing how many trainings run at once.
    """
    if options.time_budget_s is not None:
        raise UsageError(
            "--script cannot divide a time budget, because the queue decides how many trainings run at once; use "
            "--epochs, or omit it"
        )
    rerun_arguments = command_line(replace(options, script=None, epochs=None, steps_per_epoch=None))
    command = ["autoseg_train", "-d", options.dataset, "--root", str(root)]
    command += ["--probabilities", "--no-postprocessing", "--fit"]
    for option, value in (("--epochs", options.epochs), ("--steps-per-epoch", options.steps_per_epoch)):
        command += [] if value is None else [option, str(value)]
    lines = [
        "#!/bin/bash",
        f"# autoseg_run on {options.dataset}: {len(jobs)} trainings, then the comparison. Run it where sbatch is.",
        "# Resources of each job:",
        "resources=(--time=24:00:00 --cpus-per-task=8 --mem=32G --gres=gpu:1)",
        "set -euo pipefail",
        "",
        *_array_job("trainings", [job for job in jobs if job.configuration not in cascades], command, after=None),
    ]
    last = "trainings"
    cascade_jobs = [job for job in jobs if job.configuration in cascades]
    if cascade_jobs:
        lines += _array_job("cascades", cascade_jobs, command, after=last)
        last = "cascades"
    lines += [
        'sbatch "${resources[@]}" --job-name=autoseg_compare --dependency=afterok:$' + last + " <<'JOB'",
        "#!/bin/bash",
        f"exec {shlex.join(['autoseg_run', '--root', str(root), *rerun_arguments])}",
        "JOB",
        'echo "submitted: $' + last + ' and the comparison; squeue --me shows them"',
    ]
    return "\n".join(lines) + "\n"


def _array_job(name: str, jobs: Sequence[Job], command: Sequence[str], *, after: str | None) -> list[str]:
    """Lines that submit an array job and store its number in a variable."""
    depends = "" if after is None else f" --dependency=afterok:${after}"
    return [
        f'{name}=$(sbatch --parsable "${{resources[@]}}" --job-name=autoseg_{name} --requeue{depends} '
        f"--array=0-{len(jobs) - 1} <<'JOB'",
        "#!/bin/bash",
        f"configurations=({shlex.join(job.configuration for job in jobs)})",
        f"folds=({shlex.join(job.fold for job in jobs)})",
        f'exec {shlex.join(command)} -c "${{configurations[$SLURM_ARRAY_TASK_ID]}}" '
        '-f "${folds[$SLURM_ARRAY_TASK_ID]}"',
        "JOB",
        ")",
    ]
