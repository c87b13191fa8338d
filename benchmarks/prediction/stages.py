"""Where the time of a prediction goes, stage by stage, and what is left when cases overlap.

    python benchmarks/prediction/stages.py folder

``folder`` keeps a synthetic dataset, a model trained for a moment and finer scans to predict; what is there already is
not made again. Sequential and overlapped runs alternate, so that a busy moment hits both.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch

from autoseg.core.images import read_voxels, write_voxels
from autoseg.core.records import Case, Image, Label
from autoseg.core.store import Store
from autoseg.datasets import find_scans, import_dataset, read_image
from autoseg.datasets.synthetic import make_isles15
from autoseg.folds.training import train
from autoseg.model import Model, load_model
from autoseg.options import ImportOptions, PlanOptions, TrainOptions
from autoseg.pipeline.plan import plan as plan_dataset
from autoseg.prediction import case_rows, mask_restorer, prepare_scan
from autoseg.prediction.ensembles import Ensemble
from autoseg.prediction.overlapping import predict_cases

CPU = torch.device("cpu")
NAME, NEW = "Bench", "Bench_new"
FINE = (144, 192, 168)  # voxels of 1 mm; the model works at 3 mm, so that its own time is small, as on a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    store = Store(args.folder)
    model = open_model(store)
    cases = make_scans(store, args.cases, model)
    sequential, overlapped = [], []
    stages: dict[str, list[float]] = defaultdict(list)
    for _ in range(args.rounds):
        started = time.perf_counter()
        for name, seconds in predict_in_stages(model, cases, args.folder / "sequential").items():
            stages[name].append(seconds)
        sequential.append(time.perf_counter() - started)
        started = time.perf_counter()
        predict_overlapped(model, cases, args.folder / "overlapped")
        overlapped.append(time.perf_counter() - started)
    print(f"{len(cases)} scans of {'x'.join(map(str, FINE))} voxels and 4 channels, {args.threads} threads; ", end="")
    print(f"load of the machine {os.getloadavg()[0]:.1f}; best of {args.rounds}, seconds per scan")
    for name, seconds in stages.items():
        print(f"  {name:12} {min(seconds) / len(cases):7.3f}")
    print(f"  {'sequential':12} {min(sequential) / len(cases):7.3f}   all: {show(sequential)}")
    print(f"  {'overlapped':12} {min(overlapped) / len(cases):7.3f}   all: {show(overlapped)}")
    differing = sum(
        int((read_voxels(args.folder / "sequential" / path.name)[0] != read_voxels(path)[0]).sum())
        for path in sorted((args.folder / "overlapped").iterdir())
    )
    found = sum(int((read_voxels(path)[0] != 0).sum()) for path in (args.folder / "overlapped").iterdir())
    print(f"  voxels that differ between the two: {differing}, of {found} of lesions")


def open_model(store: Store) -> Model:
    """A small model of the synthetic dataset; it only has to be one."""
    if not store.raw(NAME).exists():
        make_isles15(store.raw(NAME), cases=8, seed=1)
    plan = plan_dataset(store, PlanOptions(dataset=NAME, preset="pocket", device="cpu", keep=True)).plan
    options = TrainOptions(dataset=NAME, configuration=plan.recommended, fold="0", device="cpu", time_budget_s=120.0)
    train(store, options)
    return load_model(store.results(NAME, plan.recommended), None, CPU)


def make_scans(store: Store, count: int, model: Model) -> tuple[Case, ...]:
    scans = store.raw(NEW) / "imagesTr"
    if not scans.exists():
        making = store.root / "making"
        make_isles15(making, cases=count, seed=2, shape=FINE)
        options = ImportOptions(source=making, dataset=NEW, kind="isles15", copy=True)
        import_dataset(options, store.raw(NEW))
    return find_scans(scans, model.plan.channels)[0][:count]


def predict_in_stages(model: Model, cases: tuple[Case, ...], output: Path) -> dict[str, float]:
    """One case after the other; seconds per stage, of all cases."""
    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent[stage] += time.perf_counter() - started

    for case in cases:
        with timed("read"):
            image = read(model, case)
        with timed("preprocess"):
            (prepared,) = prepare_scan(model, case.id, image)
        with timed("network"):
            rows = list(case_rows(model, prepared, CPU))
        with timed("restore"):
            restorer = mask_restorer(model, prepared.placement)
            for part in rows:
                restorer.add(part)
            mask = restorer.finish()
        with timed("write"):
            write(case, mask, output)
    return spent


def predict_overlapped(model: Model, cases: tuple[Case, ...], output: Path) -> None:
    def keep(case: Case, mask: Label, probabilities: np.ndarray | None) -> None:
        write(case, mask, output)

    alone = Ensemble(name=model.name, members=(model,))
    with closing(predict_cases(alone, cases, CPU, read=lambda case: read(model, case), write=keep)) as outcomes:
        for outcome in outcomes:
            assert outcome.failure is None, outcome.failure


def read(model: Model, case: Case) -> Image:
    return read_image(case.id, case.channels, model.plan.channels)


def write(case: Case, mask: Label, output: Path) -> None:
    write_voxels(output / f"{case.id}.nii.gz", mask.voxels, mask.grid, like=case.channels[0].path)


def show(seconds: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in seconds)


if __name__ == "__main__":
    main()
