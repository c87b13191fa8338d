"""Recipes s4a to s4c beside the plan's own configurations on LGG, each trained for the same minutes.

    .venv/bin/python benchmarks/systems/lgg.py downloads/kaggle_3m bench --minutes 10

Two protocols. ``honest``: trained on fold 0 of all patients but those of one institution, whose volumes are then
predicted and scored. ``own``: split and scored by slice, as the systems did. Each score is one line of
``scores.jsonl`` in the work folder; what has its line is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import date
from pathlib import Path

from place import Place, Row

from autoseg.core.records import Folds, Plan, Scores, TrainedFold

KEPT_APART = "TCGA_FG_"  # one institution
PATIENTS, APART, SLICES = "LGG", "LGG_apart", "LGG_slices"
RECIPES = ("s4a", "s4b", "s4c")
HONEST, OWN = ("2d", "3d", *RECIPES), ("2d", *RECIPES)
SHOWN = {"honest": ("dice", "iou", "hd95", "lesion_f1"), "own": ("dice", "iou", "accuracy")}


def main() -> int:
    """Train what is not scored yet, and print all scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="kaggle_3m, with a folder for each of 110 patients")
    parser.add_argument("folder", type=Path, help="work folder; the same one goes on")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--protocols", nargs="+", choices=SHOWN, default=list(SHOWN))
    parser.add_argument("--systems", nargs="+", choices=HONEST, default=HONEST)
    parser.add_argument("--preset", default="pocket", help="of the plan's own configurations (default pocket)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--imagenet", action="store_true", help="begin s4b and s4c as published; it needs a network")
    args = parser.parse_args()
    place = Place(args.folder)
    place.folder.mkdir(parents=True, exist_ok=True)
    prepare(place, args)
    for protocol in args.protocols:
        for system in args.systems:
            if protocol == "own" and system not in OWN:
                continue
            run = {"protocol": protocol, "system": system, "seed": args.seed, "minutes": args.minutes}
            if place.has(run):
                continue
            print(f"--- {protocol}: {system}, seed {args.seed}, {args.minutes:g} min", flush=True)
            place.add(train(place, run, args.device))
    print_table([row for row in place.read_rows() if row["minutes"] == args.minutes])
    return 0


def prepare(place: Place, args: argparse.Namespace) -> None:
    """Part the patients, import, cut into slices, and plan."""
    for name, apart in ((PATIENTS, False), (APART, True)):
        linked = place.folder / "links" / name
        for patient in sorted(args.source.resolve().glob("TCGA_*")):
            link = linked / patient.name
            if patient.name.startswith(KEPT_APART) == apart and not link.exists():
                linked.mkdir(parents=True, exist_ok=True)
                link.symlink_to(patient)
        if not place.raw(name).exists():
            place.run("import_", "lgg", str(linked), "-d", name)
    if "own" in args.protocols and not place.raw(SLICES).exists():
        place.run("slice_", "-d", PATIENTS, "--into", SLICES)
    for name in (PATIENTS, SLICES) if "own" in args.protocols else (PATIENTS,):
        if not place.plan(name).exists():
            place.run("plan", "-d", name, "--preset", args.preset, "--device", args.device, "--recipe", *RECIPES)
        adjust(place.plan(name), imagenet=args.imagenet, scoring="slices" if name == SLICES else None)


def adjust(path: Path, *, imagenet: bool, scoring: str | None) -> None:
    """Score all configurations of a plan alike, and take published weights out where no network may fetch them."""
    document = json.loads(path.read_text())
    for configuration in document["configurations"].values():
        configuration["scoring"] = {"preset": scoring}
        if not imagenet:
            configuration["network"]["options"].pop("weights", None)
    path.write_text(json.dumps(document, indent=2) + "\n")


def train(place: Place, run: Row, device: str) -> Row:
    """One system for its minutes, and its scores."""
    dataset = PATIENTS if run["protocol"] == "honest" else SLICES
    budget = f"{60 * run['minutes']:g}s"
    place.run(
        "train", "-d", dataset, "-c", run["system"], "-f", "0", "--time-budget", budget, "--seed", str(run["seed"]),
        "--device", device, "--restart",
    )  # fmt: skip
    here = place.fold(dataset, run["system"])
    facts = TrainedFold.model_validate_json((here / "fold.json").read_text())
    scored = here
    if run["protocol"] == "honest":
        scored = masks = place.folder / "masks" / run["system"]
        scans = place.raw(APART) / "imagesTr"
        place.run("predict", "-i", str(scans), "-o", str(masks), "-d", dataset, "-c", run["system"], "--device", device)
        place.run("evaluate", "-p", str(masks), "-d", APART)
    plan = Plan.model_validate_json((here.parent / "plan.json").read_text())
    made = plan.configurations[run["system"]]
    scores = Scores.model_validate_json((scored / "scores.json").read_text())
    folds = Folds.model_validate_json(place.plan(dataset).with_name("folds.json").read_text())
    return {
        **run,
        "date": f"{date.today()}",
        "cores": len(os.sched_getaffinity(0)),
        "device": device,
        "begins": made.network.options.get("weights") or "at random",
        "network": made.network.name,
        "patch_size": made.patch_size,
        "batch_size": made.batch_size,
        "steps": facts.steps,
        "trained_on": len(folds.folds[0].train),
        "scored": len(scores.cases),
        "versions": facts.versions,
        "scores": {metric: numbers.mean for metric, numbers in scores.summary["lesion"].items()},
    }


def print_table(rows: list[Row]) -> None:
    """A table for each protocol."""
    for protocol, metrics in SHOWN.items():
        own = [row for row in rows if row["protocol"] == protocol]
        if not own:
            continue
        print(f"\n{protocol}: trained on {own[0]['trained_on']}, scored on {own[0]['scored']}")
        print(f"\n| system | begins | seed | steps | batch | {' | '.join(metrics)} |\n|{'---|' * (5 + len(metrics))}")
        for row in own:
            values = [row["scores"].get(metric) for metric in metrics]
            cells = ["undefined" if value is None else f"{value:.4f}" for value in values]
            begin = f"{row['system']} | {row['begins']} | {row['seed']} | {row['steps']} | {row['batch_size']}"
            print(f"| {begin} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
