"""Runs nnU-Net's own planners on fingerprints and prints what they decide. Needs nnunetv2, not autoseg.

    python nnunet_peer.py folder

Reads ``folder/runs.json`` and writes ``folder/decisions.json``. Each run names a planner class, a memory target and a
dataset (spacings and shapes on stored axes, what the crop left, channels, labels). ``nnUNet_raw``,
``nnUNet_preprocessed`` and ``nnUNet_results`` must name the folders ``raw``, ``preprocessed`` and ``results`` in it.
"""

import contextlib
import importlib
import io
import json
import signal
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch

LIMIT_S = 300  # of processor time
ROOM = "nnunetv2.experiment_planning.experiment_planners."
HOMES = {
    "ExperimentPlanner": "default_experiment_planner",
    "nnUNetPlannerResEncM": "residual_unets.residual_encoder_unet_planners",
    "nnUNetPlannerResEncL": "residual_unets.residual_encoder_unet_planners",
    "nnUNetPlannerResEncXL": "residual_unets.residual_encoder_unet_planners",
}
CONFIGURATIONS = {"2d": "2d", "3d_fullres": "3d", "3d_lowres": "3d_lowres", "3d_cascade_fullres": "3d_cascade"}
SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
}


def plan(run: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """The decisions of one planner on one dataset, or the error it stopped with."""
    _write_dataset(run["dataset"], folder, name)
    planner = getattr(importlib.import_module(ROOM + HOMES[run["planner"]]), run["planner"])
    try:
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        # On the meta device its networks, built only to be counted, cost neither memory nor time.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            plans = planner(name, gpu_memory_target_in_gb=run["memory_gb"]).plan_experiment()
    except Exception as error:  # what it cannot plan is a finding, not the end of the comparison
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return _read(plans)


def _write_dataset(dataset: dict[str, Any], folder: Path, name: str) -> None:
    raw, preprocessed = folder / "raw" / name, folder / "preprocessed" / name
    raw.mkdir(parents=True, exist_ok=True)
    preprocessed.mkdir(parents=True, exist_ok=True)
    described = {
        "channel_names": {str(i): channel for i, channel in enumerate(dataset["channels"])},
        "labels": dataset["labels"],
        "numTraining": len(dataset["spacings"]),
        "file_ending": ".nii.gz",
        # So that it opens no image to find out how to read one.
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {"c0": {"images": ["c0_0000.nii.gz"], "label": "c0.nii.gz"}},
    }
    fingerprint = {
        "spacings": dataset["spacings"],
        "shapes_after_crop": dataset["shapes"],
        "median_relative_size_after_cropping": dataset["crop_share"],
        "foreground_intensity_properties_per_channel": {},
    }
    (raw / "dataset.json").write_text(json.dumps(described))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))


def _read(plans: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for theirs, name in CONFIGURATIONS.items():
        made = plans["configurations"].get(theirs)
        if made is None:
            continue
        source = made.get("previous_stage")
        if "inherits_from" in made:
            made = plans["configurations"][made["inherits_from"]]
        network = made["architecture"]
        stages = network["arch_kwargs"]
        found[name] = {
            "axis_order": plans["transpose_forward"],
            "spacing": made["spacing"],
            "patch_size": made["patch_size"],
            "batch_size": made["batch_size"],
            "network": network["network_class_name"].rpartition(".")[2],
            "strides": stages["strides"],
            "kernels": stages["kernel_sizes"],
            "features": stages["features_per_stage"],
            "encoder_blocks": stages.get("n_conv_per_stage", stages.get("n_blocks_per_stage")),
            "decoder_blocks": stages["n_conv_per_stage_decoder"],
            "normalization": [SCHEMES[scheme] for scheme in made["normalization_schemes"]],
            "inside_mask": made["use_mask_for_norm"],
            "image_order": made["resampling_fn_data_kwargs"]["order"],
            "label_order": made["resampling_fn_seg_kwargs"]["order"],
            "probability_order": made["resampling_fn_probabilities_kwargs"]["order"],
            "batch_dice": made["batch_dice"],
            "cascade_from": CONFIGURATIONS.get(source),
        }
    return found


def _give_up(*_: object) -> NoReturn:
    raise TimeoutError(f"no plan within {LIMIT_S} s of processor time")


def main() -> None:
    """Plan every run of the folder."""
    folder = Path(sys.argv[1])
    runs = json.loads((folder / "runs.json").read_text())
    signal.signal(signal.SIGPROF, _give_up)
    decisions = []
    for number, run in enumerate(runs):
        decisions.append(plan(run, folder, f"Dataset{number % 900 + 1:03}_n{number}"))
        print(f"{number + 1} of {len(runs)}", end="\r", file=sys.stderr, flush=True)
    # Its own converter has made every number of the plans a plain one.
    (folder / "decisions.json").write_text(json.dumps({"version": version("nnunetv2"), "decisions": decisions}))


if __name__ == "__main__":
    main()
