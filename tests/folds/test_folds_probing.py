"""Planned steps tried for real: measured beside predicted, and a smaller plan where memory runs out."""

import pytest
import torch

from autoseg.core.errors import MemoryShortageError
from autoseg.core.records import Fingerprint, TransferSettings
from autoseg.core.store import read_record
from autoseg.folds import probing
from autoseg.folds.data import time_step
from autoseg.folds.probing import choose_probe, plan_and_probe, probe_configuration
from autoseg.planning import DEVICE_GB, make_plan, price_step
from autoseg.training import ALONE

CPU = torch.device("cpu")


@pytest.fixture
def make(planned_template):
    """Budget -> a plan of the tiny dataset, and the budgets that were asked for."""
    path = planned_template / "autoseg_preprocessed" / "Tiny" / "fingerprint.json"
    fingerprint = read_record(Fingerprint, path, advice="")

    def plan(memory_gb):
        plan.budgets.append(memory_gb)
        return make_plan(fingerprint, preset="pocket", memory_gb=memory_gb, cost=price_step)

    plan.budgets = []
    return plan


def test_a_real_step_stands_beside_the_prediction(make):
    plan = plan_and_probe(make, 4.0, "cpu")
    assert make.budgets == [4.0]
    for name, facts in plan.memory.items():
        assert facts.device == "cpu"
        assert facts.measured_gb - DEVICE_GB == pytest.approx(facts.predicted_gb - DEVICE_GB, rel=0.1, abs=0.006)
        assert f"A real step took {facts.measured_gb:.2f} GB on cpu" in plan.reasons[f"{name}.memory"]


def test_a_training_that_begins_with_weights_is_tried_and_timed_like_any_other(make):
    plan = make(4.0)
    transfer = TransferSettings(source="a", weights="b", digest="c", mode="partial")
    begun = plan.configurations["2d"].model_copy(update={"transfer": transfer})
    with_transfer = plan.model_copy(update={"configurations": {**plan.configurations, "2d": begun}})
    measured = probe_configuration(with_transfer, "2d", CPU)
    assert measured == pytest.approx(probe_configuration(plan, "2d", CPU), abs=0.001)  # as if all of it learned
    assert time_step(with_transfer, "2d", CPU, ALONE) > 0


def test_a_shortage_plans_for_less_until_it_fits(make, monkeypatch):
    probes = []

    def short(plan, name, device):
        probes.append(plan.memory_gb)
        if plan.memory_gb > 3.3:
            raise MemoryShortageError(f"a training step of {name} does not fit")
        return 1.0

    monkeypatch.setattr(probing, "probe_configuration", short)
    plan = plan_and_probe(make, 4.0, "cpu")
    assert make.budgets == [4.0, 3.6, 3.24]
    assert plan.memory_gb == 3.24
    assert "4 GB were requested" in plan.reasons["memory_gb"]
    assert {facts.measured_gb for facts in plan.memory.values()} == {1.0}


def test_a_device_that_holds_nothing_is_an_error(make, monkeypatch):
    def refuse(*_, **__):
        raise MemoryShortageError("the GPU ran out of memory at step 1; plan for less")

    monkeypatch.setattr(probing, "probe_step", refuse)
    with pytest.raises(MemoryShortageError, match=r"not even a plan for 1\.9 GB fits cpu; free the memory of other"):
        plan_and_probe(make, 4.0, "cpu")
    assert len(make.budgets) == probing.ATTEMPTS


def test_the_configuration_that_does_not_fit_is_named(make, monkeypatch):
    def refuse(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(probing, "planned_network", refuse)
    with pytest.raises(MemoryShortageError, match="a training step of 3d does not fit cpu: CUDA out of memory"):
        probing.probe_configuration(make(4.0), "3d", CPU)


@pytest.mark.parametrize(
    ("wanted", "device", "found_gb", "chosen"),
    [
        (None, "auto", 24.0, "cuda"),
        (None, "auto", 7.0, None),
        (None, "auto", None, None),
        (None, "cpu", 24.0, None),
        (True, "auto", None, "cpu"),
        (True, "cpu", 24.0, "cpu"),
        (True, "auto", 7.0, "cuda"),
        (False, "auto", 24.0, None),
    ],
)
def test_a_gpu_that_the_plan_is_for_is_probed_unless_told_otherwise(wanted, device, found_gb, chosen):
    assert choose_probe(wanted, device, memory_gb=8.0, gpu_gb=found_gb) == chosen
