"""Trainings that stop, are killed or run out of memory, and resume; and trainings in several processes."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import Configuration, Plan, VerifiedLine
from autoseg.core.store import Store
from autoseg.folds.files import CHECKPOINT, read_history
from autoseg.model import WEIGHTS, fold_folder, read_weights
from autoseg.options import TrainOptions, command_line
from autoseg.pipeline.train import train
from autoseg.pipeline.verification.workplace import SMALL, Scale, Workplace
from autoseg.planning import price_step, reduce_memory
from autoseg.planning.pricing import describe_step

EPOCHS, STEPS = 2, 3
FOLD = "all"
STRAIGHT, PARTS = "straight", "parts"  # configurations to compare with
MAX_DIFFERENCE = 1e-2  # of weights on a GPU, in the largest weight: its kernels do not add in one order
MAX_LOSS_DIFFERENCE = 1e-2  # of one process and several, relative
WAIT_S, POLL_S = 900.0, 0.02  # for another process
PROGRAM = "import sys; from autoseg.pipeline.verification.recovery import train_until_killed as t; t(*sys.argv[1:])"
SHORT_SHARE = 0.5  # of a step's memory that a filled GPU leaves
LEAST_SAVING = 0.9  # of a step's memory that is needed after the first saving; more cannot be told from rounding


def verify_stopped(place: Workplace) -> list[VerifiedLine]:
    """A training that is stopped after a few steps and resumed, against one that is not."""
    name = "stopped"
    _prepare(place, name)
    calls = 0

    def should_stop() -> bool:
        nonlocal calls
        calls += 1  # after every step, and at the end of an epoch
        return calls == EPOCHS * STEPS - 1

    _train(place, name, restart=True, should_stop=should_stop)
    if (_folder(place, name) / WEIGHTS).exists():
        return [VerifiedLine(name=name, verdict="failed", result="the training did not stop", advice=_advice("stop"))]
    _train(place, name)
    return [_compare_weights(place, name, "stopped within the last epoch and resumed", _advice("a stop"))]


def verify_killed(place: Workplace) -> list[VerifiedLine]:
    """A training whose process is killed after its first checkpoint and resumed, against one that is not."""
    name = "killed"
    _prepare(place, name)
    _remove(place, name)
    arguments = [str(place.store.root), str(place.device), name]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], stderr=subprocess.PIPE, text=True, check=False, timeout=WAIT_S
    )
    folder = _folder(place, name)
    if (folder / WEIGHTS).exists() or not (folder / CHECKPOINT).exists():
        result = f"the process was not killed after its checkpoint: {_last_line(ended.stderr)}"
        return [VerifiedLine(name=name, verdict="failed", result=result, advice=_advice("a kill"))]
    _train(place, name)
    words = "killed after a checkpoint, as the system does without memory, and resumed"
    return [_compare_weights(place, name, words, _advice("a kill"))]


def train_until_killed(root: str, device: str, name: str) -> None:
    """Train as ``verify_killed`` compares, and kill this process in the second epoch, once a checkpoint is on disk."""

    def kill(done: int, total: int, what: str) -> None:
        deadline = time.monotonic() + WAIT_S / 2
        while ", epoch 2," in what and time.monotonic() < deadline:
            if checkpoint.exists():
                psutil.Process().kill()
            time.sleep(POLL_S)

    place = Workplace(store=Store(Path(root)), device=torch.device(device), scale=Scale(), progress=kill)
    checkpoint = _folder(place, name) / CHECKPOINT
    _train(place, name)


def verify_shortage(place: Workplace) -> list[VerifiedLine]:
    """On a GPU filled by other tensors: the message of a training, its resumption, and ``--fit``."""
    if place.device.type != "cuda":
        result = "the system kills a process without memory: see killed"
        return [VerifiedLine(name="out of memory", verdict="skipped", result=result)]
    plan = _prepare(place, "short", "fit")
    needed = _price(plan, plan.configurations[STRAIGHT])
    ballast = _fill(place, needed * SHORT_SHARE)
    try:
        _train(place, "short", restart=True)
        sentence = "the training needed less than half of the predicted memory, so it did not run out"
        return [VerifiedLine(name="short", verdict="skipped", result=sentence)]
    except MemoryShortageError as error:
        sentence = str(error)
    finally:
        del ballast
        torch.cuda.empty_cache()
    _train(place, "short")
    advice = "after a shortage, start again with --restart; report this line"
    return [_compare_weights(place, "short", f"resumed after: {sentence}", advice), _verify_fit(place, plan, needed)]


def _verify_fit(place: Workplace, plan: Plan, needed: float) -> VerifiedLine:
    """``--fit`` on a GPU that leaves less than a step needs, and more than it needs after the first saving."""
    reduced = reduce_memory(plan.configurations[STRAIGHT])
    least = needed if reduced is None else _price(plan, reduced[0])
    if least > LEAST_SAVING * needed:
        result = f"the first saving leaves {100 * least / needed:.0f} % of the memory, too much to try it"
        return VerifiedLine(name="fit", verdict="skipped", result=result)
    ballast = _fill(place, (needed + least) / 2)
    advice = "plan with less memory: autoseg_plan --memory GB"
    try:
        _train(place, "fit", restart=True, fit=True)
        share = f"{50 + 50 * least / needed:.0f} %"
        return _compare_weights(place, "fit", f"trained with --fit in {share} of the predicted memory", advice)
    except MemoryShortageError as error:
        return VerifiedLine(name="fit", verdict="failed", result=str(error), advice=advice)
    finally:
        del ballast
        torch.cuda.empty_cache()


def _price(plan: Plan, configuration: Configuration) -> float:
    """Predicted bytes of a training step in float32, without the device's own."""
    price = price_step(replace(describe_step(plan, configuration, plan.count_inputs("3d")), half=False))
    return price.weights + price.activations


def verify_devices(place: Workplace) -> list[VerifiedLine]:
    """``autoseg_train --devices N`` over all GPUs, or in two processes on the CPU, against one process."""
    count = _count_devices(place)
    if count == 1:
        return [VerifiedLine(name="several processes", verdict="skipped", result="torch sees one GPU")]
    plan = _prepare(place, "ranks")
    alone = plan.configurations[STRAIGHT]
    accumulated = alone.model_copy(update={"training": alone.training.model_copy(update={"accumulation": count})})
    place.add_configurations({PARTS: accumulated})
    _train(place, PARTS)
    _remove(place, "ranks")
    began = time.monotonic()
    ended = subprocess.run(
        _command(place, "ranks", devices=count), stderr=subprocess.PIPE, text=True, check=False, timeout=WAIT_S
    )
    seconds = time.monotonic() - began
    advice = f"train on one device, without --devices {count}; check with another program that NCCL works here"
    if ended.returncode:
        result = f"exit code {ended.returncode}: {_last_line(ended.stderr)}"
        return [VerifiedLine(name="several processes", verdict="failed", result=result, advice=advice)]
    expected, losses = (_read_losses(place, name) for name in (PARTS, "ranks"))
    difference = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(expected, losses, strict=True))
    is_good = difference <= MAX_LOSS_DIFFERENCE
    result = f"--devices {count}: losses differ by at most {difference:.1e} of one process's, {seconds:.0f} s in all"
    return [
        VerifiedLine(
            name="several processes",
            verdict="ok" if is_good else "failed",
            result=result,
            advice="" if is_good else advice,
            numbers={"difference": difference, "bound": MAX_LOSS_DIFFERENCE, "devices": count, "seconds": seconds},
        )
    ]


def _prepare(place: Workplace, *names: str) -> Plan:
    """The small plan with copies of its 3D configuration in float32 whose batches are made by the CPU."""
    base = place.plan_small().configurations["3d"]
    training = {"precision": "float32", "acceleration": "none", "stages": (), "time_budget_s": None}
    count = _count_devices(place)
    fixed: Configuration = base.model_copy(
        update={
            "batch_size": -(-base.batch_size // count) * count,
            "augmentation": base.augmentation.model_copy(update={"device": "cpu"}),
            "training": base.training.model_copy(update=training),
        }
    )
    return place.add_configurations(dict.fromkeys((STRAIGHT, *names), fixed))


def _count_devices(place: Workplace) -> int:
    """All GPUs; on the CPU two processes."""
    return 2 if place.on_cpu else torch.cuda.device_count() if place.device.type == "cuda" else 1


def _options(place: Workplace, name: str, **rest: object) -> TrainOptions:
    device = str(place.device) if rest.get("devices", 1) == 1 else place.device.type
    length = {"epochs": EPOCHS, "steps_per_epoch": STEPS}
    return TrainOptions(dataset=SMALL, configuration=name, fold=FOLD, device=device, **length, **rest)  # type: ignore[arg-type]


def _train(place: Workplace, name: str, *, should_stop: Callable[[], bool] = lambda: False, **rest: object) -> None:
    train(place.store, _options(place, name, **rest), should_stop=should_stop, progress=place.progress)


def _command(place: Workplace, name: str, **rest: object) -> list[str]:
    """The same training as a command line."""
    words: Sequence[str] = command_line(_options(place, name, **rest))
    return [sys.executable, "-m", "autoseg", "train", *words, "--root", str(place.store.root)]


def _folder(place: Workplace, name: str) -> Path:
    return fold_folder(place.store.results(SMALL, name), FOLD)


def _read_losses(place: Workplace, name: str) -> list[float]:
    """Mean loss of every epoch; NaN where it has none."""
    losses = [row["train_loss"] for row in read_history(_folder(place, name))]
    return [math.nan if loss is None else loss for loss in losses]


def _remove(place: Workplace, name: str) -> None:
    """Remove a model of an earlier call."""
    shutil.rmtree(place.store.results(SMALL, name), ignore_errors=True)


def _compare_weights(place: Workplace, name: str, words: str, advice: str) -> VerifiedLine:
    """The largest difference between the weights of a training and of an undisturbed one, in the largest weight."""
    _train(place, STRAIGHT)  # finished already, except for the first comparison
    expected, weights = (read_weights(_folder(place, trained) / WEIGHTS) for trained in (STRAIGHT, name))
    largest = max(float(tensor.abs().max()) for tensor in expected.values())
    difference = max(float((weights[key] - tensor).abs().max()) for key, tensor in expected.items()) / largest
    bound = 0.0 if place.on_cpu else MAX_DIFFERENCE
    is_good = difference <= bound
    equal = "the same weights, bit for bit" if difference == 0 else f"weights differ by {difference:.1e} of the largest"
    return VerifiedLine(
        name=name,
        verdict="ok" if is_good else "failed",
        result=f"{words}: {equal}",
        advice="" if is_good else advice,
        numbers={"difference": difference, "bound": bound} if math.isfinite(difference) else {},
    )


def _fill(place: Workplace, left: float) -> torch.Tensor:
    """A tensor that leaves so many bytes of the GPU."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(place.device)
    return torch.empty(max(int(free - left), 0), dtype=torch.uint8, device=place.device)


def _advice(event: str) -> str:
    return f"a training that resumes after {event} is another one here: do not resume, use --restart; report this line"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
