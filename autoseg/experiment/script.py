"""The same experiment as plain array jobs of a queue, for machines without Dask."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.core.errors import UsageError
from autoseg.experiment.requests import Job
from autoseg.options import RunOptions, command_line


def render_script(root: Path, jobs: Sequence[Job], options: RunOptions, *, cascades: frozenset[str]) -> str:
    """A shell script that hands everything to SLURM: an array of trainings, what they feed, and then the comparison.

    Each training is ``autoseg_train``, which goes on where it was when the queue starts it again.

    Args:
        root: of the store.
        jobs: all trainings.
        options: of the experiment.
        cascades: configurations that wait for all others.

    Raises:
        UsageError: a time budget is asked for, which nobody could divide.
    """
    if options.time_budget_s is not None:
        raise UsageError(
            "--script cannot divide a time budget, as nobody knows how many trainings the queue starts at once; give "
            "--epochs, or leave it out"
        )
    dataset = options.dataset
    again = command_line(replace(options, script=None, epochs=None, steps_per_epoch=None))
    first = [job for job in jobs if job.configuration not in cascades]
    then = [job for job in jobs if job.configuration in cascades]
    command = ["autoseg_train", "-d", dataset, "--root", str(root), "--probabilities", "--fit"]
    for option, value in (("--epochs", options.epochs), ("--steps-per-epoch", options.steps_per_epoch)):
        command += [] if value is None else [option, str(value)]
    lines = [
        "#!/bin/bash",
        f"# autoseg_run on {dataset}: {len(jobs)} trainings, then the comparison. Run this script where sbatch is.",
        "# Change what a job may take here:",
        "resources=(--time=24:00:00 --cpus-per-task=8 --mem=32G --gres=gpu:1)",
        "set -euo pipefail",
        "",
        *_array("trainings", first, command, after=None),
    ]
    last = "trainings"
    if then:
        lines += _array("cascades", then, command, after=last)
        last = "cascades"
    compare = shlex.join(["autoseg_run", "--root", str(root), *again])
    lines += [
        'sbatch "${resources[@]}" --job-name=autoseg_compare --dependency=afterok:$' + last + " <<'JOB'",
        "#!/bin/bash",
        f"exec {compare}",
        "JOB",
        'echo "handed in: $' + last + ' and the comparison; squeue --me shows them"',
    ]
    return "\n".join(lines) + "\n"


def _array(name: str, jobs: Sequence[Job], command: Sequence[str], *, after: str | None) -> list[str]:
    """Lines that hand in one array job and keep its number in a variable."""
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
