"""Masks of imported models against nnU-Net's own, voxel by voxel, and the time of each stage.

    python benchmarks/nnunet_models/compare_masks.py folder --hippocampus Task04_Hippocampus
    python benchmarks/nnunet_models/compare_masks.py folder --only 107 --write-golden tests/transfer/golden

nnU-Net runs in an environment of its own (``--peer``). What is there in the folder already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from made_scans import write_hippocampus, write_regions, write_thick

from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.masks import stack_inputs
from autoseg.core.records import Case
from autoseg.core.store import Store
from autoseg.datasets import find_scans, read_image
from autoseg.model import Model, load_model
from autoseg.options import ImportModelOptions
from autoseg.pipeline.import_model import import_model
from autoseg.prediction import predict_logits, predict_scan
from autoseg.preprocessing import LogitRestorer, nonzero_mask, prepare_case, prepare_label

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HEADER = """\
                                 input    logits   against sums in float32   its own    against nnU-Net as it is
case               voxels    mask  differ by differ by  voxels      Dice    rounding   voxels      Dice"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One dataset, what nnU-Net trains on it, and by how much that is cut down."""

    number: int
    dataset: str
    planner: str
    plans: str
    configurations: tuple[str, ...]
    folds: tuple[int, ...]
    width: int = 4
    epochs: int = 4
    steps: int = 20
    scans: str = ""


PLAIN, RESIDUAL = ("ExperimentPlanner", "nnUNetPlans"), ("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans")
SMALL = 107
RUNS = tuple(
    Run(
        number=number,
        dataset=name,
        planner=kind[0],
        plans=kind[1],
        configurations=configurations,
        folds=folds,
        width=16 if number == SMALL else 4,
    )
    for number, name, kind, configurations, folds in (
        (4, "Dataset004_Hippocampus", PLAIN, ("2d", "3d_fullres"), (0, 1)),
        (105, "Dataset105_Thick", PLAIN, ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"), (0,)),
        (106, "Dataset106_Regions", RESIDUAL, ("3d_fullres",), (0,)),
        (SMALL, "Dataset107_Small", PLAIN, ("3d_fullres",), (0,)),
    )
)


def main() -> int:
    """Make what is missing, compare every case, and say how many lie below the bar."""
    arguments = _read_arguments()
    torch.set_num_threads(1)
    folder: Path = arguments.folder.resolve()
    store = Store(folder / "autoseg")
    worst = np.ones(2)
    for run in (run for run in RUNS if arguments.only in (None, run.number)):
        _make_raw(run, folder, arguments.hippocampus)
        _call_peer(arguments.peer, run, folder)
        models = folder / "results" / run.dataset
        if run.number == SMALL and arguments.write_golden:
            _write_golden(arguments.peer, run, folder, arguments.write_golden)
        for target in import_model(store, ImportModelOptions(dataset=run.dataset, source=models, replace=True)):
            model = load_model(target, None, torch.device("cpu"))
            theirs = next(name for name in run.configurations if target.name in (name, name.replace("_fullres", "")))
            worst = np.minimum(worst, _compare_model(model, run, theirs, folder))
    print(f"\nlowest Dice of a label in a case: {worst[1]:.6f} against sums in float32, {worst[0]:.6f} as it is")
    return int(worst[1] < arguments.bar)


def _compare_model(model: Model, run: Run, configuration: str, folder: Path) -> tuple[float, float]:
    """Print one line per case; the lowest Dice of a label in a case, against both precisions of nnU-Net's sums."""
    print(f"\n{run.dataset} {configuration}, folds {', '.join(model.folds)}")
    print(HEADER)
    peer = folder / "masks" / run.dataset
    stored = json.loads((peer / f"{configuration}_half" / "times.json").read_text())
    lowest, ours_s, theirs_s = np.ones(2), np.zeros(3), np.zeros(3)
    cases, failures = find_scans(folder / "raw" / run.dataset / "imagesTs", model.plan.channels)
    assert cases and not failures
    for case in cases:
        image, logits, mask, seconds = _predict(model, case, folder / "autoseg" / "mask.nii.gz")
        half = _read_theirs(peer / f"{configuration}_half" / case.id)
        full = _read_theirs(peer / f"{configuration}_float32" / case.id)
        dices = [min(_dice(mask == v, other.mask == v) for v in np.unique(mask)) for other in (half, full)]
        print(
            f"{case.id:16}{mask.size:9}{int((full.mask > 0).sum()):8}{_apart(image, full.image):10.1g}"
            f"{_apart(logits, full.logits):10.1g}{int((mask != full.mask).sum()):9}{dices[1]:10.6f}"
            f"{_apart(half.logits, full.logits):12.1g}{int((mask != half.mask).sum()):9}{dices[0]:10.6f}"
        )
        lowest = np.minimum(lowest, dices)
        ours_s += seconds
        theirs_s += stored[case.id]
    for name, spent in (("autoseg", ours_s), ("nnU-Net", theirs_s)):
        read, network, restored = spent / len(cases)
        print(f"{name}: read and prepare {read:.2f} s, network {network:.2f} s, restore and write {restored:.2f} s")
    return float(lowest[0]), float(lowest[1])


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """What nnU-Net made of a case: its network's input (C,Z,Y,X), logits (K,Z,Y,X), and mask on the scan's grid."""

    image: np.ndarray
    logits: np.ndarray
    mask: np.ndarray


def _read_theirs(path: Path) -> Theirs:
    mask, _ = read_voxels(path.with_name(f"{path.name}.nii.gz"))
    with np.load(path.with_name(f"{path.name}.npz")) as stored:
        return Theirs(image=stored["image"], logits=stored["logits"].astype(np.float32), mask=mask)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")


def _predict(model: Model, case: Case, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """The network's input, its logits, the mask on the scan's grid, and the seconds of the three stages."""
    settings, outputs = model.configuration.preprocessing, model.plan.outputs
    begun = time.perf_counter()
    image = read_image(case.id, case.channels, model.plan.channels)
    prior = None if model.source is None else predict_scan(model.source, case.id, image, torch.device("cpu"))
    prepared = prepare_case(case.id, image, None, settings)
    if prior is not None:  # without voxels outside the non-zero region, as in the peer
        cleaned = replace(prior, voxels=prior.voxels * nonzero_mask(image.voxels).astype(prior.voxels.dtype))
        prior = prepare_label(cleaned, prepared.placement, settings)
    inputs = stack_inputs(prepared.image, prior, model.mask_values)
    ready = time.perf_counter()
    logits = predict_logits(
        model.networks,
        inputs,
        model.configuration.tiling,
        outputs=len(outputs.values),
        device=torch.device("cpu"),
    )
    done = time.perf_counter()
    restorer = LogitRestorer(prepared.placement, settings, values=outputs.values, overlap=outputs.overlap)
    restorer.add(logits)
    mask = restorer.finish()
    write_voxels(path, mask.voxels, mask.grid, like=case.channels[0].path)
    return inputs, logits, mask.voxels, [ready - begun, done - ready, time.perf_counter() - done]


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def _make_raw(run: Run, folder: Path, hippocampus: Path | None) -> None:
    target = folder / "raw" / run.dataset
    if (target / "dataset.json").exists():
        return
    if run.number == 4 and hippocampus is None:
        raise SystemExit("--hippocampus is needed for dataset 4, or choose another one with --only")
    target.mkdir(parents=True)
    if run.number == 4 and hippocampus is not None:
        write_hippocampus(hippocampus, target)
    elif run.number == 106:
        write_regions(target)
    else:
        write_thick(target, small=run.number == SMALL)


def _write_golden(python: Path, run: Run, folder: Path, golden: Path) -> None:
    """The small model as nnU-Net exports it, one scan, and what nnU-Net predicts, its sums in float32."""
    (golden / "scans").mkdir(parents=True, exist_ok=True)
    _run_peer(python, "export", run, folder)
    shutil.copyfile(folder / f"{run.dataset}.zip", golden / "model.zip")
    scans = sorted((folder / "raw" / run.dataset / "imagesTs").glob("*.nii.gz"))[-2:]
    for path in scans:
        shutil.copyfile(path, golden / "scans" / path.name)
    case = scans[0].name.removesuffix("_0000.nii.gz")
    theirs = folder / "masks" / run.dataset / f"{run.configurations[0]}_float32" / case
    shutil.copyfile(theirs.with_name(f"{case}.nii.gz"), golden / "mask.nii.gz")
    logits = _read_theirs(theirs).logits
    np.save(golden / "logits_middle_slice.npy", logits[:, logits.shape[1] // 2])


def _call_peer(python: Path, run: Run, folder: Path) -> None:
    results, masks = folder / "results" / run.dataset, folder / "masks" / run.dataset
    last = f"nnUNetTrainerAdam1en3__{run.plans}__{run.configurations[-1]}/fold_{run.folds[-1]}/checkpoint_final.pth"
    if not (results / last).exists():
        _run_peer(python, "train", run, folder)
    if not (masks / f"{run.configurations[-1]}_float32" / "times.json").exists():
        _run_peer(python, "predict", run, folder)


def _run_peer(python: Path, step: str, run: Run, folder: Path) -> None:
    path = folder / f"{run.dataset}.json"
    path.write_text(json.dumps({**asdict(run), "scans": str(folder / "raw" / run.dataset / "imagesTs")}))
    places = {f"nnUNet_{part}": str(folder / part) for part in ("raw", "preprocessed", "results")}
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1"}
    command = [str(python), str(HERE / "nnunet_peer.py"), step, str(folder), str(path)]
    with (folder / f"{run.dataset}_{step}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env={**os.environ, **places, **threads})


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="gets everything that is made")
    parser.add_argument("--hippocampus", type=Path, help="Task04_Hippocampus as unpacked; needed for dataset 4")
    parser.add_argument("--only", type=int, help="number of one dataset")
    parser.add_argument("--peer", type=Path, default=ROOT / ".venv-nnunet" / "bin" / "python")
    parser.add_argument("--bar", type=float, default=0.999, help="lowest Dice of a label in a case that is accepted")
    parser.add_argument("--write-golden", type=Path, help="record the small model for the test suite there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
