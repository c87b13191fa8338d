"""The script for SLURM, run by a shell with programs that stand in for the queue and for our own commands."""

import os
import subprocess
from pathlib import Path

import pytest

from autoseg.cli import run as run_command
from autoseg.core.errors import UsageError
from autoseg.experiment.executor import render_script
from autoseg.experiment.jobs import list_jobs
from autoseg.options import RunOptions

# Runs each task of an array at once, then gives a number as sbatch --parsable does.
SBATCH = """#!/bin/bash
cat > job.sh
echo "$@" >> sbatch.txt
last=$(echo "$@" | sed -n 's/.*--array=0-\\([0-9]*\\).*/\\1/p')
for task in $(seq 0 ${last:-0}); do SLURM_ARRAY_TASK_ID=$task bash job.sh; done
echo $((100 + $(wc -l < sbatch.txt)))
"""
COMMAND = '#!/bin/bash\necho "$(basename $0) $@" >> commands.txt\n'


@pytest.fixture
def run_script(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("autoseg_train", COMMAND), ("autoseg_run", COMMAND)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def call(script):
        subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            check=True,
            capture_output=True,
            timeout=30,
        )
        return [(tmp_path / name).read_text().splitlines() for name in ("sbatch.txt", "commands.txt")]

    return call


def make(configurations, cascades=frozenset(), **changes):
    options = RunOptions(dataset="Tiny", **{"epochs": 3, "target": "lesion_f1", **changes})
    return render_script(Path("/data/my root"), list_jobs(configurations, ("0", "1")), options, cascades=cascades)


def test_every_fold_is_trained_and_then_all_is_compared(run_script):
    handed, commands = run_script(make(("3d", "2d")))
    common = "-d Tiny --root /data/my root --probabilities --no-postprocessing --fit --epochs 3"
    assert commands == [
        f"autoseg_train {common} -c 3d -f 0",
        f"autoseg_train {common} -c 3d -f 1",
        f"autoseg_train {common} -c 2d -f 0",
        f"autoseg_train {common} -c 2d -f 1",
        "autoseg_run --root /data/my root -d Tiny --target lesion_f1",
    ]
    assert "--array=0-3" in handed[0]
    assert "--requeue" in handed[0]
    assert "--dependency" not in handed[0]
    assert "--dependency=afterok:101" in handed[1]


def test_a_cascade_waits_for_what_feeds_it(run_script):
    handed, commands = run_script(make(("3d", "3d_cascade"), cascades=frozenset({"3d_cascade"})))
    assert [command.split(" -c ")[1] for command in commands[:4]] == [
        "3d -f 0",
        "3d -f 1",
        "3d_cascade -f 0",
        "3d_cascade -f 1",
    ]
    assert "--dependency=afterok:101" in handed[1]
    assert "--dependency=afterok:102" in handed[2]


def test_a_time_budget_cannot_be_divided():
    with pytest.raises(UsageError, match="--script cannot divide a time budget"):
        make(("3d",), time_budget_s=60)


def test_the_command_prints_it_and_trains_nothing(planned, capsys, run_script):
    with pytest.raises(SystemExit) as stop:
        run_command(["-d", "Tiny", "-c", "2d", "-f", "0", "1", "--root", str(planned), "--script", "slurm", "-q"])
    assert stop.value.code == 0
    _, commands = run_script(capsys.readouterr().out)
    assert [command.split()[0] for command in commands] == ["autoseg_train"] * 2 + ["autoseg_run"]
    assert commands[-1] == f"autoseg_run --root {planned} -d Tiny -c 2d -f 0 1"
    assert not (planned / "autoseg_results" / "Tiny" / "2d").exists()
