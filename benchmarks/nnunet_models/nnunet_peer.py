"""Plans, trains for a moment, and predicts with nnU-Net itself. Needs nnunetv2, not autoseg.

    python nnunet_peer.py train folder run.json
    python nnunet_peer.py predict folder run.json
    python nnunet_peer.py export folder run.json

``nnUNet_raw``, ``nnUNet_preprocessed`` and ``nnUNet_results`` must name folders in ``folder``; ``run.json`` says which
dataset, planner, configuration, and by how much the training is cut down.
"""

import json
import os
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess_dataset,
)
from nnunetv2.inference import export_prediction, predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam1en3
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

CASCADE = "3d_cascade_fullres"
LOW_RESOLUTION = 1.6  # times the spacing of 3d_fullres


def train(run: dict[str, Any]) -> None:
    """Its own planner and trainer; only the network's width, the batch and the number of steps are cut down."""
    number, home = run["number"], Path(nnUNet_preprocessed) / run["dataset"]
    path = home / f"{run['plans']}.json"
    if not (home / "prepared").exists():
        os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 - its planner takes this for a number of threads
        extract_fingerprints([number], num_processes=1, check_dataset_integrity=True)
        plan_experiments([number], run["planner"])
        plans = json.loads(path.read_text())
        _cut_down(plans, run["width"])
        path.write_text(json.dumps(plans, indent=4))
        own = [name for name in run["configurations"] if name != CASCADE]
        preprocess_dataset(number, run["plans"], own, [1], show_progress_bar=False)
        (home / "prepared").touch()
    plans, dataset = json.loads(path.read_text()), json.loads((home / "dataset.json").read_text())
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - augmentation in the training's own thread
    for configuration in run["configurations"]:
        for fold in run["folds"]:
            torch.manual_seed(fold)
            np.random.seed(fold)  # noqa: NPY002 - what its augmentation draws from
            # Of its own trainers one that gets somewhere within a hundred steps.
            trainer = nnUNetTrainerAdam1en3(
                {**deepcopy(plans), "continue_training": False}, configuration, fold, dataset, torch.device("cpu")
            )
            trainer.num_epochs = run["epochs"]
            trainer.num_iterations_per_epoch = run["steps"]
            trainer.num_val_iterations_per_epoch = 1
            if configuration != CASCADE:
                trainer.run_training()
                continue
            # To train it, five folds of the low resolution must have predicted all cases: it stays as initialised.
            trainer.initialize()
            trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
            for name, content in (("plans", plans), ("dataset", dataset)):
                (Path(trainer.output_folder_base) / f"{name}.json").write_text(json.dumps(content))


def _cut_down(plans: dict[str, Any], width: int) -> None:
    made = plans["configurations"]
    for configuration in made.values():
        if "architecture" in configuration:
            stages = configuration["architecture"]["arch_kwargs"]
            stages["features_per_stage"] = [max(4, n // width) for n in stages["features_per_stage"]]
        if "batch_size" in configuration:
            configuration["batch_size"] = min(configuration["batch_size"], 6)
    # So small a dataset gets no low resolution by itself.
    made["3d_lowres"] = {
        "inherits_from": "3d_fullres",
        "data_identifier": f"{plans['plans_name']}_3d_lowres",
        "spacing": [LOW_RESOLUTION * s for s in made["3d_fullres"]["spacing"]],
        "next_stage": CASCADE,
    }
    made[CASCADE] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}


def predict(run: dict[str, Any], folder: Path) -> None:
    """Masks of the new scans and the time of each stage, also with sums that are not rounded to half precision."""
    # Its own search imports every trainer, and some need packages that not every environment has.
    predict_from_raw_data.recursive_find_trainer_class_by_name = lambda name: nnUNetTrainerAdam1en3
    scans = Path(run["scans"])
    files: dict[str, list[str]] = {}
    for path in sorted(scans.glob("*.nii.gz")):
        files.setdefault(path.name[: -len("_0000.nii.gz")], []).append(str(path))
    for configuration in run["configurations"]:
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        model = Path(nnUNet_results) / run["dataset"] / f"nnUNetTrainerAdam1en3__{run['plans']}__{configuration}"
        predictor.initialize_from_trained_model_folder(str(model), tuple(run["folds"]))
        for precision in ("half", "float32"):
            out = folder / "masks" / run["dataset"] / f"{configuration}_{precision}"
            out.mkdir(parents=True, exist_ok=True)
            prior = out.with_name(f"3d_lowres_{precision}") if configuration == CASCADE else None
            times = {case: _predict_case(predictor, own, out / case, precision, prior) for case, own in files.items()}
            (out / "times.json").write_text(json.dumps(times))


def _predict_case(
    predictor: nnUNetPredictor, paths: list[str], out: Path, precision: str, prior: Path | None
) -> list[float]:
    """One case, stage by stage as ``predict_from_files_sequential`` does; seconds of the three stages."""
    begun = time.perf_counter()
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    data, mask, properties = preprocessor.run_case(
        paths,
        None if prior is None else _clean_prior(prior / f"{out.name}.nii.gz", paths, out),
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.dataset_json,
    )
    if prior is not None:
        masks = convert_labelmap_to_one_hot(mask[0], predictor.label_manager.foreground_labels, data.dtype)
        data = np.vstack((data, masks))
    ready = time.perf_counter()
    half, gaussian = torch.half, predict_from_raw_data.compute_gaussian
    if precision == "float32":
        torch.half = torch.float32  # the type of its sums
        predict_from_raw_data.compute_gaussian = lambda *a, **k: gaussian(*a, **{**k, "dtype": torch.float32})
    try:
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
    finally:
        torch.half, predict_from_raw_data.compute_gaussian = half, gaussian
    done = time.perf_counter()
    export_prediction.export_prediction_from_logits(
        logits,
        properties,
        predictor.configuration_manager,
        predictor.plans_manager,
        predictor.dataset_json,
        str(out),
        num_threads_torch=1,
    )
    written = time.perf_counter()
    np.savez(f"{out}.npz", image=data, logits=logits.numpy())
    return [ready - begun, done - ready, written - done]


def _clean_prior(prior: Path, paths: list[str], out: Path) -> str:
    """A cascade's prior without voxels outside the non-zero region, which its z-score would count as inside."""
    mask = sitk.ReadImage(str(prior))
    scan = np.stack([sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in paths])
    cleaned = sitk.GetImageFromArray(sitk.GetArrayFromImage(mask) * create_nonzero_mask(scan).astype(np.uint8))
    cleaned.CopyInformation(mask)
    path = out.parent / "priors" / f"{out.name}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(cleaned, str(path))
    return str(path)


def export(run: dict[str, Any], folder: Path) -> None:
    """Its own export, of checkpoints without the optimiser's state, which is most of their bytes."""
    for path in (Path(nnUNet_results) / run["dataset"]).rglob("checkpoint_final.pth"):
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)  # made here a moment ago
        checkpoint.pop("optimizer_state", None)
        torch.save(checkpoint, path)
        (path.parent / "debug.json").unlink(missing_ok=True)
        for name in ("progress.png", "validation/summary.json"):  # it insists on them
            (path.parent / name).parent.mkdir(exist_ok=True)
            (path.parent / name).write_bytes(b"")
    export_pretrained_model(
        run["dataset"],
        str(folder / f"{run['dataset']}.zip"),
        configurations=tuple(run["configurations"]),
        trainer="nnUNetTrainerAdam1en3",
        plans_identifier=run["plans"],
        folds=tuple(run["folds"]),
    )


def main() -> None:
    """One step of one run."""
    torch.set_num_threads(1)
    step, folder, run = sys.argv[1], Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
    if step == "train":
        train(run)
    elif step == "predict":
        predict(run, folder)
    else:
        export(run, folder)


if __name__ == "__main__":
    main()
