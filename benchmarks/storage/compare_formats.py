"""Formats of preprocessed arrays: what the sampler reads soonest, and what they take on disk.

    python benchmarks/storage/compare_formats.py
    python benchmarks/storage/compare_formats.py --nnunet .venv-nnunet/bin/python --repeats 9

Patches are cut as training cuts them (``cut_patch``): plain boxes, and boxes for a rotation, with the interpolation in
both columns of the latter. "cold" is the first read of a plain box after the file was dropped from the machine's cache.
All formats are read in turn in every repeat; the table holds medians. blosc2 is not a dependency of autoseg, but comes
with its tools for development.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import blosc2
import numpy as np

from autoseg.batches.augmentation import cut_patch, draw_change
from autoseg.batches.augmentation.draws import rotation
from autoseg.core.arrays import store_image
from autoseg.core.records import (
    AugmentationSettings,
    ChannelNormalization,
    Grid,
    Image,
    Label,
    PreprocessingSettings,
)
from autoseg.core.store import read_array, write_array
from autoseg.preprocessing import prepare_case

sys.path.append(str(Path(__file__).parents[1] / "preprocessing"))
from scans import make_brain

PATCH = (112, 128, 112)
BLOCKS = (1, 16, 32, 32)
CODECS = {
    "float32 blosc2 LZ4HC": (np.float32, blosc2.Codec.LZ4HC, 5),
    "float16 blosc2 LZ4": (np.float16, blosc2.Codec.LZ4, 5),
    "float16 blosc2 ZSTD": (np.float16, blosc2.Codec.ZSTD, 1),
}
THREADS = 2
STILL = AugmentationSettings(rotation_probability=0, rotation_degrees=(0, 0), scale_probability=0, mirror_axes=())


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file, how it is opened, and seconds of every repeat by column."""

    path: Path
    open: Callable[[], Any]
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def note(self, column: str, seconds: float) -> None:
        self.seconds.setdefault(column, []).append(seconds)


def prepare(own: tuple[float, float, float], target: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A made four-channel brain on the network's grid: (4,Z,Y,X) float32 and (Z,Y,X) integer."""
    shape = (155, 240, 240)
    image, label = make_brain(np.random.default_rng(0), shape, 4)
    grid = Grid(shape=shape, spacing=own)
    settings = PreprocessingSettings(
        orientation="stored", spacing=target, channels=(ChannelNormalization(inside_mask=True),) * 4
    )
    case = prepare_case(
        "case", Image(voxels=image.astype(np.float32), grid=grid), Label(voxels=label, grid=grid), settings
    )
    assert case.label is not None
    return case.image, case.label


def write_formats(folder: Path, image: np.ndarray) -> dict[str, Format]:
    formats = {}
    for dtype in ("float32", "float16"):
        path = folder / f"{dtype}.npy"
        write_array(path, store_image(image, dtype))  # type: ignore[arg-type]
        formats[f"{dtype} .npy"] = Format(path=path, open=lambda path=path: read_array(path, mapped=True))
    for name, (kind, codec, level) in CODECS.items():
        path = folder / f"{name.replace(' ', '_')}.b2nd"
        chunks = (1, *(min(n, 128) for n in image.shape[1:]))
        settings = {"codec": codec, "clevel": level, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
        blosc2.asarray(image.astype(kind), urlpath=str(path), chunks=chunks, blocks=BLOCKS, cparams=settings)
        formats[name] = Format(
            path=path,
            open=lambda path=path: blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1}),
        )
    return formats


def time_formats(formats: dict[str, Format], label: np.ndarray, starts: Sequence[tuple[int, ...]]) -> None:
    """One repeat: every format, every column."""
    still = draw_change(np.random.default_rng(0), STILL, channels=4, shape=PATCH, flat=False)
    turned = replace(still, matrix=rotation(0, 0.3) @ rotation(1, -0.2) @ rotation(2, 0.25))

    def cut(one: Format, start: tuple[int, ...], *, rotated: bool) -> None:
        patch, target = np.empty((4, *PATCH), np.float32), np.empty(PATCH, np.int16)
        cut_patch(one.open(), label, start, turned if rotated else still, patch, target)

    for one in formats.values():
        forget(one.path)
        begun = time.perf_counter()
        cut(one, starts[0], rotated=False)
        one.note("cold", time.perf_counter() - begun)
    for one in formats.values():
        for name, rotated in (("plain", False), ("rotated", True)):
            cut(one, starts[0], rotated=rotated)  # so that every page is in memory
            begun = time.thread_time()
            for start in starts:
                cut(one, start, rotated=rotated)
            one.note(name, (time.thread_time() - begun) / len(starts))
        with ThreadPoolExecutor(THREADS) as pool:
            begun = time.perf_counter()
            list(pool.map(lambda start, one=one: cut(one, start, rotated=False), [*starts, *starts]))
            one.note("two", (time.perf_counter() - begun) / (2 * len(starts)))


def forget(path: Path) -> None:
    """Drop a file from the machine's cache of files."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Peer:
    """nnU-Net's reader in a process of its own, as its loader has them."""

    def __init__(self, python: Path) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), tempfile.gettempdir())
        script = Path(__file__).with_name("nnunet_reader.py")
        self.process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one, **folders},
        )

    def send(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("nnU-Net's process ended")
        return json.loads(line)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def time_peers(peers: Sequence[Peer], folder: Path, starts: Sequence[tuple[int, ...]], theirs: Format) -> None:
    request = {"do": "read", "folder": str(folder), "patch": PATCH, "label": False}
    peers[0].send(**request, starts=starts[:1], cold=True)
    theirs.note("cold", peers[0].receive()["wall"])
    peers[0].send(**request, starts=starts, cold=False)
    theirs.note("plain", peers[0].receive()["processor"])
    for peer in peers:
        peer.send(**request, starts=starts, cold=False)
    theirs.note("two", max(peer.receive()["wall"] for peer in peers) / len(peers))


def report(title: str, image: np.ndarray, formats: dict[str, Format]) -> None:
    print(f"\n{title}: image of {'x'.join(map(str, image.shape))}, patch of {'x'.join(map(str, PATCH))}; ms per patch")
    heads = ("MB", "plain", "2 threads", "rotated", "cold")
    print(f"  {'':24s}" + "".join(f"{head:>11s}" for head in heads))
    for name, one in formats.items():
        cells = [f"{one.path.stat().st_size / 1e6:11.1f}"]
        for column in ("plain", "two", "rotated", "cold"):
            cells.append(f"{1000 * median(one.seconds[column]):11.1f}" if column in one.seconds else f"{'-':>11s}")
        print(f"  {name:24s}" + "".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, help="python of an environment with nnunetv2 2.8.1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patches", type=int, default=4)
    arguments = parser.parse_args()
    blosc2.set_nthreads(1)
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(arguments.nnunet)) for _ in range(THREADS) if arguments.nnunet]
        for title, own in (("resampled", (1.2, 0.94, 0.94)), ("own spacing", (1.0, 1.0, 1.0))):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            image, label = prepare(own, (1.0, 1.0, 1.0))
            formats = write_formats(folder, image)
            theirs = dict(formats)
            if peers:
                np.save(folder / "image.npy", image)
                np.save(folder / "label.npy", label)
                peers[0].send(do="write", folder=str(folder), patch=PATCH)
                peers[0].receive()
                theirs["nnU-Net's own reading"] = Format(path=folder / "case.b2nd", open=lambda: None)
            rng = np.random.default_rng(1)
            room = [max(n - p, 0) + 1 for n, p in zip(image.shape[1:], PATCH, strict=True)]
            starts = [tuple(int(rng.integers(n)) for n in room) for _ in range(arguments.patches)]
            for _ in range(arguments.repeats):
                time_formats(formats, label, starts)
                if peers:
                    time_peers(peers, folder, starts, theirs["nnU-Net's own reading"])
            report(title, image, theirs)
    print(f"\nblosc2 {blosc2.__version__}, numpy {np.__version__}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
