"""Preprocessing of whole cases against nnU-Net's own: the same numbers, and how much sooner. One core each, in turn.

    python benchmarks/preprocessing/compare_nnunet.py --nnunet .venv-nnunet/bin/python
    python benchmarks/preprocessing/compare_nnunet.py --nnunet ... --open-ms patient07 --isles22 isles22 --repeats 9

Both are asked alternately (A B A B), so what else the machine does meets both; the table holds medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scans import Scan, find_scans

from autoseg.core.arrays import store_image, write_prepared
from autoseg.core.records import Case, ChannelFile, ChannelNormalization, Dataset, PreparedCase, PreprocessingSettings
from autoseg.datasets import read_case
from autoseg.preprocessing import forward, nonzero_mask, prepare_case
from autoseg.preprocessing.resampling import apply_matrices, axis_matrices, coarse_axis

PART = "resample"
STAGES = ("read", "preprocess", PART, "write")
LABELS = (1, 2, 3)
Seconds = dict[str, tuple[float, float]]


@dataclass(kw_only=True)
class Peer:
    """nnU-Net in a process of its own, on the same core."""

    python: Path
    core: int
    process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Peer:
        script = Path(__file__).with_name("nnunet_peer.py")
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), tempfile.gettempdir())
        self.process = subprocess.Popen(
            [str(self.python), str(script), str(self.core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one, **folders},
        )
        return self

    def ask(self, scan: Scan, out: Path, *, keep: bool) -> dict[str, Any]:
        """Preprocess a scan once."""
        out.mkdir(parents=True, exist_ok=True)
        case = {
            "images": [str(path) for path in scan.images],
            "label": str(scan.label),
            "labels": LABELS,
            "spacing": scan.spacing,
            "patch": scan.patch,
            "inside_mask": True,
            "keep": keep,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"case": case, "out": str(out)}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"nnU-Net's process ended while it preprocessed {scan.name}")
        return json.loads(line)

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def stage(seconds: Seconds, name: str) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    before = seconds.get(name, (0.0, 0.0))
    seconds[name] = (before[0] + time.perf_counter() - wall, before[1] + time.process_time() - processor)


@contextmanager
def watch_resampling(seconds: Seconds) -> Iterator[None]:
    """Count the time of resampling, which is a part of preprocessing."""

    def watch(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def call(*arguments: Any, **options: Any) -> np.ndarray:
            with stage(seconds, "resample"):
                return function(*arguments, **options)

        return call

    before = forward.resample_image, forward.resample_label
    forward.resample_image, forward.resample_label = map(watch, before)
    yield
    forward.resample_image, forward.resample_label = before


def describe(scan: Scan) -> tuple[Dataset, PreprocessingSettings]:
    """The scan as a dataset of one case, and settings that ask for what nnU-Net is asked for."""
    files = tuple(ChannelFile(path=path) for path in scan.images)
    dataset = Dataset(
        name="Made",
        kind="nnunet",
        channels=tuple(f"MR{i}" for i in range(len(files))),
        labels={"background": 0, **{f"label{value}": value for value in LABELS}},
        cases=(Case(id="case", channels=files, labels=(scan.label,)),),
    )
    settings = PreprocessingSettings(
        orientation="stored", spacing=scan.spacing, channels=(ChannelNormalization(inside_mask=True),) * len(files)
    )
    return dataset, settings


def prepare(scan: Scan, out: Path, storage: Any) -> tuple[PreparedCase, Seconds, int]:
    """Ours: read, preprocess, write; the case, seconds per stage, bytes on disk."""
    dataset, settings = describe(scan)
    seconds: Seconds = {}
    with stage(seconds, "read"):
        image, label = read_case(dataset, dataset.cases[0])
    with stage(seconds, "preprocess"), watch_resampling(seconds):
        prepared = prepare_case("case", image, label, settings)
    with stage(seconds, "write"):
        write_prepared(out, replace(prepared, image=store_image(prepared.image, storage)), "key")
    return prepared, seconds, sum(path.stat().st_size for path in out.glob("case*"))


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two results are apart: of the image in standard deviations; of the label in voxels, by their reason."""

    image: float
    voxels: int
    ties: int
    edge: int
    unexplained: int


def compare(scan: Scan, prepared: PreparedCase, out: Path) -> Agreement:
    theirs, label = np.load(out / "image.npy"), np.load(out / "label.npy")
    assert theirs.shape == prepared.image.shape, f"{theirs.shape} and {prepared.image.shape}"
    assert prepared.label is not None
    differing = np.argwhere(np.maximum(label, 0) != prepared.label)
    shares = class_shares(scan, prepared)
    at = tuple(differing.T)
    split = np.sort([share[at] for share in shares.values()], axis=0)
    merged = {value: share for value, share in shares.items() if value > 0}
    merged[0] = shares[0] + shares[-1]
    whole = np.sort([share[at] for share in merged.values()], axis=0)
    tied = (whole[-1] - whole[-2] < 1e-4) | (split[-1] - split[-2] < 1e-4)
    names, numbers = np.array(list(shares)), np.stack([share[at] for share in shares.values()])
    edge = ~tied & (names[numbers.argmax(axis=0)] == label[at])
    return Agreement(
        image=float(np.abs(theirs - prepared.image).max()),
        voxels=len(differing),
        ties=int(tied.sum()),
        edge=int(edge.sum()),
        unexplained=int((~tied & ~edge).sum()),
    )


def class_shares(scan: Scan, prepared: PreparedCase) -> dict[int, np.ndarray]:
    """Each class's share of every resampled voxel; nnU-Net calls background outside the head a class of its own, -1."""
    dataset, settings = describe(scan)
    image, label = read_case(dataset, dataset.cases[0])
    assert label is not None
    place = prepared.placement
    crop = tuple(slice(*side) for side in place.crop)
    cropped = label.voxels[crop].astype(np.int16)
    cropped[~nonzero_mask(image.voxels)[crop] & (cropped == 0)] = -1
    target = tuple(t or s for t, s in zip(settings.spacing, place.cropped_spacing, strict=True))
    separate_axis = coarse_axis((place.cropped_spacing, target), settings.coarse_axis_ratio)
    matrices = axis_matrices(cropped.shape, place.shape, 1, separate_axis)
    present = sorted({-1, 0, *np.unique(cropped).tolist()})
    return {value: apply_matrices((cropped == value).astype(np.float32), matrices) for value in present}


def report(scan: Scan, ours: list[Seconds], theirs: list[Seconds], sizes: tuple[int, int], found: Agreement) -> None:
    print(f"\n{scan.name}")
    print(f"  {'':16s} {'nnU-Net':>10s} {'ours':>10s} {'ratio':>7s}   {'nnU-Net':>10s} {'ours':>10s} {'ratio':>7s}")
    print(f"  {'':16s} {'CPU s':>10s} {'CPU s':>10s} {'':7s}   {'wall s':>10s} {'wall s':>10s}")
    rows: dict[str, list[float]] = defaultdict(list)
    for name in STAGES:
        for kind in (1, 0):
            rows[name] += [median(one[name][kind] for one in runs) for runs in (theirs, ours)]
    rows["all"] = [sum(rows[name][i] for name in STAGES if name != PART) for i in range(4)]
    for key, (a, b, c, d) in rows.items():
        name = f"  of it {key}" if key == PART else key
        print(f"  {name:16s} {a:10.3f} {b:10.3f} {a / b:7.1f}   {c:10.3f} {d:10.3f} {c / d:7.1f}")
    print(f"  on disk: nnU-Net {sizes[1] / 1e6:.1f} MB, ours {sizes[0] / 1e6:.1f} MB")
    print(
        f"  image: at most {found.image:.1e} standard deviations apart; label: {found.voxels} voxels differ "
        f"({found.ties} ties, {found.edge} at the head's edge, {found.unexplained} unexplained)"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2 2.8.1")
    parser.add_argument("--open-ms", type=Path, help="a patient's folder of the open MS dataset")
    parser.add_argument("--isles22", type=Path, help="the folder of ISLES 2022")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--storage", choices=("float32", "float16"), default="float32")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    unexplained = 0
    with tempfile.TemporaryDirectory() as name, Peer(python=arguments.nnunet, core=core) as peer:
        folder = Path(name)
        for number, scan in enumerate(find_scans(folder, arguments.open_ms, arguments.isles22)):
            here, there = folder / f"ours{number}", folder / f"theirs{number}"
            peer.ask(scan, there, keep=True)  # both once before the clock counts
            prepared, _, size = prepare(scan, here, arguments.storage)
            found = compare(scan, prepared, there)
            ours, theirs = [], []
            for _ in range(arguments.repeats):
                reply = peer.ask(scan, there, keep=False)
                theirs.append(reply["seconds"])
                ours.append(prepare(scan, here, arguments.storage)[1])
            report(scan, ours, theirs, (size, reply["bytes"]), found)
            unexplained += found.unexplained
        print(f"\nnnunetv2 {reply['version']}, numpy {np.__version__}, Python {platform.python_version()}, one core")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
