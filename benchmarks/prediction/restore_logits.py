"""From logits to a mask on the scan's grid: time, memory and voxels against nnU-Net's own.

    python benchmarks/prediction/restore_logits.py folder --peer .venv-nnunet/bin/python

Both read the same logits from ``folder`` and take turns, A B A B, each in a process of its own with as many threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from autoseg.core.records import ChannelNormalization, Grid, Placement, PreprocessingSettings
from autoseg.preprocessing import LogitRestorer

PEER = Path(__file__).with_name("nnunet_peer.py")
SCAN, SPACING = (155, 240, 240), (1.0, 0.9, 0.9)
CROP = ((6, 146), (24, 222), (42, 206))
TARGET = (1.3, 1.2, 1.2)
FOREGROUND = 0.03  # share of the voxels that belong to any class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="a python with nnunetv2 2.8.1")
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 4, 40])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    placement, settings = place_case()
    shapes = f"{'x'.join(map(str, placement.shape))} -> {'x'.join(map(str, placement.cropped_shape))}"
    print(
        f"{shapes} voxels, {args.threads} threads, load of the machine {os.getloadavg()[0]:.1f}; best of {args.rounds}"
    )
    print("classes   autoseg s   nnU-Net s   ratio   autoseg GB   nnU-Net GB   logits GB   voxels that differ")
    peer = start_peer(args.peer, args.threads)
    try:
        for classes in args.classes:
            path = args.folder / f"logits_{classes}.npy"
            if not path.exists():
                np.save(path, draw_logits(classes, placement.shape))
            compare(peer, path, placement, settings, classes, args.rounds)
    finally:
        assert peer.stdin is not None
        peer.stdin.close()
        peer.wait()


def compare(
    peer: subprocess.Popen[str],
    path: Path,
    placement: Placement,
    settings: PreprocessingSettings,
    classes: int,
    rounds: int,
) -> None:
    ours, theirs, own_bytes, their_bytes, differing = [], [], 0, 0, set()
    for _ in range(rounds):
        logits = np.load(path)
        before = restart_peak()
        started = time.perf_counter()
        restorer = LogitRestorer(placement, settings, values=tuple(range(classes)), overlap=False)
        restorer.add(logits)
        mask = restorer.finish().voxels
        ours.append(time.perf_counter() - started)
        own_bytes = max(own_bytes, read_peak() - before)
        size = logits.nbytes
        del logits
        answer = ask(peer, path, placement, settings, classes)
        theirs.append(answer["seconds"])
        their_bytes = max(their_bytes, answer["bytes"])
        differing.add(int((np.load(answer["mask"]) != mask).sum()))
    print(
        f"{classes:7} {min(ours):11.3f} {min(theirs):11.3f} {min(theirs) / min(ours):7.1f} {own_bytes / 1e9:12.2f} "
        f"{their_bytes / 1e9:12.2f} {size / 1e9:11.2f}   {', '.join(map(str, sorted(differing)))} of {mask.size}"
    )


def place_case() -> tuple[Placement, PreprocessingSettings]:
    cropped = [stop - start for start, stop in CROP]
    shape = tuple(round(n * own / target) for n, own, target in zip(cropped, SPACING, TARGET, strict=True))
    placement = Placement.model_validate(
        {
            "grid": Grid(shape=SCAN, spacing=SPACING),
            "transpose": (0, 1, 2),
            "flips": (False, False, False),
            "crop": CROP,
            "cropped_spacing": SPACING,
            "shape": shape,
        }
    )
    return placement, PreprocessingSettings(spacing=TARGET, channels=(ChannelNormalization(),))


def draw_logits(classes: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth fields, one per class, and background ahead of them all but here and there, as lesions are."""
    rng = np.random.default_rng(classes)
    coarse = [max(2, n // 8) for n in shape]
    zoom = [n / c for n, c in zip(shape, coarse, strict=True)]
    logits = np.empty((classes, *shape), np.float32)
    for channel in logits:
        channel[...] = ndimage.zoom(rng.normal(size=coarse).astype(np.float32), zoom, order=1)
    ahead = np.zeros(shape, np.float32)
    for channel in logits[1:]:
        np.maximum(ahead, channel, out=ahead)
    logits[0] += np.quantile(ahead - logits[0], 1 - FOREGROUND)
    return logits


def start_peer(python: Path, threads: int) -> subprocess.Popen[str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return subprocess.Popen(
        [str(python), str(PEER), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(names, str(threads))},
    )


def ask(
    peer: subprocess.Popen[str], path: Path, placement: Placement, settings: PreprocessingSettings, classes: int
) -> dict:
    assert peer.stdin is not None and peer.stdout is not None
    request = {
        "logits": str(path),
        "mask": str(path.with_name(f"nnunet_{path.name}")),
        "classes": classes,
        "scan": placement.grid.shape,
        "crop": placement.crop,
        "spacing": placement.cropped_spacing,
        "target": settings.spacing,
    }
    peer.stdin.write(json.dumps(request) + "\n")
    peer.stdin.flush()
    return json.loads(peer.stdout.readline())


def restart_peak() -> int:
    """Let the highest memory of this process begin anew; gives what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return read_peak()


def read_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    main()
