"""nnU-Net's own way from logits to a mask, asked line by line on standard input. Needs nnunetv2, not autoseg.

python nnunet_peer.py threads
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager


def restore(request: dict, threads: int) -> dict:
    """Its function, with the settings that its planner gives a 3D configuration."""
    logits = torch.from_numpy(np.load(request["logits"]))
    crop = request["crop"]
    configuration = SimpleNamespace(
        spacing=list(request["target"]),
        resampling_fn_probabilities=partial(
            resample_data_or_seg_to_shape, is_seg=False, order=1, order_z=0, force_separate_z=None
        ),
    )
    plans = SimpleNamespace(transpose_forward=[0, 1, 2], transpose_backward=[0, 1, 2])
    names = {"background": 0, **{f"class{number}": number for number in range(1, request["classes"])}}
    properties = {
        "spacing": list(request["spacing"]),
        "shape_before_cropping": tuple(request["scan"]),
        "bbox_used_for_cropping": [list(axis) for axis in crop],
        "shape_after_cropping_and_before_resampling": tuple(stop - start for start, stop in crop),
    }
    before = restart_peak()
    started = time.perf_counter()
    mask = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, LabelManager(names, None), properties, num_threads_torch=threads
    )
    seconds = time.perf_counter() - started
    peak = read_peak() - before
    np.save(request["mask"], np.asarray(mask))
    return {"seconds": seconds, "bytes": peak, "mask": request["mask"]}


def restart_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return read_peak()


def read_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(restore(json.loads(line), int(sys.argv[1]))), flush=True)
