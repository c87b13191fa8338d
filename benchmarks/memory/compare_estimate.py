"""Predicted against measured memory of a training step, for every network.

Without a GPU: small sizes on the CPU, measured twice, by counting live storages and by the allocator's own record.
With one: for every budget the largest batch that the estimate lets in, trained for a few steps, against what the
CUDA allocator says.

    python benchmarks/memory/compare_estimate.py
    python benchmarks/memory/compare_estimate.py --networks unet unetr --budgets 8 24
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from autoseg.core.records import LossSettings, NetworkSettings
from autoseg.losses import build_loss
from autoseg.networks import NETWORKS, build_network, fit_settings
from autoseg.networks.memory import MemoryEstimate, estimate_training_memory
from autoseg.networks.metering import Meter

GB = 1e9
BUDGETS = (4, 8, 16, 24, 40, 80)
CHANNELS, CLASSES = 4, 3


@dataclass(frozen=True, kw_only=True)
class Task:
    """One network and one patch."""

    settings: NetworkSettings
    dimensions: int
    patch: tuple[int, ...]
    half: bool

    def estimate(self, batch: int) -> MemoryEstimate:
        return estimate_training_memory(
            self.settings,
            (batch, CHANNELS, *self.patch),
            output_channels=CLASSES,
            optimiser="sgd",
            half=self.half,
        )

    def build(self) -> torch.nn.Module:
        return build_network(
            self.settings, dimensions=self.dimensions, input_channels=CHANNELS, output_channels=CLASSES, seed=1
        )


def plan_task(name: str, dimensions: int, patch: tuple[int, ...], base: int, *, stages: int, **changes: bool) -> Task:
    """A topology with one anisotropic halving, features that double up to 320, and the usual blocks."""
    d = dimensions
    features = tuple(min(320, base * 2**i) for i in range(stages))
    if name == "unetr" and base >= 32:
        features = (*features[:-1], 768)
    settings = NetworkSettings(
        name=name,
        features=features,
        kernels=((1, 3, 3)[-d:], *((3,) * d,) * (stages - 1)),
        strides=((1,) * d, (1, 2, 2)[-d:], *((2,) * d,) * (stages - 2)),
        encoder_blocks=(1, 3, 4, 6, 6, 6)[:stages] if name == "residual_unet" else (2,) * stages,
        decoder_blocks=(1 if name == "residual_unet" else 2,) * (stages - 1),
        options={"checkpointing": True} if changes.get("checkpointing") else {},
    )
    fitted = fit_settings(settings, dimensions=d, patch=patch)
    return Task(settings=fitted, dimensions=d, patch=patch, half=bool(changes.get("half")))


class Step:
    """One step as the training loop takes it."""

    def __init__(self, task: Task, batch: int, device: torch.device) -> None:
        self.task, self.device = task, device
        self.network = task.build().to(device).train()
        # The CPU's default works weight by weight; a GPU's on all weights at once.
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), 1e-2, momentum=0.99, weight_decay=3e-5, nesterov=True, foreach=True
        )  # fmt: skip
        heads = len(task.settings.features) - 1
        weights = tuple(0.5**i for i in range(heads))
        self.loss = build_loss(LossSettings(deep_supervision_weights=weights))
        self.image = torch.randn((batch, CHANNELS, *task.patch), device=device)
        self.target = torch.randint(0, CLASSES, (batch, *task.patch), dtype=torch.int16, device=device)

    def __call__(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.task.half):
            outputs = self.network(self.image)
        loss = self.loss(outputs, self.target)
        loss.backward()
        del outputs, loss  # as in the training loop, before the weights move
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12.0)
        self.optimiser.step()

    def held(self) -> list[torch.Tensor]:
        """What lives between two steps."""
        states = [value for state in self.optimiser.state.values() for value in state.values()]
        tensors = [value for value in states if isinstance(value, torch.Tensor)]
        return [*self.network.parameters(), *self.network.buffers(), *tensors, self.image, self.target]


def measure_storages(step: Step) -> int:
    """Most bytes of live storages at once in the second step."""
    step()
    step.optimiser.zero_grad(set_to_none=True)
    meter = Meter()
    meter.hold(step.held())
    with meter:
        step()
    return meter.peak


def measure_allocator(step: Step) -> int:
    """Most bytes at once that the CPU's allocator gave out, workspaces of its kernels among them."""
    step()
    step.optimiser.zero_grad(set_to_none=True)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = sum(tensor.nbytes for tensor in step.held())
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def compare_on_cpu(names: list[str]) -> None:
    """Small patches, float32, batch 2."""
    print("| network | | checkpointing | predicted MB | storages MB | ratio | allocator MB | ratio | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    device = torch.device("cpu")
    for name in names:
        for dimensions, patch, base in ((2, (128, 96), 16), (3, (16, 48, 64), 16)):
            for checkpointing in (False, True):
                task = plan_task(name, dimensions, patch, base, stages=4, checkpointing=checkpointing)
                started = time.perf_counter()
                estimate = task.estimate(2)
                seconds = time.perf_counter() - started
                predicted = estimate.total - estimate.workspace
                storages = measure_storages(Step(task, 2, device))
                allocated = measure_allocator(Step(task, 2, device))
                print(
                    f"| {name} | {dimensions}D | {'yes' if checkpointing else 'no'} | {predicted / 1e6:.1f} "
                    f"| {storages / 1e6:.1f} | {predicted / storages:.3f} "
                    f"| {allocated / 1e6:.1f} | {predicted / allocated:.3f} | {seconds:.1f} |",
                    flush=True,
                )


def largest_batch(task: Task, budget: float, costs: dict[int, int]) -> int:
    """The largest batch that is predicted to fit; ``costs`` remembers the estimates of this task."""

    def cost(batch: int) -> int:
        if batch not in costs:
            costs[batch] = task.estimate(batch).total
        return costs[batch]

    low, high = 0, 1
    while cost(high) <= budget:
        low, high = high, 2 * high
    while high - low > 1:  # memory grows almost linearly, so the straight line between the two is a good guess
        guess = low + int((high - low) * (budget - cost(low)) / (cost(high) - cost(low)))
        middle = min(max(guess, low + 1), high - 1)
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low


def compare_on_gpu(names: list[str], budgets: list[float]) -> None:
    """Usual patches, mixed precision and float32, batches that fill each budget that this GPU has."""
    device = torch.device("cuda")
    total = torch.cuda.get_device_properties(device).total_memory
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    print(
        "| network | | precision | budget GB | batch | predicted GB | (workspace) | measured GB | ratio | first step |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        for dimensions, patch, stages in ((2, (256, 256), 6), (3, (64, 128, 128), 5)):
            for half in (True, False):
                task = plan_task(name, dimensions, patch, 32, stages=stages, half=half)
                costs: dict[int, int] = {}
                for budget in budgets:
                    batch = largest_batch(task, budget * GB, costs)
                    if batch and budget * GB < 0.95 * total:
                        _print_gpu_row(task, batch, budget, device)


def _print_gpu_row(task: Task, batch: int, budget: float, device: torch.device) -> None:
    estimate = task.estimate(batch)
    first = measured = float("nan")
    try:
        first, measured = measure_gpu(task, batch, device)
    except torch.OutOfMemoryError:
        measured = float("inf")
    torch.cuda.empty_cache()
    print(
        f"| {task.settings.name} | {task.dimensions}D | {'bf16' if task.half else 'fp32'} | {budget:g} | {batch} "
        f"| {estimate.total / GB:.2f} | {estimate.workspace / GB:.2f} | {measured / GB:.2f} "
        f"| {estimate.total / measured:.3f} | {first / GB:.2f} |",
        flush=True,
    )


def measure_gpu(task: Task, batch: int, device: torch.device) -> tuple[int, int]:
    """Most bytes that the CUDA allocator gave out: in the first step, which tries kernels, and in later ones."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        step = Step(task, batch, device)
        step()
        first = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(2):
            step()
        torch.cuda.synchronize(device)
        return first, torch.cuda.max_memory_allocated(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), metavar="GB")
    parser.add_argument("--cpu", action="store_true", help="measure on the CPU although there is a GPU")
    arguments = parser.parse_args()
    if torch.cuda.is_available() and not arguments.cpu:
        compare_on_gpu(arguments.networks, arguments.budgets)
    else:
        compare_on_cpu(arguments.networks)


if __name__ == "__main__":
    main()
