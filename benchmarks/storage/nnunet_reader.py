"""nnU-Net's own storage: writes a case as its preprocessor does and reads patches as its loader does. Needs nnunetv2.

Reads one JSON line per request from standard input and answers with one on standard output.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.preprocessing.preprocessors.default_preprocessor import comp_blosc2_params
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from threadpoolctl import threadpool_limits

ANGLE = np.pi / 6  # its rotation in three dimensions


def write(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    image, label = np.load(folder / "image.npy"), np.load(folder / "label.npy")[None].astype(np.int16)
    sizes = [comp_blosc2_params(array.shape, request["patch"], array.itemsize) for array in (image, label)]
    nnUNetDatasetBlosc2.save_case(
        image,
        label,
        {},
        str(folder / "case"),
        chunks=sizes[0][1],
        blocks=sizes[0][0],
        chunks_seg=sizes[1][1],
        blocks_seg=sizes[1][0],
    )
    return {"bytes": (folder / "case.b2nd").stat().st_size}


def read(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds per patch. Like its loader it reads, whatever comes after, the box that any rotation may need."""
    folder, patch = Path(request["folder"]), request["patch"]
    larger = get_patch_size(patch, ANGLE, ANGLE, ANGLE, (0.85, 1.25))
    if request["cold"]:
        forget(folder / "case.b2nd")
    dataset = nnUNetDatasetBlosc2(str(folder), ["case"])
    wall, processor = time.perf_counter(), time.process_time()
    with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
        for start in request["starts"]:
            data, seg, _, _ = dataset.load_case("case")
            low = [int(s - (n - p) // 2) for s, n, p in zip(start, larger, patch, strict=True)]
            box = [[a, a + int(n)] for a, n in zip(low, larger, strict=True)]
            torch.from_numpy(crop_and_pad_nd(data, box, 0)).float()
            if request["label"]:
                torch.from_numpy(crop_and_pad_nd(seg, box, -1, cast_cropped_to=np.int16)).to(torch.int16)
    count = len(request["starts"])
    return {"wall": (time.perf_counter() - wall) / count, "processor": (time.process_time() - processor) / count}


def forget(path: Path) -> None:
    """Drop a file from the machine's cache of files."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            request = json.loads(line)
            reply = write(request) if request["do"] == "write" else read(request)
            sys.__stdout__.write(json.dumps(reply) + "\n")
            sys.__stdout__.flush()
