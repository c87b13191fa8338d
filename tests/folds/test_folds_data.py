"""Who makes the batches of a training, and what the log says of it."""

import logging
from functools import partial

import pytest
import torch

from autoseg.batches import Batches, StagedBatches
from autoseg.core.arrays import read_prepared
from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import MemoryFacts, Plan
from autoseg.core.store import read_record
from autoseg.folds import data, tasks
from autoseg.model import WEIGHTS
from autoseg.preparation import arrays_folder
from autoseg.training import ALONE

CPU = torch.device("cpu")


class Made:
    """Batches that know who makes them."""

    def __init__(self, by):
        self.by = by

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def choose(monkeypatch):
    """Choose with given seconds; gives who makes the batches."""

    def choose(cpu_s, gpu_s, time_network):
        monkeypatch.setattr(data, "time_batches", lambda batches, **_: {"cpu": cpu_s, "gpu": gpu_s}[batches.by])
        return data.choose_batches(lambda: Made("cpu"), lambda: Made("gpu"), time_network, CPU).by

    return choose


@pytest.fixture
def plan(planned):
    return read_record(Plan, planned / "autoseg_preprocessed" / "Tiny" / "plan.json", advice="")


@pytest.fixture
def cases(planned, plan):
    folder = arrays_folder(planned / "autoseg_preprocessed" / "Tiny", plan.configurations["3d"].preprocessing)
    return read_prepared(folder, ["case0", "case1", "case2"], advice="")


@pytest.mark.parametrize(("cpu_s", "chosen"), [(0.1, "cpu"), (0.9, "gpu")])
def test_a_timing_decides_and_is_told(choose, caplog, cpu_s, chosen):
    caplog.set_level(logging.INFO, logger="autoseg")
    assert choose(cpu_s, 0.05, lambda: 0.2) == chosen
    assert caplog.messages == [
        f"augmentation.device auto: a batch takes the CPU's threads {cpu_s:.3f} s and the GPU 0.050 s, and the "
        f"network's step 0.200 s, so batches are augmented on the {chosen.upper()}"
    ]


def test_where_the_gpu_has_no_room_the_threads_make_them(choose, caplog):
    def fail():
        raise MemoryShortageError("it is full")

    caplog.set_level(logging.INFO, logger="autoseg")
    assert choose(0.9, 0.05, fail) == "cpu"
    assert "no memory left for them: it is full" in caplog.text


def test_real_batches_and_a_real_network_are_timed(plan, cases, caplog):
    caplog.set_level(logging.INFO, logger="autoseg")
    make = partial(Batches, cases, plan.configurations["3d"], seed=1, workers=1)
    steps_s = []

    def time_step(*arguments):
        steps_s.append(data.time_step(plan, "3d", CPU, ALONE, *arguments))
        return steps_s[-1]

    with data.choose_batches(make, partial(make, device=CPU), time_step, CPU) as batches:
        image, _ = batches.batch(0)
    assert image.shape[1:] == (2, *plan.configurations["3d"].patch_size)
    assert "so batches are augmented on the" in caplog.text
    assert steps_s and min(steps_s) > 0  # of a real network


def test_a_step_takes_what_was_measured_or_predicted_or_the_whole_budget(plan):
    facts = MemoryFacts(predicted_gb=2.0, measured_gb=3.0)
    assert data.step_bytes(plan.model_copy(update={"memory": {"3d": facts}}), "3d") == 3e9
    facts = MemoryFacts(predicted_gb=2.0)
    assert data.step_bytes(plan.model_copy(update={"memory": {"3d": facts}}), "3d") == 2e9
    assert data.step_bytes(plan.model_copy(update={"memory": {}, "memory_gb": 5.0}), "3d") == 5e9


def test_a_training_is_fed_by_torch_as_by_the_loops(run, planned, monkeypatch):
    def feed(plan, name, cases, *, seed, device, ranks):
        options = {"ignore_label": plan.ignore_label, "share": (ranks.rank, ranks.world), "device": device}
        make = partial(Batches, seed=seed, workers=2, **options)
        return StagedBatches(cases, plan.configurations[name], make)

    monkeypatch.setattr(tasks, "open_batches", feed)
    argv = ("-d", "Tiny", "-c", "3d", "-f", "all", "--epochs", 1, "--steps-per-epoch", 3, "--device", "cpu")
    code, _, err = run("train", *argv, "--root", planned)
    assert code == 0, err
    assert (planned / "autoseg_results" / "Tiny" / "3d" / "fold_all" / WEIGHTS).exists()
