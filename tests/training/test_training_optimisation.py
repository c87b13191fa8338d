"""Learning rate, optimisers, precision and the moving average."""

import pytest
import torch
from torch import nn

from autoseg.core import devices
from autoseg.core.devices import choose_precision
from autoseg.core.records import OptimiserSettings, TrainingSettings
from autoseg.training import learning_rate
from autoseg.training.optimisation import build_optimiser, move_average


@pytest.mark.parametrize(
    ("settings", "progress", "rate"),
    [
        ({}, 0.0, 0.01),
        ({}, 0.5, 0.01 * 0.5**0.9),
        ({}, 1.0, 0.0),
        ({}, 1.2, 0.0),
        ({"schedule": "constant"}, 0.9, 0.01),
        ({"schedule": "cosine"}, 0.0, 0.01),
        ({"schedule": "cosine"}, 0.5, 0.005),
        ({"schedule": "cosine"}, 1.0, 0.0),
        ({"warmup_share": 0.2}, 0.0, 0.0),
        ({"warmup_share": 0.2}, 0.1, 0.005),
        ({"warmup_share": 0.2}, 0.2, 0.01),
        ({"warmup_share": 0.2}, 0.6, 0.01 * 0.5**0.9),
    ],
)
def test_learning_rate(settings, progress, rate):
    assert learning_rate(OptimiserSettings(**settings), progress) == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimisers_take_the_plans_numbers(name):
    settings = OptimiserSettings(name=name, learning_rate=0.02, momentum=0.8, weight_decay=0.001)
    group = build_optimiser([nn.Parameter(torch.ones(2))], settings).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.001)
    if name == "sgd":
        assert group["momentum"] == 0.8
        assert group["nesterov"]
    else:
        assert tuple(group["betas"]) == (0.8, 0.999)


def test_a_cpu_computes_in_float32_unless_it_has_bfloat16_and_the_plan_asks_for_it(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_precision(TrainingSettings(), cpu) is torch.float32
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda able=able: able)
        assert choose_precision(TrainingSettings(precision="bfloat16"), cpu) is expected


def test_average_starts_fast_and_slows_down():
    averaged = {"w": torch.zeros(1), "count": torch.tensor(0)}
    move_average(averaged, {"w": torch.ones(1), "count": torch.tensor(5)}, decay=0.9, step=1)
    assert averaged["w"].item() == pytest.approx(1 - 2 / 11)
    assert averaged["count"].item() == 5
    averaged["w"].zero_()
    move_average(averaged, {"w": torch.ones(1), "count": torch.tensor(6)}, decay=0.9, step=1000)
    assert averaged["w"].item() == pytest.approx(0.1)
