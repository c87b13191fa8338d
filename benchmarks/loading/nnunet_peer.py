"""nnU-Net's own loader and training transforms, as a process that is asked for batches. Needs nnunetv2, not autoseg.

Reads one JSON line per request from standard input and answers with one on standard output.
"""

import contextlib
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor, comp_blosc2_params
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

torch.set_num_threads(1)
CACHED = 6  # batches that each of its augmenter's two queues holds at least
ANGLE = np.pi / 6  # its rotation where no axis is coarse


def store(request: dict[str, Any]) -> dict[str, Any]:
    """Write preprocessed arrays as its preprocessor does."""
    folder = Path(request["folder"])
    for path in sorted(folder.glob("*.image.npy")):
        name = path.name.removesuffix(".image.npy")
        image, label = np.load(path), np.load(folder / f"{name}.label.npy")[None].astype(np.int16)
        places = DefaultPreprocessor._sample_foreground_locations(label, request["labels"])
        sizes = [comp_blosc2_params(array.shape, request["patch"], array.itemsize) for array in (image, label)]
        nnUNetDatasetBlosc2.save_case(
            image,
            label,
            {"class_locations": places},
            str(folder / name),
            chunks=sizes[0][1],
            blocks=sizes[0][0],
            chunks_seg=sizes[1][1],
            blocks_seg=sizes[1][0],
        )
    return {"version": version("nnunetv2")}


class Loading:
    """Its loader and transforms over one folder, put together as its trainer does it.

    Deep supervision's smaller labels are left out: ours are made by the loss.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        patch, workers = request["patch"], request["workers"]
        rotation = (-ANGLE, ANGLE)
        transforms = nnUNetTrainer.get_training_transforms(
            patch,
            rotation,
            None,
            (0, 1, 2),
            False,
            use_mask_for_norm=request["inside_mask"],
            is_cascaded=False,
            foreground_labels=request["labels"],
        )
        names = {"background": 0, **{f"label{value}": value for value in request["labels"]}}
        loader = nnUNetDataLoader(
            nnUNetDatasetBlosc2(request["folder"]),
            request["batch"],
            get_patch_size(patch, rotation, rotation, rotation, (0.85, 1.25)),
            patch,
            LabelManager(names, None),
            oversample_foreground_percent=0.33,
            transforms=transforms,
        )
        self.held = 0
        if workers == 0:
            self.batches = SingleThreadedAugmenter(loader, None)
        else:
            self.held = 2 * max(CACHED, workers // 2) + workers + 1  # two queues, and what is in hand
            self.batches = NonDetMultiThreadedAugmenter(
                data_loader=loader, transform=None, num_processes=workers, num_cached=max(CACHED, workers // 2),
                seeds=list(range(workers)), pin_memory=False, wait_time=0.002,
            )  # fmt: skip

    def load(self, count: int) -> dict[str, float]:
        """Wall and own processor seconds of so many batches, after those that lie ready."""
        for _ in range(self.held + 1):
            next(self.batches)
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(self.batches)
        return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}

    def close(self) -> None:
        if hasattr(self.batches, "_finish"):
            self.batches._finish()


def answer() -> None:
    """Answer requests until the input ends; what libraries print goes to standard error."""
    loading: Loading | None = None
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            request = json.loads(line)
            reply: dict[str, Any] = {}
            if request["do"] == "store":
                reply = store(request)
            elif request["do"] == "open":
                os.sched_setaffinity(0, set(request["cores"]))
                np.random.seed(0)  # noqa: NPY002 - the stream that its loader draws from
                torch.manual_seed(0)
                loading = Loading(request)
            elif request["do"] == "load" and loading is not None:
                reply = loading.load(request["batches"])
            elif request["do"] == "close" and loading is not None:
                loading.close()
            sys.__stdout__.write(json.dumps(reply) + "\n")
            sys.__stdout__.flush()


if __name__ == "__main__":
    answer()
