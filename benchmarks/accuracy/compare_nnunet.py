"""The same minutes of training on the same cores: held-out scores of autoseg and of nnU-Net.

Run from the root of the repository, once the peer has its own environment:

    python3.11 -m venv .venv-nnunet && .venv-nnunet/bin/pip install -c constraints.txt nnunetv2==2.8.1
    .venv/bin/python benchmarks/accuracy/compare_nnunet.py downloads/Task04_Hippocampus bench --minutes 10

Three systems train fold 0 of the same folds: ``autoseg`` with its preset pocket, ``nnunet`` with the network that it
plans itself, and ``nnunet_small`` with the network, patch and batch of ``autoseg``. All masks are scored by the code of
``autoseg_evaluate``. Each score is one line of ``scores.jsonl`` in the work folder; what has its line is not trained
again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from autoseg.core.records import Fingerprint, Folds, Plan, TrainedFold
from autoseg.datasets import open_dataset
from autoseg.evaluation import Convention
from autoseg.evaluation.scoring import score_masks
from autoseg.model import planned_network

ROOT = Path(__file__).parents[2]
PEER = ROOT / ".venv-nnunet" / "bin" / "python"
SYSTEMS = ("autoseg", "nnunet", "nnunet_small")
CONFIGURATIONS = {"nnunet": "3d_fullres", "nnunet_small": "3d_ours"}
DATASET, NUMBER = "Hippocampus", 4
THEIR_NAME = f"Dataset{NUMBER:03}_{DATASET}"

Row = dict[str, Any]


class Place:
    """The work folder: what both sides have prepared, and what was scored."""

    def __init__(self, folder: Path, peer: Path) -> None:
        self.folder, self.peer = folder.resolve(), peer
        self.arrays = self.folder / "autoseg_preprocessed" / DATASET
        self.results = self.folder / "autoseg_results" / DATASET / "3d" / "fold_0"
        self.scores = self.folder / "scores.jsonl"

    def read_rows(self) -> list[Row]:
        """What was scored so far."""
        return [json.loads(line) for line in self.scores.read_text().splitlines()] if self.scores.exists() else []

    def run_ours(self, command: str, *arguments: str) -> None:
        """One command of autoseg, in this environment."""
        code = f"import sys, autoseg.cli as cli; cli.{command}(sys.argv[1:])"
        subprocess.run([sys.executable, "-c", code, "--root", str(self.folder), *arguments], check=True)

    def run_theirs(self, task: str, job: Row) -> None:
        """One task of ``nnunet_peer.py``, in nnU-Net's environment."""
        (self.folder / "job.json").write_text(json.dumps(job))
        places = {f"nnUNet_{what}": str(self.folder / "nnunet" / what) for what in ("raw", "preprocessed", "results")}
        places["nnUNet_def_n_proc"] = "1"  # processes that write masks, after the training
        command = [str(self.peer), str(Path(__file__).with_name("nnunet_peer.py")), task]
        subprocess.run([*command, str(self.folder / "job.json")], check=True, env={**os.environ, **places})


def main() -> int:
    """Train what is not scored yet, and print all scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="Task04_Hippocampus of the Medical Segmentation Decathlon, unpacked")
    parser.add_argument("folder", type=Path, help="work folder; the same one goes on")
    parser.add_argument("--peer", type=Path, default=PEER, help="a Python that has nnunetv2")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each (default 10)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    args = parser.parse_args()
    if set(args.systems) - {"autoseg"} and not args.peer.exists():
        parser.error(f"{args.peer} does not exist; make it with the commands in: {Path(__file__).name} --help")
    place = Place(args.folder, args.peer)
    place.folder.mkdir(parents=True, exist_ok=True)
    prepare_ours(place, args.source)
    if set(args.systems) - {"autoseg"}:
        prepare_theirs(place)
    for seed in args.seeds:  # a whole round of systems before the next, so that an early stop leaves pairs
        for system in args.systems:
            run = {"system": system, "seed": seed, "minutes": args.minutes}
            if any(run.items() <= row.items() for row in place.read_rows()):
                continue
            print(f"--- {system}, seed {seed}, {args.minutes:g} min", flush=True)
            row = train_ours(place, run) if system == "autoseg" else train_theirs(place, run)
            with place.scores.open("a") as file:
                file.write(json.dumps(row) + "\n")
    print_table([row for row in place.read_rows() if row["minutes"] == args.minutes])
    return 0


def prepare_ours(place: Place, source: Path) -> None:
    """Import and plan."""
    if not (place.folder / "autoseg_raw" / DATASET / "dataset.json").exists():
        place.run_ours("import_", "msd", str(source), "-d", DATASET)
    if not (place.folder / "ours_is_ready").exists():
        place.run_ours("plan", "-d", DATASET, "--preset", "pocket", "--device", "cpu")
        (place.folder / "ours_is_ready").touch()


def prepare_theirs(place: Place) -> None:
    """The same files, the same folds, and our network beside theirs."""
    if (place.folder / "theirs_is_ready").exists():
        return
    raw = place.folder / "nnunet" / "raw" / THEIR_NAME
    raw.parent.mkdir(parents=True, exist_ok=True)
    if not raw.exists():
        raw.symlink_to(place.folder / "autoseg_raw" / DATASET)  # it is laid out as nnU-Net wants it
    plan = read_plan(place)
    made = plan.configurations["3d"]
    fingerprint = Fingerprint.model_validate_json((place.arrays / "fingerprint.json").read_text())
    folds = Folds.model_validate_json((place.arrays / "folds.json").read_text())
    turned = {case.transpose for case in fingerprint.cases}
    if len(turned) > 1:
        sys.exit("the scans' axes differ from file to file, so that one patch has no equal in nnU-Net")
    transpose = turned.pop()
    ours = {
        "file_axes": [transpose[axis] for axis in made.preprocessing.axis_order],
        "patch_size": made.patch_size,
        "batch_size": made.batch_size,
        **made.network.model_dump(include={"features", "kernels", "strides", "encoder_blocks", "decoder_blocks"}),
    }
    splits = [{"train": fold.train, "val": fold.validation} for fold in folds.folds]
    place.run_theirs("prepare", {"dataset": THEIR_NAME, "number": NUMBER, "folds": splits, "ours": ours})
    (place.folder / "theirs_is_ready").touch()


def train_ours(place: Place, run: Row) -> Row:
    """``autoseg_train`` with a time budget."""
    budget = f"{60 * run['minutes']:g}s"
    place.run_ours(
        "train", "-d", DATASET, "-c", "3d", "-f", "0", "--time-budget", budget, "--seed", str(run["seed"]),
        "--device", "cpu", "--restart",
    )  # fmt: skip
    facts = TrainedFold.model_validate_json((place.results / "fold.json").read_text())
    made = read_plan(place).configurations["3d"]
    answer = {
        "steps": facts.steps,
        "trained_s": facts.elapsed_s,
        "weights": count_weights(place),
        "patch_size": made.patch_size,
        "batch_size": made.batch_size,
        "versions": facts.versions,
    }
    return score(place, run, place.results / "validation", answer)


def train_theirs(place: Place, run: Row) -> Row:
    """``BudgetTrainer`` for the same time."""
    answered = place.folder / "answer.json"
    job = {
        "dataset": THEIR_NAME,
        "configuration": CONFIGURATIONS[run["system"]],
        "seed": run["seed"],
        "budget_s": 60 * run["minutes"],
        "answer": str(answered),
    }
    place.run_theirs("train", job)
    answer = json.loads(answered.read_text())
    if run["system"] == "nnunet_small" and answer["weights"] != count_weights(place):
        sys.exit(f"nnU-Net's copy of our network has {answer['weights']} weights, ours {count_weights(place)}")
    return score(place, run, Path(answer.pop("masks")), answer)


def read_plan(place: Place) -> Plan:
    """Our plan."""
    return Plan.model_validate_json((place.arrays / "plan.json").read_text())


def count_weights(place: Place) -> int:
    """Of our network."""
    return sum(weight.numel() for weight in planned_network(read_plan(place), "3d", seed=0).parameters())


def score(place: Place, run: Row, masks: Path, answer: Row) -> Row:
    """Keep the masks, score every held-out case, and make the line."""
    kept = place.folder / "masks" / f"{run['system']}_seed{run['seed']}_{run['minutes']:g}min"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    held_out = Folds.model_validate_json((place.arrays / "folds.json").read_text()).folds[0].validation
    for case in held_out:
        shutil.copy2(masks / f"{case}.nii.gz", kept)
    dataset = open_dataset(place.folder / "autoseg_raw" / DATASET, DATASET)
    found = score_masks(dataset, {case: kept / f"{case}.nii.gz" for case in held_out}, convention=Convention())
    means = {
        label: {metric: numbers.mean for metric, numbers in metrics.items()} for label, metrics in found.summary.items()
    }
    cores = len(os.sched_getaffinity(0))
    return {**run, "date": f"{date.today()}", "cores": cores, "cases": len(held_out), **answer, "scores": means}


def print_table(rows: list[Row]) -> None:
    """One line per run, then the means over seeds."""
    if not rows:
        return
    labels = list(rows[0]["scores"])
    names = [f"{label} {metric}" for label in labels for metric in ("dice", "hd95")]
    print(f"\n| system | seed | steps | batch | weights | {' | '.join(names)} |\n|{'---|' * (5 + len(names))}")
    for system in SYSTEMS:
        own = [row for row in rows if row["system"] == system]
        for row in own:
            _print_line(row, str(row["seed"]), [_pick(row, name) for name in names])
        if len(own) > 1:
            columns = [[value for row in own if (value := _pick(row, name)) is not None] for name in names]
            _print_line(own[0], "mean", [statistics.mean(column) if column else None for column in columns])


def _print_line(row: Row, seed: str, values: list[float | None]) -> None:
    steps = "" if seed == "mean" else row["steps"]
    cells = ["undefined" if value is None else f"{value:.4f}" for value in values]
    print(f"| {row['system']} | {seed} | {steps} | {row['batch_size']} | {row['weights']} | {' | '.join(cells)} |")


def _pick(row: Row, name: str) -> float | None:
    label, _, metric = name.rpartition(" ")
    return row["scores"][label].get(metric)


if __name__ == "__main__":
    sys.exit(main())
