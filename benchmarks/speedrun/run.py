"""The best mask per minute: held-out Dice after a few budgets of time, and the time to a Dice.

Run from the root of the repository:

    .venv/bin/python benchmarks/speedrun/run.py hippocampus downloads/Task04_Hippocampus bench --budgets 2m 10m
    .venv/bin/python benchmarks/speedrun/run.py lgg downloads/kaggle_3m bench --budgets 2m 10m --without TCGA_FG

Each training is a line of ``records.jsonl`` in the work folder, with commit, machine and seed; one that has its line is
not repeated. Nothing is set by hand: ``autoseg_plan --time-budget``, then ``autoseg_train`` of the configuration that
the plan recommends.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import autoseg
from autoseg.core.devices import name_processor
from autoseg.core.records import TrainedFold
from autoseg.core.store import Store
from autoseg.options.values import duration
from autoseg.preparation import read_plan

ROOT = Path(__file__).parents[2]
LAYOUTS = {"hippocampus": "msd", "lgg": "lgg"}
TARGETS = {"hippocampus": (0.88,), "lgg": (0.75, 0.80)}
SYSTEMS = ("autoseg", "plain")

Row = dict[str, Any]


def main() -> int:
    """Train what has no record yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=LAYOUTS)
    parser.add_argument("source", type=Path, help="the dataset as it was distributed")
    parser.add_argument("folder", type=Path, help="work folder")
    parser.add_argument("--budgets", nargs="+", default=["2m", "10m"], help="of one training each, 90s, 10m or 1h")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fold", default="1")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["autoseg"])
    parser.add_argument("--configuration", help="instead of the recommended one")
    parser.add_argument("--without", default="", help="leave out cases whose name begins so")
    parser.add_argument("--test", type=Path, help="also predict and score this dataset, of the same layout")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    records = args.folder / "records.jsonl"
    for budget in args.budgets:
        root = prepare(args, budget)
        for system in args.systems:
            for seed in args.seeds:
                job = {"task": args.task, "system": system, "budget": budget, "fold": args.fold, "seed": seed}
                job |= {"configuration": args.configuration or read_plan(Store(root), args.task).recommended}
                if system == "plain":
                    job["configuration"] = "plain"
                if not any(job.items() <= row.items() for row in read_rows(records)):
                    row = job | train(args, root, job) | describe_machine()
                    with records.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    sys.stdout.write(render(read_rows(records), args.task))
    return 0


def prepare(args: argparse.Namespace, budget: str) -> Path:
    """The root of a budget: raw dataset, and the plan for that time."""
    root = args.folder.resolve() / f"{args.task}_{budget}"
    source = args.source.resolve()
    if args.without:
        source = args.folder.resolve() / f"{args.task}_source"
        source.mkdir(exist_ok=True)
        for path in args.source.resolve().iterdir():
            if not path.name.startswith(args.without) and not (source / path.name).exists():
                (source / path.name).symlink_to(path)
    for name, folder in {args.task: source, "test": args.test and args.test.resolve()}.items():
        if folder is not None and not (root / "autoseg_raw" / name).exists():
            run("import", LAYOUTS[args.task], folder, "-d", name, "--root", root)
    if not (root / "autoseg_preprocessed" / args.task / "plan.json").exists():
        run("plan", "-d", args.task, "--device", "cpu", "--time-budget", budget, "--root", root)
    return root


def train(args: argparse.Namespace, root: Path, job: Row) -> Row:
    """One training from the start of its command, and its scores."""
    name, fold, seed = job["configuration"], job["fold"], str(job["seed"])
    results = root / "autoseg_results" / args.task / name / f"fold_{fold}"
    common = ("-d", args.task, "-f", fold, "--seed", seed, "--root", root)
    began = time.monotonic()
    if job["system"] == "plain":
        subprocess.run(
            [sys.executable, Path(__file__).with_name("plain.py"), root, args.task, fold, seed,
             str(duration(job["budget"]))], check=True,
        )  # fmt: skip
    else:
        run("train", *common, "-c", name, "--device", "cpu", "--restart")
    row: Row = {"wall_s": round(time.monotonic() - began, 1)}
    if (results / "fold.json").exists():
        facts = TrainedFold.model_validate_json((results / "fold.json").read_text())
        training = read_plan(Store(root), args.task).configurations[name].training
        row |= {"steps": facts.steps, "train_s": facts.elapsed_s, "precision": training.precision}
    row |= read_scores(results / "scores.json")
    if args.test is not None and job["system"] != "plain":
        masks = root / f"masks_{name}_{fold}_{seed}"
        run("predict", "-i", root / "autoseg_raw" / "test" / "imagesTr", "-o", masks, "-d", args.task, "-c", name,
            "-f", fold, "--device", "cpu", "--root", root)  # fmt: skip
        run("evaluate", "-p", masks, "-d", "test", "-o", masks / "scores", "--root", root)
        row |= {f"test_{key}": value for key, value in read_scores(masks / "scores" / "scores.json").items()}
    return row


def read_scores(path: Path) -> Row:
    """Mean Dice and lesion F1 over labels and cases."""
    cases = json.loads(path.read_text())["cases"]

    def mean(metric: str) -> float | None:
        values = [
            statistics.fmean(scores[metric] for scores in case["scores"].values())
            for case in cases
            if all(scores.get(metric) is not None for scores in case["scores"].values())
        ]
        return round(statistics.fmean(values), 4) if values else None

    return {"dice": mean("dice"), "lesion_f1": mean("lesion_f1")}


def describe_machine() -> Row:
    """Commit, processor and versions."""
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True, cwd=ROOT)
    versions = {"torch": torch.__version__, "autoseg": autoseg.__version__}
    return {"commit": commit.strip(), "machine": name_processor(torch.get_num_threads()), **versions}


def read_rows(path: Path) -> list[Row]:
    """The records so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def render(rows: list[Row], task: str) -> str:
    """Dice by budget, and the shortest budget that reached each target."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["task"] == task:
            groups.setdefault((row["system"], row["configuration"], row["budget"]), []).append(row)
    lines = [
        "| system | configuration | time | seeds | steps | Dice | lesion F1 | test Dice | test lesion F1 |",
        "|" + "---|" * 9,
    ]
    for (system, configuration, budget), found in groups.items():
        means = []
        for key in ("steps", "dice", "lesion_f1", "test_dice", "test_lesion_f1"):
            values = [row[key] for row in found if row.get(key) is not None]
            means.append(
                "-"
                if not values
                else f"{statistics.fmean(values):.0f}"
                if key == "steps"
                else f"{statistics.fmean(values):.3f}"
            )
        seeds = ", ".join(str(row["seed"]) for row in found)
        lines.append(f"| {system} | {configuration} | {budget} | {seeds} | {' | '.join(means)} |")
    for target in TARGETS[task]:
        reached = [
            (duration(budget), system)
            for (system, _, budget), found in groups.items()
            if statistics.fmean(row["dice"] for row in found) >= target
        ]
        lines.append(
            f"time to {target:g}: {f'{min(reached)[0]:g} s ({min(reached)[1]})' if reached else 'not reached'}"
        )
    return "\n".join(lines) + "\n"


def run(command: str, *arguments: object) -> None:
    """One command of autoseg, in a process of its own."""
    words = [sys.executable, "-m", "autoseg", command, *map(str, arguments)]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


if __name__ == "__main__":
    raise SystemExit(main())
