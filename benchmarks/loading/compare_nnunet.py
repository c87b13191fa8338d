"""Samples per second of loading and augmentation against nnU-Net's own, on the same preprocessed cases.

    python benchmarks/loading/compare_nnunet.py --nnunet .venv-nnunet/bin/python
    python benchmarks/loading/compare_nnunet.py --nnunet ... --hippocampus Task04_Hippocampus --batches 40 --repeats 5

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from cases import Task, make_task, read_hippocampus

from autoseg.batches import Batches, cache_on_device
from autoseg.core.arrays import read_prepared, write_prepared
from autoseg.core.devices import keep_freed_memory

NEEDED_GB = 0.1  # of no network, which is not here; twice as much is free on any machine
REST_S, SHARE_AT_REST = 0.5, 0.05  # it polls its queues all the time, which costs a little


@dataclass(kw_only=True)
class Peer:
    """nnU-Net in a process of its own."""

    python: Path
    process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Peer:
        folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), tempfile.gettempdir())
        self.process = subprocess.Popen(
            [str(self.python), str(Path(__file__).with_name("nnunet_peer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **folders},
        )
        return self

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"nnU-Net's process ended when it was asked to {do}")
        return json.loads(line)

    def rest(self) -> None:
        """Wait until its workers have filled what they hold ready; else they would run beside ours."""
        while self._busy_s() > SHARE_AT_REST * REST_S:
            pass

    def _busy_s(self) -> float:
        """Processor seconds of it and its workers within some time."""
        before = self._processor_s()
        time.sleep(REST_S)
        return self._processor_s() - before

    def _processor_s(self) -> float:
        own = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
        return sum(spent.user + spent.system for spent in times)

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """Our batches, asked for as a training does."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.step = batches, 0

    def load(self, count: int) -> dict[str, float]:
        """Wall and processor seconds of so many batches, after those that lie ready."""
        for _ in range(self.batches.ahead + 1):
            self._next()
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            self._next()
        return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}

    def _next(self) -> None:
        self.batches.batch(self.step)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.step += 1


def compare(task: Task, peer: Peer, folder: Path, cores: tuple[int, ...], arguments: argparse.Namespace) -> None:
    """Time both on so many cores; one process, or a thread and a process each per core."""
    configuration = task.configuration
    workers = 0 if len(cores) == 1 else len(cores)
    os.sched_setaffinity(0, set(cores))  # threads that are started from here on inherit it
    peer.ask(
        "open",
        folder=str(folder),
        patch=configuration.patch_size,
        batch=configuration.batch_size,
        labels=task.labels,
        inside_mask=[channel.inside_mask for channel in configuration.preprocessing.channels],
        workers=workers,
        cores=cores,
    )
    cases = read_prepared(folder, [case.id for case in task.cases], advice="")
    count = arguments.batches
    found: list[list[dict[str, float]]] = [[], []]
    cpu = torch.device("cpu")
    with (
        keep_freed_memory(cpu, NEEDED_GB, share=1),  # as a training does
        Batches(cases, configuration, seed=0, workers=workers) as batches,
    ):
        ours = Ours(batches)
        ours.load(1)
        for _ in range(arguments.repeats):
            found[0].append(peer.ask("load", batches=count))
            peer.rest()
            found[1].append(ours.load(count))
    peer.ask("close")
    samples = count * configuration.batch_size
    report(f"{len(cores)} core{'s' * (len(cores) > 1)}", *([samples / one["wall"] for one in runs] for runs in found))
    if workers == 0:  # of other processes it is not known
        a, b = (median(one["processor"] for one in runs) / samples for runs in found)
        print(f"  {'':8s} core seconds per sample: nnU-Net {a:.3f}, ours {b:.3f}: {a / b:.2f} times", flush=True)


def time_gpu(task: Task, folder: Path, arguments: argparse.Namespace) -> None:
    """Ours alone, changed by torch on the first GPU, with the cases there."""
    device = torch.device("cuda")
    cases = read_prepared(folder, [case.id for case in task.cases], advice="")
    free, _ = torch.cuda.mem_get_info(device)
    volumes = cache_on_device(cases, device, free_bytes=free, reserved_bytes=0)
    with Batches(cases, task.configuration, seed=0, workers=2, device=device, volumes=volumes) as batches:
        ours, size = Ours(batches), task.configuration.batch_size
        ours.load(1)
        rates = [arguments.batches * size / ours.load(arguments.batches)["wall"] for _ in range(arguments.repeats)]
    print(f"  on {torch.cuda.get_device_name(device)}: ours {median(rates):8.2f} samples/s")


def report(name: str, theirs: list[float], ours: list[float]) -> None:
    a, b = median(theirs), median(ours)
    print(f"  {name:8s} nnU-Net {a:8.2f} samples/s, ours {b:8.2f} samples/s: {b / a:5.2f} times", flush=True)
    print(f"  {'':8s} of {[f'{rate:.2f}' for rate in theirs]} and {[f'{rate:.2f}' for rate in ours]}", flush=True)


def list_tasks(arguments: argparse.Namespace) -> Iterator[Task]:
    yield make_task(cases=arguments.cases)
    if arguments.hippocampus is not None:
        yield read_hippocampus(arguments.hippocampus, cases=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2 2.8.1")
    parser.add_argument("--hippocampus", type=Path, help="folder of the MSD's hippocampus task")
    parser.add_argument("--cases", type=int, default=6, help="made cases")
    parser.add_argument("--batches", type=int, default=30, help="per repeat; they are random, so many are needed")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as name, Peer(python=arguments.nnunet) as peer:
        for number, task in enumerate(list_tasks(arguments)):
            folder = Path(name) / str(number)
            for case in task.cases:
                write_prepared(folder, case, "key")
            stored = peer.ask("store", folder=str(folder), labels=task.labels, patch=task.configuration.patch_size)
            print(f"\n{task.name}", flush=True)
            for used in ((cores[0],), tuple(cores)):
                compare(task, peer, folder, used, arguments)
            if torch.cuda.is_available():
                time_gpu(task, folder, arguments)
        print(f"\nnnunetv2 {stored['version']}, numpy {np.__version__}, torch {torch.__version__}, ", end="")
        print(f"Python {platform.python_version()}")


if __name__ == "__main__":
    main()
