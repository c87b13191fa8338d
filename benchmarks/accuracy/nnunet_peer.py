"""Plans and trains with nnU-Net itself, for as long as the clock says. Needs nnunetv2, not autoseg.

    python nnunet_peer.py prepare job.json
    python nnunet_peer.py train job.json

``nnUNet_raw``, ``nnUNet_preprocessed`` and ``nnUNet_results`` must name folders; ``job.json`` says which dataset, which
folds, which network stands beside nnU-Net's own, and which of the two trains how long from which seed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess_dataset,
)
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

OWN, OURS = "3d_fullres", "3d_ours"


class BudgetTrainer(nnUNetTrainer):
    """nnU-Net's trainer, whose learning rate falls with the clock as it falls with epochs otherwise.

    All of the budget is training steps: it neither validates nor writes checkpoints in between.
    """

    budget_s = 0.0
    steps = 0
    trained_s = 0.0

    def run_training(self) -> None:
        """Steps until the budget is spent."""
        self.on_train_start()
        self.network.train()
        began = time.monotonic()
        while self.trained_s < self.budget_s:
            share = self.trained_s / self.budget_s
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** 0.9
            self.train_step(next(self.dataloader_train))
            self.steps += 1
            self.trained_s = time.monotonic() - began
        self.on_train_end()


def prepare(job: dict[str, Any]) -> None:
    """Fingerprint, plan and preprocess with its own code; then our folds, and our network as one more configuration."""
    home = Path(nnUNet_preprocessed) / job["dataset"]
    extract_fingerprints([job["number"]], num_processes=1, check_dataset_integrity=True)
    plan_experiments([job["number"]])
    path = home / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["configurations"][OURS] = _rebuild(plans, job["ours"])
    path.write_text(json.dumps(plans, indent=4))
    preprocess_dataset(job["number"], "nnUNetPlans", [OWN], [1], show_progress_bar=False)
    (home / "splits_final.json").write_text(json.dumps(job["folds"], indent=1))


def _rebuild(plans: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Its full-resolution configuration with our patch, batch and network, on its own arrays.

    ``ours["file_axes"]`` names the file's axis behind each axis of our patch.
    """
    places = [ours["file_axes"].index(axis) for axis in plans["transpose_forward"]]

    def turn(values: list[Any]) -> list[Any]:
        return [values[place] for place in places]

    configuration = deepcopy(plans["configurations"][OWN])
    configuration["patch_size"] = turn(ours["patch_size"])
    configuration["batch_size"] = ours["batch_size"]
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": len(ours["features"]),
        "features_per_stage": ours["features"],
        "kernel_sizes": [turn(kernel) for kernel in ours["kernels"]],
        "strides": [turn(stride) for stride in ours["strides"]],
        "n_conv_per_stage": ours["encoder_blocks"],
        "n_conv_per_stage_decoder": ours["decoder_blocks"][::-1],
    }
    return configuration


def train(job: dict[str, Any]) -> None:
    """Train fold 0 for the budget, predict its held-out cases as nnU-Net does, and say where the masks are."""
    home = Path(nnUNet_preprocessed) / job["dataset"]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002 - what its augmentation draws from
    plans = json.loads((home / "nnUNetPlans.json").read_text())
    dataset = json.loads((home / "dataset.json").read_text())
    configuration = plans["configurations"][job["configuration"]]
    trainer = BudgetTrainer(
        {**plans, "continue_training": False}, job["configuration"], 0, dataset, torch.device("cpu")
    )
    trainer.budget_s = job["budget_s"]
    trainer.run_training()
    trainer.perform_actual_validation()
    answer = {
        "steps": trainer.steps,
        "trained_s": round(trainer.trained_s, 1),
        "weights": sum(weight.numel() for weight in trainer.network.parameters()),
        "patch_size": configuration["patch_size"],
        "batch_size": configuration["batch_size"],
        "masks": str(Path(trainer.output_folder) / "validation"),
        "versions": {name: version(name) for name in ("nnunetv2", "torch")},
    }
    Path(job["answer"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    {"prepare": prepare, "train": train}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
