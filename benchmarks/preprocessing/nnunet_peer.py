"""nnU-Net's own preprocessing, case by case, as a process that is asked. Needs nnunetv2, not autoseg.

Reads one JSON line per request from standard input and answers with one on standard output.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor, comp_blosc2_params
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

torch.set_num_threads(1)
RESAMPLING = {"order_z": 0, "force_separate_z": None}


class Clock:
    """Wall and processor seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        before = self.seconds.get(name, (0.0, 0.0))
        self.seconds[name] = (before[0] + time.perf_counter() - wall, before[1] + time.process_time() - processor)

    def watch(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, with its time counted."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **options)

        return call


def make_plans(case: dict[str, Any]) -> dict[str, Any]:
    """What its planner would write, as far as preprocessing reads it."""
    channels = len(case["images"])
    resampling = {
        f"resampling_fn_{name}{end}": value
        for name, order in (("data", 3), ("seg", 1), ("probabilities", 1))
        for end, value in (
            ("", "resample_data_or_seg_to_shape"),
            ("_kwargs", {"is_seg": name == "seg", "order": order, **RESAMPLING}),
        )
    }
    return {
        "dataset_name": "Dataset001_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(channels)},
        "configurations": {
            "3d_fullres": {
                "spacing": case["spacing"],
                "patch_size": case["patch"],
                "normalization_schemes": ["ZScoreNormalization"] * channels,
                "use_mask_for_norm": [case["inside_mask"]] * channels,
                "architecture": {"network_class_name": "any", "arch_kwargs": {}, "_kw_requires_import": []},
                **resampling,
            }
        },
    }


def prepare(case: dict[str, Any], out: Path) -> dict[str, Any]:
    """The stages of ``run_case_save``; keeps the arrays where asked to."""
    plans = PlansManager(make_plans(case))
    configuration = plans.get_configuration("3d_fullres")
    names = {"background": 0, **{f"label{value}": value for value in case["labels"]}}
    dataset = {"labels": names, "channel_names": {str(i): "MR" for i in range(len(case["images"]))}}
    clock, preprocessor = Clock(), DefaultPreprocessor(verbose=False)
    for name in ("resampling_fn_data", "resampling_fn_seg"):  # properties; a class of its own for this one case
        watched = staticmethod(clock.watch(getattr(configuration, name), "resample"))
        configuration.__class__ = type("Watched", (type(configuration),), {name: watched})
    with clock.stage("read"):
        reader = plans.image_reader_writer_class()
        data, properties = reader.read_images(case["images"])
        seg, _ = reader.read_seg(case["label"])
    with clock.stage("preprocess"):
        data, seg, properties = preprocessor.run_case_npy(data, seg, properties, plans, configuration, dataset)
    with clock.stage("write"):
        data, seg = data.astype(np.float32, copy=False), seg.astype(np.int16, copy=False)
        blocks, chunks = comp_blosc2_params(data.shape, tuple(case["patch"]), data.itemsize)
        label_blocks, label_chunks = comp_blosc2_params(seg.shape, tuple(case["patch"]), seg.itemsize)
        for path in out.glob("case*"):
            path.unlink()
        nnUNetDatasetBlosc2.save_case(
            data,
            seg,
            properties,
            str(out / "case"),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=label_chunks,
            blocks_seg=label_blocks,
        )
    if case["keep"]:
        np.save(out / "image.npy", data)
        np.save(out / "label.npy", seg[0])
    size = sum(path.stat().st_size for path in out.glob("case*"))
    return {"seconds": clock.seconds, "bytes": size, "version": version("nnunetv2")}


def answer(function: Callable[..., dict[str, Any]]) -> None:
    """Answer requests until the input ends; what libraries print goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            request = json.loads(line)
            reply = function(request["case"], Path(request["out"]))
            sys.__stdout__.write(json.dumps(reply) + "\n")
            sys.__stdout__.flush()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    answer(prepare)
