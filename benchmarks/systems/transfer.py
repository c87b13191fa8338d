"""What a transfer is worth: weights that know the anterior hippocampus, beside twins that begin at random.

    .venv/bin/python benchmarks/systems/transfer.py downloads/Task04_Hippocampus bench --minutes 1 3

Half of the scans, with the anterior part as their only label, train the source. The others, with the posterior part as
theirs (or the anterior one, the same task), are parted into two folds: fold 0 trains on few of its cases or on all of
them, from the source's weights and at random, and is scored on the scans that it holds out. Each pair is one line of
``scores.jsonl`` in the work folder; what has its line is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from datetime import date
from pathlib import Path

import numpy as np
from place import Place, Row

from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Folds, ScoresComparison, TrainedFold

SOURCE = "Anterior"
TARGETS = {"posterior": "Posterior", "anterior": "AnteriorOthers"}
VALUES = {"anterior": 1, "posterior": 2}
PAIR = ("3d_transfer_scratch", "3d_transfer")  # a difference is second minus first


def main() -> int:
    """Train what is not compared yet, and print all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="Task04_Hippocampus of the Medical Segmentation Decathlon, unpacked")
    parser.add_argument("folder", type=Path, help="work folder; the same one goes on")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0], help="of each twin (default 1 3)")
    parser.add_argument("--source-minutes", type=float, default=5.0, help="of the source's training (default 5)")
    parser.add_argument("--target", choices=TARGETS, default="posterior", help="what is learned (default posterior)")
    parser.add_argument("--sizes", nargs="+", default=["8", "all"], help="cases to train on (default 8 all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    place = Place(args.folder)
    prepare(place, args)
    for minutes in args.minutes:
        for cases in args.sizes:
            run = {"target": args.target, "cases": cases, "minutes": minutes, "seed": args.seed}
            if not place.has(run):
                print(f"--- {args.target}, {cases} cases, {minutes:g} min, seed {args.seed}", flush=True)
                place.add(train_pair(place, run, args.device))
    print_table(place.read_rows())
    return 0


def prepare(place: Place, args: argparse.Namespace) -> None:
    """Write both datasets, train the source, and plan the target with its twin."""
    files = sorted((args.source / "labelsTr").glob("hippocampus_*.nii.gz"))
    target, half = TARGETS[args.target], len(files) // 2
    for name, part, label in ((SOURCE, files[:half], "anterior"), (target, files[half:], args.target)):
        if not (place.raw(name) / "dataset.json").exists():
            write_dataset(place.raw(name), args.source / "imagesTr", part, label)
    if not (source_fold(place) / "model.safetensors").exists():
        place.run("plan", "-d", SOURCE, "--preset", "pocket", "--device", args.device)
        budget = ("--time-budget", f"{60 * args.source_minutes:g}s", "--seed", str(args.seed))
        place.run("train", "-d", SOURCE, "-c", "3d", "-f", "all", *budget, "--device", args.device)
    few = [size for size in args.sizes if size != "all"]
    if not place.plan(target).exists():
        begin = ("--pretrained", f"{SOURCE}/3d", "--with-scratch-twin", "--fold-count", "2")
        place.run("plan", "-d", target, "--preset", "pocket", "--device", args.device, *begin)
    if few:
        place.run("subset", "-d", target, "-n", *few)


def source_fold(place: Place) -> Path:
    return place.fold(SOURCE, "3d").with_name("fold_all")


def write_dataset(folder: Path, scans: Path, masks: list[Path], label: str) -> None:
    """Scans, and masks of one of their labels alone."""
    for path in masks:
        mask, grid = read_voxels(path)
        scan, scan_grid = read_voxels(scans / path.name)
        name = path.name.removesuffix(".nii.gz")
        write_voxels(folder / "imagesTr" / f"{name}_0000.nii.gz", np.asarray(scan, np.float32), scan_grid)
        write_voxels(folder / "labelsTr" / path.name, (mask == VALUES[label]).astype(np.uint8), grid)
    described = {"channel_names": {"0": "T1"}, "labels": {"background": 0, label: 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**described, "numTraining": len(masks)}, indent=2) + "\n")


def train_pair(place: Place, run: Row, device: str) -> Row:
    """Both twins for the same time, and their paired difference."""
    target, cases = TARGETS[run["target"]], run["cases"]
    kept = place.folder / "pairs" / f"{target}_{cases}_{run['minutes']:g}_{run['seed']}"
    budget = ("--time-budget", f"{60 * run['minutes']:g}s", "--seed", str(run["seed"]))
    options = (*budget, "--device", device, "--restart", *([] if cases == "all" else ["--subset", cases]))
    steps = []
    for configuration in PAIR:
        place.run("train", "-d", target, "-c", configuration, "-f", "0", *options)
        done = place.fold(target, configuration if cases == "all" else f"{configuration}__n{cases}")
        (kept / configuration).mkdir(parents=True, exist_ok=True)
        shutil.copy(done / "scores.json", kept / configuration)
        facts = TrainedFold.model_validate_json((done / "fold.json").read_text())
        steps.append(facts.steps)
    place.run("compare", *(str(kept / configuration) for configuration in PAIR), "-o", str(kept))
    comparison = ScoresComparison.model_validate_json((kept / "comparison.json").read_text())
    source = TrainedFold.model_validate_json((source_fold(place) / "fold.json").read_text())
    fold = Folds.model_validate_json(place.plan(target).with_name("folds.json").read_text()).folds[0]
    return {
        **run,
        "date": f"{date.today()}",
        "cores": len(os.sched_getaffinity(0)),
        "device": device,
        "trained_on": len(fold.train) if cases == "all" else int(cases),
        "scored": len(fold.validation),
        "source_minutes": (source.time_budget_s or 0.0) / 60,
        "steps": dict(zip(PAIR, steps, strict=True)),
        "versions": facts.versions,
        "pairs": [pair.model_dump(mode="json") for pair in comparison.pairs],
    }


def print_table(rows: list[Row]) -> None:
    """Dice, HD95 and lesion F1 of the twins, and what the source's weights add."""
    print("\n| learns | cases | minutes | seed | metric | at random | transfer | difference (95 %) | wins | losses |")
    print(f"|{'---|' * 10}")
    for row in rows:
        for pair in row["pairs"]:
            if pair["metric"] in ("dice", "hd95", "lesion_f1") and pair["label"] == row["target"]:
                values = f"{pair['mean_first']:.3f} | {pair['mean_second']:.3f} | {pair['difference']:+.3f}"
                low, high = pair["interval"]
                asked = f"{row['target']} | {row['trained_on']} | {row['minutes']:g} | {row['seed']} | {pair['metric']}"
                print(f"| {asked} | {values} ({low:+.3f} to {high:+.3f}) | {pair['wins']} | {pair['losses']} |")


if __name__ == "__main__":
    sys.exit(main())
