"""What a training step costs beyond the network: the whole loop against the bare step on a batch in memory.

Run from the root of the repository, on a dataset that is planned with preset pocket:

    .venv/bin/autoseg_import msd downloads/Task04_Hippocampus -d Hippocampus --root bench
    .venv/bin/autoseg_plan -d Hippocampus --preset pocket --root bench
    .venv/bin/python benchmarks/training/loop_overhead.py bench

The whole loop is ``train_fold`` with its threads that make batches, the averaged weights, a line of history and a
checkpoint on disk every few steps. The bare step is forward, loss, backward, clipping and optimiser, again and again on
one batch. The two take turns, so that a machine that changes its speed slows both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from autoseg.batches import Batches
from autoseg.core.arrays import read_prepared
from autoseg.core.background import BackgroundWriter
from autoseg.core.devices import keep_freed_memory
from autoseg.core.records import Configuration, Grid, Image, Label, Plan, PreparedCase
from autoseg.core.store import Store, write_bytes, write_text
from autoseg.losses import build_loss
from autoseg.model import planned_network
from autoseg.preparation import arrays_folder, read_folds, read_plan
from autoseg.preprocessing import prepare_case
from autoseg.training import Hooks, TrainingState, pack_checkpoint, train_fold
from autoseg.training.optimisation import build_optimiser

CPU = torch.device("cpu")
NAME = "3d"
NEEDED_GB = 2.0  # of either case's step, by the plan; twice as much must be free
EDGE = 96  # voxels, of the made case's patch
WARM_UP = 2  # steps before the clock is read
EPOCH = 10  # steps; the plan's 100 would write a tenth as often


def main() -> None:
    """Both cases, and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder with autoseg_preprocessed")
    parser.add_argument("-d", "--dataset", default="Hippocampus")
    parser.add_argument("--steps", type=int, default=20, help="of each turn (default 20)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both (default 3)")
    parser.add_argument("--cases", nargs="+", choices=("planned", "made"), default=("planned", "made"))
    args = parser.parse_args()
    torch.use_deterministic_algorithms(True)  # as autoseg_train does on a CPU
    store = Store(args.root)
    plan = read_plan(store, args.dataset)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    with keep_freed_memory(CPU, NEEDED_GB, share=1):  # as autoseg_train does, for both
        run(args, store, plan)


def run(args: argparse.Namespace, store: Store, plan: Plan) -> None:
    """The table."""
    print("| case | patch | batch | whole loop s | bare step s | ratio of each round | median ratio |")
    print("|---|---|---|---|---|---|---|")
    if "planned" in args.cases:
        folder = arrays_folder(store.preprocessed(args.dataset), plan.configurations[NAME].preprocessing)
        ids = read_folds(store, args.dataset).folds[0].train
        cases = read_prepared(folder, ids, advice=f"make them with: autoseg_plan -d {args.dataset} --keep")
        measure(args.dataset, plan, cases, args.steps, args.rounds)
    if "made" in args.cases:
        larger = enlarge(plan)
        measure(f"made, {EDGE}^3", larger, [make_case(larger.configurations[NAME])], args.steps, args.rounds)


def enlarge(plan: Plan) -> Plan:
    """The plan with a patch of ``EDGE`` voxels along each axis."""
    made = plan.configurations[NAME]
    size = (EDGE, EDGE, EDGE)
    tiling = made.tiling.model_copy(update={"tile_size": size})
    larger = made.model_copy(update={"patch_size": size, "tiling": tiling})
    return plan.model_copy(update={"configurations": {**plan.configurations, NAME: larger}})


def make_case(configuration: Configuration) -> PreparedCase:
    """A head of noise, 1 mm, larger than the patch, with a ball of each label."""
    shape = (EDGE + 32,) * 3
    rng = np.random.default_rng(1)
    channels = len(configuration.preprocessing.channels)
    image = rng.normal(100, 20, (channels, *shape)).astype(np.float32)
    label = np.zeros(shape, np.int16)
    grid = np.indices(shape)
    for value, centre in ((1, 48), (2, 80)):
        label[((grid - centre) ** 2).sum(0) < 12**2] = value
    where = Grid(shape=shape, spacing=(1.0, 1.0, 1.0))
    return prepare_case(
        "made", Image(voxels=image, grid=where), Label(voxels=label, grid=where), configuration.preprocessing
    )


def measure(title: str, plan: Plan, cases: Sequence[PreparedCase], steps: int, rounds: int) -> None:
    """One line of the table."""
    whole, bare = [], []
    for _ in range(rounds):
        whole.append(time_loop(plan, cases, steps))
        bare.append(time_bare(plan, cases, steps))
    ratios = [loop / step for loop, step in zip(whole, bare, strict=True)]
    configuration = plan.configurations[NAME]
    print(
        f"| {title} | {'x'.join(map(str, configuration.patch_size))} | {configuration.batch_size} | {min(whole):.4f} "
        f"| {min(bare):.4f} | {', '.join(f'{ratio:.3f}' for ratio in ratios)} | {statistics.median(ratios):.3f} |",
        flush=True,
    )


def time_loop(plan: Plan, cases: Sequence[PreparedCase], steps: int) -> float:
    """Seconds of a step of the whole loop, the mean over all but the first ones."""
    configuration = plan.configurations[NAME]
    marks: list[float] = []
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as name, BackgroundWriter() as writer, open_batches(plan, cases) as batches:
        folder = Path(name)

        def save(state: TrainingState) -> None:
            checkpoint, lines = state.capture(), "\n".join(rows)

            def write() -> None:
                write_text(folder / "history.jsonl", lines)
                write_bytes(folder / "checkpoint.pt", pack_checkpoint(checkpoint))

            writer.put(write)

        length = {"epochs": -(-(WARM_UP + steps) // EPOCH), "steps_per_epoch": EPOCH}
        training = configuration.training.model_copy(update=length)
        configuration = configuration.model_copy(update={"training": training})
        state = TrainingState.start(planned_network(plan, NAME, seed=plan.seed), configuration, seed=plan.seed)
        hooks = Hooks(
            on_epoch=lambda facts: rows.append(json.dumps(facts.to_row())),
            on_checkpoint=save,
            progress=lambda *_: marks.append(time.perf_counter()),
        )
        train_fold(state, configuration, batches, build_loss(configuration.loss), hooks=hooks)
    return (marks[WARM_UP + steps - 1] - marks[WARM_UP - 1]) / steps


def time_bare(plan: Plan, cases: Sequence[PreparedCase], steps: int) -> float:
    """Seconds of a step of the network alone, the mean over all but the first ones."""
    configuration = plan.configurations[NAME]
    network = planned_network(plan, NAME, seed=plan.seed).train()
    optimiser = build_optimiser(network.parameters(), configuration.optimiser)
    loss = build_loss(configuration.loss)
    with open_batches(plan, cases) as batches:
        image, target = batches.batch(0)
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss(network(image), target).backward()
        nn.utils.clip_grad_norm_(network.parameters(), configuration.optimiser.gradient_clip or float("inf"))
        optimiser.step()
    return (time.perf_counter() - began) / steps


def open_batches(plan: Plan, cases: Sequence[PreparedCase]) -> Batches:
    """Batches as ``autoseg_train`` opens them on a CPU."""
    return Batches(cases, plan.configurations[NAME], seed=(plan.seed, 0), workers=torch.get_num_threads())


if __name__ == "__main__":
    main()
